//! What the start frame says, and how an item becomes a message under it.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use prost::Message as _;
use prost::bytes::Bytes;
use prost_types::Struct;

use crate::api::convert::{self, Draft, Effort, Rendering};
use crate::api::fingerprint::{Fingerprint, Fingerprints};
use crate::api::pb::bulk_start::OnUnknown;
use crate::api::{pb, status};
use crate::dispatch::BulkItemId;
use crate::error::{Reason, SendError, Violations};
use crate::ledger::RunId;
use crate::limits::{UNARY_REQUEST_BYTES_MAX, UNARY_REQUEST_KIB_MAX};
use crate::message::{Action, Message, Options, check_together};
use crate::template::Template;

/// What items have unless they bring their own.
#[derive(Debug)]
pub(super) struct Plan {
    fingerprints: Fingerprints,
    action: Option<PlannedAction>,
    options: Option<PlannedOptions>,
    quick_reply_mapping: Option<pb::QuickReplyMapping>,
    /// Items are not sent after this.
    pub(super) deadline: Option<Instant>,
    /// Items that are on record as unknown are sent again, once in this run.
    pub(super) resend: Option<RunId>,
}

/// An item that was read.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) item_id: BulkItemId,
    pub(super) fingerprint: Fingerprint,
    pub(super) message: Result<Message, SendError>,
    /// Bytes of the message that it does not share with the other items.
    pub(super) own_bytes: usize,
}

/// An item of which nothing but the name is read.
#[derive(Clone, PartialEq, prost::Message)]
struct NamedItem {
    #[prost(string, tag = "1")]
    item_id: String,
}

impl Made {
    /// An item of which nothing but the name is read, because it is not sent. `None` if the bytes are no item.
    pub(super) fn unread(item: Bytes) -> Option<Self> {
        let error = SendError::new(Reason::Draining, "this replica is shutting down");
        Self::refused(item, error)
    }

    fn refused(item: Bytes, error: SendError) -> Option<Self> {
        let named = NamedItem::decode(item).ok()?;
        let item_id = status::echoed_id(&named.item_id).into();
        Some(Self { item_id, fingerprint: Fingerprint::default(), message: Err(error), own_bytes: 0 })
    }
}

#[derive(Debug)]
enum PlannedAction {
    /// No text prints a variable: all items share one action.
    Constant(Arc<Action>),
    Template(Draft<Template>),
}

#[derive(Clone, Debug)]
struct PlannedOptions {
    options: Arc<Options>,
    /// A missing variable is an error.
    is_strict: bool,
}

impl Plan {
    /// Reads the start; its action is compiled once, here.
    ///
    /// # Errors
    /// All violations of the start.
    pub(super) fn new(start: pb::BulkStart) -> Result<Self, SendError> {
        let fingerprints = Fingerprints::of_bulk(&start);
        let mut violations = Violations::default();
        convert::check_id(&start.bulk_id, &"start.bulk_id", &mut violations);
        let resend = resend(&start, &mut violations);
        let mapping = start.quick_reply_mapping;
        if mapping.as_ref().is_some_and(|mapping| mapping.content_type_variable.is_empty()) {
            violations.add("start.quick_reply_mapping.content_type_variable", "is required");
        }
        let options =
            start.options.map(|options| planned_options(Some(options), &"start.options", &mut violations));
        let action =
            start.action.and_then(|action| planned_action(action, mapping.is_some(), &mut violations));
        if let (Some(options), Some(PlannedAction::Constant(action))) = (&options, &action) {
            check_together(&options.options, action, &"start.options", &mut violations);
        }
        let deadline = start.expire_time.and_then(|expire_time| deadline(expire_time, &mut violations));
        if violations.is_empty() {
            Ok(Self { fingerprints, action, options, quick_reply_mapping: mapping, deadline, resend })
        } else {
            Err(violations.into_error())
        }
    }

    /// Reads one item, the `index`-th of its frame, and makes its message with this effort. `None` if the bytes are no
    /// item.
    pub(super) fn make(&self, item: Bytes, index: usize, effort: &Effort) -> Option<Made> {
        if item.len() > UNARY_REQUEST_BYTES_MAX {
            let description = format!("must not have more than {UNARY_REQUEST_KIB_MAX} KiB");
            return Made::refused(item, SendError::violation(format_args!("items[{index}]"), description));
        }
        let item = pb::BulkItem::decode(item).ok()?;
        let (item_id, fingerprint) =
            (status::echoed_id(&item.item_id).into(), self.fingerprints.of_item(&item));
        let message = self.message(item, index, effort);
        let own_bytes = message.as_ref().map_or(0, |message| self.own_bytes(message));
        Some(Made { item_id, fingerprint, message, own_bytes })
    }

