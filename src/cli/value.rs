//! JSON values as protobuf has them.

use std::fmt;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Map;

/// Levels of arrays and objects that a variable may have. A protobuf reader gives up at 100 nested messages; each
/// level takes up to three.
const DEPTH_MAX: usize = 20;
/// Largest integer up to which a protobuf number, a double, is exact.
const EXACT_INTEGER_MAX: u64 = 1 << 53;

/// A value has more than `DEPTH_MAX` levels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "has more than {DEPTH_MAX} levels of arrays and objects")
    }
}

impl std::error::Error for TooDeep {}

/// A JSON object as a protobuf struct. Integers that a protobuf number cannot hold exactly become strings: they
/// render alike.
///
/// # Errors
/// If it is nested too deeply.
pub(super) fn to_struct(object: Map<String, serde_json::Value>) -> Result<Struct, TooDeep> {
    struct_at(object, DEPTH_MAX)
}

/// A string.
pub(super) fn string(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

fn struct_at(object: Map<String, serde_json::Value>, depth: usize) -> Result<Struct, TooDeep> {
    let depth = depth.checked_sub(1).ok_or(TooDeep)?;
    let fields = object.into_iter().map(|(name, value)| Ok((name, value_at(value, depth)?)));
    Ok(Struct { fields: fields.collect::<Result<_, TooDeep>>()? })
}

fn value_at(value: serde_json::Value, depth: usize) -> Result<Value, TooDeep> {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(number) => number_kind(&number),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(values) => {
            let depth = depth.checked_sub(1).ok_or(TooDeep)?;
            let values = values.into_iter().map(|value| value_at(value, depth));
            Kind::ListValue(ListValue { values: values.collect::<Result<_, TooDeep>>()? })
        }
        serde_json::Value::Object(object) => Kind::StructValue(struct_at(object, depth)?),
    };
    Ok(Value { kind: Some(kind) })
}

fn number_kind(number: &serde_json::Number) -> Kind {
    let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    match (magnitude, number.as_f64()) {
        (Some(magnitude), _) if magnitude > EXACT_INTEGER_MAX => Kind::StringValue(number.to_string()),
        (_, Some(double)) => Kind::NumberValue(double),
        (_, None) => Kind::StringValue(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use messenger_connector_client::v1;

    fn object(value: serde_json::Value) -> Map<String, serde_json::Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn numbers_keep_their_digits() {
        let cases = [
            (json!({"n": 7}), Kind::NumberValue(7.0)),
            (json!({"n": -1.5}), Kind::NumberValue(-1.5)),
            (json!({"n": 9_007_199_254_740_992_u64}), Kind::NumberValue(9_007_199_254_740_992.0)),
            (json!({"n": 9_007_199_254_740_993_u64}), Kind::StringValue("9007199254740993".to_owned())),
            (json!({"n": i64::MIN}), Kind::StringValue("-9223372036854775808".to_owned())),
        ];
        for (json, expected) in cases {
            let converted = to_struct(object(json.clone())).unwrap();
            assert_eq!(converted.fields["n"].kind, Some(expected), "{json}");
        }
    }

    /// The deepest value that is let through must be readable by the service, or it would end the stream.
    #[test]
    fn what_is_not_too_deep_can_be_decoded() {
        let nested = |levels: usize| {
            let inner = (1..levels).fold(json!(1), |value, _| json!({"a": value}));
            object(json!({"a": inner}))
        };
        assert_eq!(to_struct(nested(DEPTH_MAX + 1)), Err(TooDeep));
        let item = v1::BulkItem {
            variables: Some(to_struct(nested(DEPTH_MAX)).unwrap()),
            ..v1::BulkItem::default()
        };
        let items = v1::BulkItems { items: vec![item] };
        let frame = v1::send_bulk_messages_request::Frame::Items(items);
        let request = v1::SendBulkMessagesRequest { frame: Some(frame) };
        assert_eq!(v1::SendBulkMessagesRequest::decode(request.encode_to_vec().as_slice()), Ok(request));
    }
}
