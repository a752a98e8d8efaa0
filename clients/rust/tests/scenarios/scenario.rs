//! What a scenario says; `clients/README.md` has the words.

use std::collections::BTreeMap;

use messenger_connector_client::{MessengerError, v1};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenarios {
    pub(crate) calls: Vec<CallScenario>,
    pub(crate) tries: Vec<TryScenario>,
    pub(crate) bulks: Vec<BulkScenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallScenario {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) service: Service,
    #[serde(default)]
    pub(crate) connect: Connect,
    pub(crate) calls: Vec<Call>,
    pub(crate) delivered: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TryScenario {
    pub(crate) name: String,
    pub(crate) answers: Vec<TryAnswer>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) within_ms: Option<u64>,
    pub(crate) tries: Option<usize>,
    pub(crate) receipt: Option<ExpectedReceipt>,
    pub(crate) error: Option<ExpectedError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TryAnswer {
    pub(crate) code: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) receipt: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkScenario {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) service: Service,
    pub(crate) start: Value,
    pub(crate) rounds: u64,
    pub(crate) items: Vec<ItemOfRound>,
    #[serde(default)]
    pub(crate) filler_bytes: usize,
    pub(crate) delivered: Option<u64>,
    pub(crate) ahead_max: Option<u64>,
    pub(crate) or_state_max: Option<u64>,
    pub(crate) restart: Option<Restart>,
    pub(crate) cancel_after_results: Option<u64>,
    pub(crate) error: Option<ExpectedError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// `None`: there is no service.
    #[serde(default = "no_arguments")]
    pub(crate) serve: Option<Vec<String>>,
    /// `None`: there is no sandbox.
    #[serde(default = "no_arguments")]
    pub(crate) sandbox: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
}

#[expect(clippy::unnecessary_wraps, reason = "a field that is not there differs from null")]
fn no_arguments() -> Option<Vec<String>> {
    Some(Vec::new())
}

impl Default for Service {
    fn default() -> Self {
        Self {
            serve: no_arguments(),
            sandbox: no_arguments(),
            environment: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    pub(crate) key: Option<String>,
    pub(crate) tls: Option<TlsFiles>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<String>,
    pub(crate) certificate: Option<String>,
    pub(crate) key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) request: Value,
    #[serde(default)]
    pub(crate) request_id_of_error: bool,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) within_ms: Option<u64>,
    #[serde(default)]
    pub(crate) background: bool,
    #[serde(default)]
    pub(crate) cancel_when_delivered: bool,
    /// The signal.
    pub(crate) restart_when_delivered: Option<String>,
    pub(crate) receipt: Option<ExpectedReceipt>,
    pub(crate) preview: Option<ExpectedPreview>,
    pub(crate) error: Option<ExpectedError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedReceipt {
    pub(crate) has_message_id: bool,
    pub(crate) recipient_id: String,
    pub(crate) replayed: bool,
    pub(crate) attempts: i32,
}

impl ExpectedReceipt {
    pub(crate) fn check(&self, receipt: &v1::Receipt) {
        assert_eq!(!receipt.message_id.is_empty(), self.has_message_id, "{receipt:?}");
        assert_eq!(receipt.recipient_id, self.recipient_id, "{receipt:?}");
        assert_eq!((receipt.replayed, receipt.attempts), (self.replayed, self.attempts), "{receipt:?}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedPreview {
    pub(crate) url_end: String,
    pub(crate) body_contains: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedError {
    pub(crate) code: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) retryable: Option<bool>,
    pub(crate) graph: Option<ExpectedGraphError>,
    pub(crate) violated_fields: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) has_retry_after: bool,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedGraphError {
    pub(crate) code: i32,
    pub(crate) subcode: i32,
}

impl ExpectedError {
    pub(crate) fn check(self, error: &MessengerError) {
        assert!(!error.message.is_empty(), "{error:?}");
        if let Some(code) = self.code {
            // `AlreadyExists` for ALREADY_EXISTS.
            assert_eq!(format!("{:?}", error.code).to_uppercase(), code.replace('_', ""), "{error:?}");
        }
        if let Some(reason) = self.reason {
            assert_eq!(error.reason.as_str_name(), reason, "{error:?}");
        }
        if let Some(retryable) = self.retryable {
            assert_eq!(error.retryable, retryable, "{error:?}");
        }
        if let Some(expected) = self.graph {
            let graph = error.graph.as_ref().unwrap();
            assert_eq!((graph.code, graph.subcode), (expected.code, expected.subcode), "{error:?}");
        }
        assert!(!self.has_retry_after || error.retry_after.is_some(), "{error:?}");
        if let Some(mut expected) = self.violated_fields {
            let mut fields: Vec<_> = error.violations.iter().map(|violation| &violation.field).collect();
            fields.sort();
            expected.sort();
            assert_eq!(fields, expected.iter().collect::<Vec<_>>(), "{error:?}");
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemOfRound {
    pub(crate) item: Value,
    /// Without it the item gets no result.
    pub(crate) state: Option<String>,
    pub(crate) or_state: Option<String>,
    pub(crate) reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    pub(crate) signal: String,
    pub(crate) when_delivered: u64,
}
