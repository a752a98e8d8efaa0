//! google.protobuf.Struct as template variables.

use std::fmt;

use prost_types::value::Kind;
use prost_types::{Struct, Value as PbValue};

use crate::api::pb;
use crate::error::Violations;
use crate::message::{self, ContentType, QuickReply};
use crate::template::{DATE_KEY, Date, Map, Number, Value, Variables};

/// Reads template variables. `field` is the path of the structure.
pub(super) fn variables(
    variables: Struct,
    steps: &mut u64,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Option<Variables> {
    let entries = variables.fields.into_iter().map(|(name, entry)| (name, value(entry)));
    let variables = Variables::from_entries_within(entries, steps);
    variables.map_err(|error| violations.add(field, error.to_string())).ok()
}

/// A value. Numbers that are none (NaN, infinity) count as missing.
fn value(value: PbValue) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::from(text),
        Some(Kind::ListValue(list)) => {
            Value::from(list.values.into_iter().map(self::value).collect::<Vec<_>>())
        }
        Some(Kind::StructValue(object)) => date(&object).map_or_else(|| map(object), Value::Date),
    }
}

fn map(object: Struct) -> Value {
    Value::from(Map::from_entries(object.fields.into_iter().map(|(key, entry)| (key, value(entry)))))
}

/// Protobuf's values have no dates: an object with the only key `$date` and milliseconds since 1970 stands for one.
fn date(object: &Struct) -> Option<Date> {
    let value = object.fields.get(DATE_KEY).filter(|_| object.fields.len() == 1)?;
    match value.kind {
        Some(Kind::NumberValue(epoch_ms)) => Date::from_epoch_ms(epoch_ms as i64),
        _ => None,
    }
}

/// Makes quick replies from array variables, the n-th values together making the n-th one. Every variable that the
/// mapping names must be an array, and all of the same length; if none of them is there, there are no quick replies.
/// `field` is the path of the variables.
pub fn mapped_quick_replies(
    mapping: &pb::QuickReplyMapping,
    variables: &Struct,
    field: &dyn fmt::Display,
    violations: &mut Violations,
) -> Vec<QuickReply> {
    let before = violations.len();
    let mut array = |name: &str| -> Option<Vec<String>> {
        let value = variables.fields.get(name).filter(|_| !name.is_empty())?;
        match &value.kind {
            Some(Kind::ListValue(list)) => {
                Some(list.values.iter().map(|entry| self::value(entry.clone()).to_string()).collect())
            }
            _ => {
                violations
                    .add(format_args!("{field}.{name}"), "must be an array: quick replies are made of it");
                None
            }
        }
    };
    let content_types = array(&mapping.content_type_variable);
    let others = [&mapping.title_variable, &mapping.payload_variable, &mapping.image_url_variable]
        .map(|name| (name, array(name)));
    if content_types.is_none() && others.iter().all(|(_, array)| array.is_none()) {
        return Vec::new();
    }
    let content_types = content_types.unwrap_or_default();
    message::check_quick_reply_count(content_types.len(), field, violations);
    for (name, array) in &others {
        let count = array.as_ref().map_or(0, Vec::len);
        if !name.is_empty() && count != content_types.len() {
            violations.add(
                format_args!("{field}.{name}"),
                format!(
                    "must be as long as {} ({}), has {count}",
                    mapping.content_type_variable,
                    content_types.len()
                ),
            );
        }
    }
    if violations.len() > before {
        return Vec::new();
    }
    let [titles, payloads, image_urls] = others.map(|(_, array)| array.unwrap_or_default());
    let at = |array: &[String], index: usize| array.get(index).cloned().unwrap_or_default();
    let mut quick_replies = Vec::with_capacity(content_types.len());
    for (index, name) in content_types.iter().enumerate() {
        let Some(content_type) = ContentType::from_name(name) else {
            let field = format!("{field}.{}[{index}]", mapping.content_type_variable);
            violations.add(field, "must be text, user_phone_number, user_email or location");
            continue;
        };
        let quick_reply = QuickReply {
            content_type,
            title: at(&titles, index),
            payload: at(&payloads, index),
            image_url: at(&image_urls, index),
        };
        quick_reply.check(&format_args!("{field}[{index}]"), violations);
        quick_replies.push(quick_reply);
    }
    quick_replies
}
