//! google.protobuf.Struct as JSON.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// A structure as JSON text. Integral numbers print without a fraction, because protobuf has no integers here;
/// numbers that JSON cannot hold become null, as protobuf's own JSON mapping refuses them.
pub fn object_text(object: &Struct) -> String {
    json_object(object).to_string()
}

fn json_object(object: &Struct) -> serde_json::Value {
    object.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
}

fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(number)) => json_number(*number),
        Some(Kind::StringValue(text)) => text.clone().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::StructValue(object)) => json_object(object),
    }
}

/// Integers up to 2^53, which a double holds exactly, print as integers.
fn json_number(number: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT { (number as i64).into() } else { number.into() }
}
