//! Faults that concern all calls, set while the sandbox runs: `POST /sandbox/faults`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::graph_error::GraphError;

/// What the sandbox is told to do to every call.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Script {
    /// Every token is answered 190.
    pub(crate) token_invalid: bool,
    /// The percentage the usage header shows.
    pub(crate) usage_percent: Option<u8>,
    /// Minutes until access returns, as the usage header of a throttled send shows them.
    pub(crate) regain_minutes: u32,
    /// Every send is answered 80006.
    pub(crate) throttle_all: bool,
    /// Every send is answered with this error.
    pub(crate) fail_all: Option<FailAll>,
    /// Replaces the latency the sandbox was started with, in milliseconds.
    pub(crate) latency_ms: Option<u64>,
    /// Calls are carried out and never answered.
    pub(crate) stall_all: bool,
}

/// An error for every send.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailAll {
    code: i64,
    subcode: Option<i64>,
}

impl Script {
    /// This script with `changes`: members that are named are set, `null` unsets, others stay.
    ///
    /// # Errors
    ///
    /// A text for the caller if a member is unknown or has a wrong type.
    pub(crate) fn with(&self, changes: Map<String, Value>) -> Result<Self, String> {
        let mut members = match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            Ok(_) | Err(_) => Map::new(),
        };
        for (name, value) in changes {
            if value.is_null() {
                members.remove(&name);
            } else {
                members.insert(name, value);
            }
        }
        let script: Self =
            serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())?;
        match script.usage_percent {
            Some(percent) if percent > 100 => Err("usage_percent is at most 100".to_owned()),
            Some(_) | None => Ok(script),
        }
    }

    /// The error every send gets, if one is scripted.
    pub(crate) fn sending_error(&self) -> Option<GraphError> {
        if self.throttle_all {
            return Some(GraphError::known(80006, None));
        }
        self.fail_all.map(|error| GraphError::known(error.code, error.subcode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn changes_add_up_and_null_unsets() {
        let script = Script::default();
        let script = script.with(changes(r#"{"throttle_all":true,"usage_percent":90}"#)).unwrap();
        let script = script.with(changes(r#"{"fail_all":{"code":551}}"#)).unwrap();
        assert!(script.throttle_all);
        let script = script.with(changes(r#"{"throttle_all":null}"#)).unwrap();
        assert_eq!(script.usage_percent, Some(90));
        assert_eq!(script.sending_error().map(|error| error.code), Some(551));
    }

    #[test]
    fn mistakes_are_named() {
        for json in [r#"{"usage_percent":101}"#, r#"{"trottle_all":true}"#, r#"{"fail_all":551}"#] {
            assert!(Script::default().with(changes(json)).is_err(), "{json}");
        }
    }
}
