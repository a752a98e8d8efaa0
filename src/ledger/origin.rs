//! Which Graph the records are of: what one Graph has taken, another one has not.

use super::error::{LedgerError, Result};

/// The Graph that this process sends to, and what to do with the records of another one.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// Its host and port; `None` for whoever sends nothing.
    pub(super) origin: Option<String>,
    /// Take the records of another one for this one's.
    pub(super) adopts: bool,
}

impl Origin {
    /// What to put on record in place of what is known; `None` if nothing changes.
    ///
    /// # Errors
    /// If the records are of another Graph.
    pub(super) fn settle(&self, known: Option<&str>) -> Result<Option<&str>> {
        let Some(ours) = self.origin.as_deref().filter(|ours| known != Some(ours)) else { return Ok(None) };
        match known {
            Some(known) if !self.adopts => Err(LedgerError::passing(format!(
                "its records are of the graph at {known}, and this service sends to {ours}: what the one has taken, the \
                 other has not. Name another ledger with --ledger; or, if both addresses lead to the same graph, start \
                 with --ledger-adopt"
            ))),
            _ => Ok(Some(ours)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_another_graph_are_refused_unless_they_are_adopted() {
        let origin = |origin: &str, adopts| Origin { origin: Some(origin.to_owned()), adopts };
        let table = [
            (Origin::default(), Some("a:443"), Ok(None)),
            (origin("a:443", false), None, Ok(Some("a:443"))),
            (origin("a:443", false), Some("a:443"), Ok(None)),
            (origin("b:443", true), Some("a:443"), Ok(Some("b:443"))),
        ];
        for (origin, known, expected) in table {
            assert_eq!(origin.settle(known), expected, "{origin:?} {known:?}");
        }
        let error = origin("b:443", false).settle(Some("a:443")).unwrap_err().to_string();
        assert!(
            error.contains("a:443") && error.contains("b:443") && error.contains("--ledger-adopt"),
            "{error}"
        );
    }
}