    /// The message of an item, or all that is wrong with it.
    fn message(&self, item: pb::BulkItem, index: usize, effort: &Effort) -> Result<Message, SendError> {
        let at = format_args!("items[{index}]");
        let mut violations = Violations::default();
        if item.item_id.is_empty() {
            violations.add(format_args!("{at}.item_id"), "must not be empty");
        }
        convert::check_id(&item.item_id, &format_args!("{at}.item_id"), &mut violations);
        let recipient = convert::recipient(item.recipient, &format_args!("{at}.recipient"), &mut violations);
        let own_options = format_args!("{at}.options");
        let (planned, options_field) = match (item.options, &self.options) {
            (None, Some(planned)) => (planned.clone(), &"start.options" as &dyn fmt::Display),
            (own, _) => {
                (planned_options(own.map(|own| *own), &own_options, &mut violations), &own_options as _)
            }
        };
        let is_message = convert::is_message(item.action.as_ref().and_then(|action| action.kind.as_ref()));
        let action = self.action(
            item.action.map(|own| *own),
            item.variables,
            planned.is_strict,
            effort,
            &at,
            &mut violations,
        );
        match &action {
            Some(action) => check_together(&planned.options, action, options_field, &mut violations),
            None if is_message => planned.options.require_messaging_type(options_field, &mut violations),
            None => {}
        }
        match (recipient, action) {
            (Some(recipient), Some(action)) if violations.is_empty() => {
                Ok(Message { recipient, options: planned.options, action })
            }
            _ => Err(violations.into_error()),
        }
    }

    fn own_bytes(&self, message: &Message) -> usize {
        match &self.action {
            Some(PlannedAction::Constant(shared)) if Arc::ptr_eq(shared, &message.action) => 0,
            Some(_) | None => message.action.bytes(),
        }
    }

    fn action(
        &self,
        own: Option<pb::Action>,
        variables: Option<Struct>,
        is_strict: bool,
        effort: &Effort,
        at: &dyn fmt::Display,
        violations: &mut Violations,
    ) -> Option<Arc<Action>> {
        if let (None, Some(PlannedAction::Constant(action))) = (&own, &self.action) {
            return Some(action.clone());
        }
        let field = format_args!("{at}.variables");
        let quick_replies = match (&self.quick_reply_mapping, &variables) {
            (Some(mapping), Some(variables)) => {
                convert::mapped_quick_replies(mapping, variables, &field, violations)
            }
            (None, _) | (_, None) => Vec::new(),
        };
        let action =
            match (own, &self.action) {
                (None, Some(PlannedAction::Template(draft))) => {
                    Rendering::new(variables.unwrap_or_default(), is_strict, effort, &field, violations)?
                        .apply(draft, quick_replies, violations)
                }
                (own, _) => {
                    let rendering = match variables {
                        Some(variables) => {
                            Some(Rendering::new(variables, is_strict, effort, &field, violations)?)
                        }
                        None => None,
                    };
                    let kind = own.and_then(|action| action.kind);
                    convert::action(
                        kind,
                        &format_args!("{at}.action."),
                        rendering.as_ref(),
                        quick_replies,
                        violations,
                    )
                }
            };
        action.map(Arc::new)
    }
}

fn planned_options(
    options: Option<pb::SendOptions>,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> PlannedOptions {
    let is_strict = options.as_ref().is_some_and(|options| options.strict_variables);
    PlannedOptions { options: Arc::new(convert::options(options, field, violations)), is_strict }
}

fn planned_action(action: pb::Action, is_mapped: bool, violations: &mut Violations) -> Option<PlannedAction> {
    let draft = convert::draft(action.kind, &"start.action.", violations)?.compile(violations)?;
    if is_mapped || !draft.is_constant() {
        return Some(PlannedAction::Template(draft));
    }
    let effort = Effort::full();
    let rendering = Rendering::new(Struct::default(), false, &effort, &"start.action", violations)?;
    rendering.apply(&draft, Vec::new(), violations).map(|action| PlannedAction::Constant(Arc::new(action)))
}

/// The run that sends again what is on record as unknown, if that is asked for.
fn resend(start: &pb::BulkStart, violations: &mut Violations) -> Option<RunId> {
    convert::check_id(&start.run_id, &"start.run_id", violations);
    if start.on_unknown() != OnUnknown::Resend {
        return None;
    }
    if start.run_id.is_empty() {
        violations.add(
            "start.run_id",
            "is required with ON_UNKNOWN_RESEND: make up one for each decision to send again, and repeat it when the \
             stream is opened again",
        );
    }
    Some(RunId::of(&start.run_id))
}

fn deadline(expire_time: prost_types::Timestamp, violations: &mut Violations) -> Option<Instant> {
    match SystemTime::try_from(expire_time) {
        Ok(expire_time) => {
            let left = expire_time.duration_since(SystemTime::now()).unwrap_or_default();
            Instant::now().checked_add(left)
        }
        Err(_) => {
            violations.add("start.expire_time", "is not a time that can be represented");
            None
        }
    }
}
