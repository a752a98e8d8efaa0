//! Protobuf to messages that may be sent. Finds every violation, and names each field by its path.
//!
//! An action is read into a [`Draft`], its texts are rendered if it has variables, and its rules are checked last, on
//! what would be sent.

mod compose;
mod draft;
mod json;
mod options;
mod read;
mod variables;

pub use draft::Draft;
pub use options::{options, recipient};
pub use read::draft;
pub use variables::mapped_quick_replies;

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::{Struct, Timestamp};

use super::pb::action::Kind;
use crate::error::Violations;
use crate::limits::{ID_LENGTH_MAX, LIGHT_STEPS_MAX, MESSAGE_STEPS_MAX};
use crate::message::{Action, QuickReply};
use crate::template::{Date, RenderOptions, Variables};

/// What is left of the steps that making one message may take.
#[derive(Debug)]
pub struct Effort {
    steps: u64,
    steps_left: Cell<u64>,
}

impl Effort {
    /// So much work may be done where the request came in.
    pub fn light() -> Self {
        Self { steps: LIGHT_STEPS_MAX, steps_left: Cell::new(LIGHT_STEPS_MAX) }
    }

    /// As much as a message may take.
    pub fn full() -> Self {
        Self { steps: MESSAGE_STEPS_MAX, steps_left: Cell::new(MESSAGE_STEPS_MAX) }
    }

    /// Steps that were taken.
    pub fn steps_taken(&self) -> u64 {
        self.steps - self.steps_left.get()
    }

    /// Whether it was not enough: what the message breaks tells nothing then.
    pub fn is_exceeded(&self) -> bool {
        self.steps_left.get() == 0
    }

    /// Does some work with what is left.
    fn spend<T>(&self, work: impl FnOnce(&mut u64) -> T) -> T {
        let mut steps = self.steps_left.get();
        let done = work(&mut steps);
        self.steps_left.set(steps);
        done
    }
}

/// What the texts of one action are rendered with.
#[derive(Debug)]
pub struct Rendering<'a> {
    variables: Variables,
    options: RenderOptions,
    effort: &'a Effort,
}

impl<'a> Rendering<'a> {
    /// Reads template variables. `field` is their path; in strict mode a missing one is an error.
    pub fn new(
        variables: Struct,
        is_strict: bool,
        effort: &'a Effort,
        field: &dyn fmt::Display,
        violations: &mut Violations,
    ) -> Option<Self> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since_epoch.as_millis()).ok().and_then(Date::from_epoch_ms)?;
        let variables = effort.spend(|steps| variables::variables(variables, steps, field, violations))?;
        Some(Self { variables, options: RenderOptions { strict: is_strict, now }, effort })
    }

    /// Renders a compiled action and checks its rules. `quick_replies` come after the action's own.
    pub fn apply(
        &self,
        draft: &Draft<crate::template::Template>,
        quick_replies: Vec<QuickReply>,
        violations: &mut Violations,
    ) -> Option<Action> {
        let rendered =
            self.effort.spend(|steps| draft.render(&self.variables, &self.options, steps, violations));
        rendered?.check(quick_replies, violations)
    }
}

/// Reads, renders and checks one action; without a rendering its texts are literal. `at` is the path of the message that
/// holds the action's field, with its final dot, and empty in a unary request. `quick_replies` come after the action's
/// own.
pub fn action(
    action: Option<Kind>,
    at: &dyn fmt::Display,
    rendering: Option<&Rendering<'_>>,
    quick_replies: Vec<QuickReply>,
    violations: &mut Violations,
) -> Option<Action> {
    let draft = draft(action, at, violations)?;
    match rendering {
        None => draft.check(quick_replies, violations),
        Some(rendering) => rendering.apply(&draft.compile(violations)?, quick_replies, violations),
    }
}

/// True if an action is given and is a message, not a sender action.
pub fn is_message(action: Option<&Kind>) -> bool {
    action.is_some_and(|kind| !matches!(kind, Kind::SenderAction(_)))
}

/// Notes a violation of `field` if an id is too long or holds control characters.
pub fn check_id(id: &str, field: &dyn fmt::Display, violations: &mut Violations) {
    let length = id.chars().count();
    if length > ID_LENGTH_MAX {
        violations.add(field, format!("must not be longer than {ID_LENGTH_MAX} characters, has {length}"));
    }
    if id.chars().any(char::is_control) {
        violations.add(field, "must not hold control characters");
    }
}

/// A protobuf enum value, or `None` with a violation of `field` if this server does not know it.
fn enum_value<T: TryFrom<i32>>(
    value: i32,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Option<T> {
    let known = T::try_from(value).ok();
    if known.is_none() {
        violations.add(field, format!("{value} is not a value that this server knows"));
    }
    known
}

/// A point in time as protobuf has it.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: since_epoch.subsec_nanos() as i32,
    }
}

#[cfg(test)]
mod tests;
