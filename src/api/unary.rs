//! A unary request: what the four have in common, and how it becomes a message.

use std::sync::Arc;

use super::convert::{self, Effort, Rendering};
use super::fingerprint::{self, Fingerprint};
use super::pb::{self, action::Kind};
use crate::error::{SendError, Violations};
use crate::ledger::{Claim, Key};
use crate::message::{Message, check_together};

/// The fields that the four unary requests share, and the one in which they differ.
pub(super) struct UnaryRequest {
    pub(super) request_id: String,
    pub(super) page_id: String,
    pub(super) recipient: Option<pb::Recipient>,
    pub(super) options: Option<pb::SendOptions>,
    pub(super) kind: Option<Kind>,
    pub(super) template_variables: Option<prost_types::Struct>,
    pub(super) validate_only: bool,
}

/// A request that was read.
#[derive(Debug)]
pub(super) struct Made {
    request_id: String,
    fingerprint: Fingerprint,
    pub(super) page_id: String,
    pub(super) validate_only: bool,
    pub(super) message: Result<Message, SendError>,
}

impl Made {
    /// Names the message in the ledger, if it has an id.
    pub(super) fn claim(&self, page_id: &str) -> Option<Claim> {
        let key = Key { page_id: page_id.into(), bulk_id: "".into(), id: self.request_id.as_str().into() };
        let claim = Claim { key, fingerprint: self.fingerprint, resend: None };
        (!self.request_id.is_empty()).then_some(claim)
    }
}

impl UnaryRequest {
    /// Makes the message, with this effort.
    pub(super) fn make(self, effort: &Effort) -> Made {
        let fingerprint = if self.request_id.is_empty() {
            Fingerprint::default()
        } else {
            fingerprint::of_unary(
                self.recipient.as_ref(),
                self.options.as_ref(),
                self.kind.as_ref(),
                self.template_variables.as_ref(),
            )
        };
        Made {
            request_id: self.request_id.clone(),
            fingerprint,
            page_id: self.page_id.clone(),
            validate_only: self.validate_only,
            message: self.into_message(effort),
        }
    }

    /// Checks a request as a whole.
    fn into_message(self, effort: &Effort) -> Result<Message, SendError> {
        let mut violations = Violations::default();
        convert::check_id(&self.request_id, &"request_id", &mut violations);
        let is_message = convert::is_message(self.kind.as_ref());
        let is_strict = self.options.as_ref().is_some_and(|options| options.strict_variables);
        let recipient = convert::recipient(self.recipient, &"recipient", &mut violations);
        let options = convert::options(self.options, &"options", &mut violations);
        let action = match self.template_variables {
            None => convert::action(self.kind, &"", None, Vec::new(), &mut violations),
            Some(variables) => {
                let rendering =
                    Rendering::new(variables, is_strict, effort, &"template_variables", &mut violations);
                rendering.and_then(|rendering| {
                    convert::action(self.kind, &"", Some(&rendering), Vec::new(), &mut violations)
                })
            }
        };
        match &action {
            Some(action) => check_together(&options, action, &"options", &mut violations),
            // So that an invalid action hides no other violation.
            None if is_message => options.require_messaging_type(&"options", &mut violations),
            None => {}
        }
        match (recipient, action) {
            (Some(recipient), Some(action)) if violations.is_empty() => {
                Ok(Message { recipient, options: Arc::new(options), action: Arc::new(action) })
            }
            _ => Err(violations.into_error()),
        }
    }
}
