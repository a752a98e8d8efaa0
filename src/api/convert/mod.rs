//! Protobuf to messages that may be sent. Finds every violation, and names each field by its path.

mod action;
pub mod json;
mod options;

pub use action::action;
pub use options::{options, recipient};

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Violations;
use crate::limits::ID_LENGTH_MAX;

/// What a request is told that asks for template variables.
pub const NO_TEMPLATING: &str = "template variables are not supported by this server: leave it unset";

/// Notes a violation of `field` if an id is too long or holds control characters.
pub fn check_id(id: &str, field: &str, violations: &mut Violations) {
    let length = id.chars().count();
    if length > ID_LENGTH_MAX {
        violations.add(field, format!("must not be longer than {ID_LENGTH_MAX} characters, has {length}"));
    }
    if id.chars().any(char::is_control) {
        violations.add(field, "must not hold control characters");
    }
}

/// A protobuf enum value, or `None` with a violation of `field` if this server does not know it.
fn enum_value<T: TryFrom<i32>>(value: i32, field: &str, violations: &mut Violations) -> Option<T> {
    let known = T::try_from(value).ok();
    if known.is_none() {
        violations.add(field, format!("{value} is not a value that this server knows"));
    }
    known
}

/// A point in time as protobuf has it.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX),
        nanos: since_epoch.subsec_nanos() as i32,
    }
}

#[cfg(test)]
mod tests;
