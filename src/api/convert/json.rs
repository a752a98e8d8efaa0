//! google.protobuf.Struct as JSON whose strings may be templates.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// JSON, with `S` for the strings: a rendered string can change no structure.
#[derive(Debug)]
pub(super) enum JsonTree<S> {
    String(S),
    /// Null, a boolean or a number.
    Scalar(serde_json::Value),
    Array(Vec<JsonTree<S>>),
    Object(Vec<(String, JsonTree<S>)>),
}

impl JsonTree<String> {
    /// Reads a structure. Integral numbers become integers, because protobuf has none; numbers that JSON cannot hold
    /// become null.
    pub(super) fn new(object: Struct) -> Self {
        Self::Object(object.fields.into_iter().map(|(key, value)| (key, Self::value(value))).collect())
    }

    fn value(value: Value) -> Self {
        match value.kind {
            None | Some(Kind::NullValue(_)) => Self::Scalar(serde_json::Value::Null),
            Some(Kind::BoolValue(value)) => Self::Scalar(value.into()),
            Some(Kind::NumberValue(number)) => Self::Scalar(json_number(number)),
            Some(Kind::StringValue(text)) => Self::String(text),
            Some(Kind::ListValue(list)) => Self::Array(list.values.into_iter().map(Self::value).collect()),
            Some(Kind::StructValue(object)) => Self::new(object),
        }
    }

    /// The JSON text.
    pub(super) fn into_text(self) -> String {
        self.into_json().to_string()
    }

    fn into_json(self) -> serde_json::Value {
        match self {
            Self::String(text) => text.into(),
            Self::Scalar(scalar) => scalar,
            Self::Array(values) => values.into_iter().map(Self::into_json).collect(),
            Self::Object(entries) => {
                entries.into_iter().map(|(key, value)| (key, value.into_json())).collect()
            }
        }
    }
}

impl<S> JsonTree<S> {
    /// The same JSON with every string replaced. `None` if any has no replacement; all of them are tried.
    pub(super) fn map<T>(&self, replace: &mut impl FnMut(&S) -> Option<T>) -> Option<JsonTree<T>> {
        match self {
            Self::String(text) => replace(text).map(JsonTree::String),
            Self::Scalar(scalar) => Some(JsonTree::Scalar(scalar.clone())),
            Self::Array(values) => {
                let values: Vec<_> = values.iter().map(|value| value.map(replace)).collect();
                values.into_iter().collect::<Option<_>>().map(JsonTree::Array)
            }
            Self::Object(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|(key, value)| Some((key.clone(), value.map(replace)?))).collect();
                entries.into_iter().collect::<Option<_>>().map(JsonTree::Object)
            }
        }
    }
}

/// Integers up to 2^53, which a double holds exactly, become integers.
fn json_number(number: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT { (number as i64).into() } else { number.into() }
}
