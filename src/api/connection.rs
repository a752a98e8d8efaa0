//! What a connection is used for: its calls tell, and the port that has it goes by that when it must give some up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::CONNECTION_PROBES_MAX;

/// The calls of one connection.
#[derive(Debug)]
pub struct ConnectionUse(Mutex<State>);

#[derive(Debug)]
struct State {
    calls: usize,
    /// Of these, the health checks.
    probes: usize,
    has_caller: bool,
    idle_since: Instant,
}

/// How a connection is used at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has calls under way.
    Active,
    /// It has none.
    Idle {
        /// Since when.
        since: Instant,
        /// Whether a caller with the credentials that are asked for ever made a call over it.
        has_caller: bool,
    },
}

/// A call that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct ActiveCall {
    connection: Arc<ConnectionUse>,
    is_probe: bool,
}

impl ConnectionUse {
    /// A connection that has just been opened.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(State { calls: 0, probes: 0, has_caller: false, idle_since: now }))
    }

    /// How it is used at the moment.
    pub fn standing(&self) -> Standing {
        let State { calls, has_caller, idle_since, .. } = *self.state();
        if calls > 0 { Standing::Active } else { Standing::Idle { since: idle_since, has_caller } }
    }

    /// A call of a caller begins.
    pub(crate) fn begin_call(self: &Arc<Self>) -> ActiveCall {
        let mut state = self.state();
        state.calls += 1;
        state.has_caller = true;
        ActiveCall { connection: self.clone(), is_probe: false }
    }

    /// A health check begins; `None` if too many are under way.
    pub(crate) fn begin_probe(self: &Arc<Self>) -> Option<ActiveCall> {
        let mut state = self.state();
        if state.probes == CONNECTION_PROBES_MAX {
            return None;
        }
        state.calls += 1;
        state.probes += 1;
        Some(ActiveCall { connection: self.clone(), is_probe: true })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.calls -= 1;
        state.probes -= usize::from(self.is_probe);
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_without_calls_and_remembers_callers() {
        let opened = Instant::now();
        let connection = Arc::new(ConnectionUse::new(opened));
        assert_eq!(connection.standing(), Standing::Idle { since: opened, has_caller: false });
        let probes: Vec<_> = (0..CONNECTION_PROBES_MAX).map(|_| connection.begin_probe().unwrap()).collect();
        assert!(connection.begin_probe().is_none());
        assert_eq!(connection.standing(), Standing::Active);
        drop(probes);
        assert!(matches!(connection.standing(), Standing::Idle { has_caller: false, .. }));
        let (first, second) = (connection.begin_call(), connection.begin_call());
        drop(first);
        assert_eq!(connection.standing(), Standing::Active);
        drop(second);
        assert!(
            matches!(connection.standing(), Standing::Idle { has_caller: true, since } if since >= opened)
        );
        assert!(connection.begin_probe().is_some());
    }
}
