//! Values from and to JSON text.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number::{Number, is_json_number};
use super::value::{Date, Map, Value};
use crate::limits::TEMPLATE_VALUE_DEPTH_MAX;

/// The key of the object that stands for a date: `{"$date": 1749081326718}`, in milliseconds after
/// 1970-01-01T00:00Z.
pub const DATE_KEY: &str = "$date";

impl Value {
    /// Reads JSON text. Numbers keep their spelling; an object `{"$date": ms}` becomes a date.
    ///
    /// # Errors
    /// If the text is not JSON or nests deeper than [`TEMPLATE_VALUE_DEPTH_MAX`] levels.
    pub fn from_json_text(text: &str) -> Result<Self, serde_json::Error> {
        read(serde_json::from_str(text)?, 0)
    }
}

/// Reads one level at a time: a number's spelling survives only as raw text.
fn read(raw: &RawValue, depth: usize) -> Result<Value, serde_json::Error> {
    use serde::de::Error;
    if depth > TEMPLATE_VALUE_DEPTH_MAX {
        return Err(serde_json::Error::custom(format!("expected at most {TEMPLATE_VALUE_DEPTH_MAX} levels")));
    }
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let Entries(entries) = serde_json::from_str(text)?;
            let entries = entries.into_iter().map(|(key, raw)| Ok((key, read(raw, depth + 1)?)));
            let map =
                Map::from_entries(entries.collect::<Result<Vec<(String, Value)>, serde_json::Error>>()?);
            Ok(as_date(&map).map_or_else(|| Value::from(map), Value::Date))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            Ok(Value::List(
                items.into_iter().map(|raw| read(raw, depth + 1)).collect::<Result<Arc<[Value]>, _>>()?,
            ))
        }
        Some(b'"') => Ok(Value::from(serde_json::from_str::<String>(text)?)),
        Some(b't' | b'f') => Ok(Value::Bool(serde_json::from_str(text)?)),
        Some(b'n') | None => Ok(Value::Null),
        Some(_) => Number::from_json_text(text)
            .map(Value::Number)
            .ok_or_else(|| serde_json::Error::custom("expected a JSON value")),
    }
}

fn as_date(map: &Map) -> Option<Date> {
    match (map.len(), map.get(DATE_KEY)) {
        (1, Some(Value::Number(number))) => Date::from_epoch_ms(number.to_integer()?.as_integer()?),
        (_, _) => None,
    }
}

/// The entries of a JSON object in their order, values still raw.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Numbers print as `serde_json` holds them: integers as integers, doubles with a decimal point, neither with an
/// exponent.
impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => {
                let text = number.to_string();
                // A double without its text: plain decimals, as from any other double.
                let double =
                    if text.contains(['e', 'E']) { number.as_f64().and_then(Number::from_f64) } else { None };
                double.or_else(|| Number::from_json_text(&text)).map_or(Self::Null, Self::Number)
            }
            serde_json::Value::String(text) => Self::from(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(object) => {
                let map = Map::from_entries(object.into_iter().map(|(key, value)| (key, Self::from(value))));
                as_date(&map).map_or_else(|| Self::from(map), Self::Date)
            }
        }
    }
}

/// Writes `value` as compact JSON. A date is its number of milliseconds, as in the data.
pub(crate) fn write_json<W: fmt::Write>(out: &mut W, value: &Value) -> fmt::Result {
    match value {
        Value::Null => out.write_str("null"),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Number(number) => write!(out, "{number}"),
        Value::String(text) => write_json_string(out, text),
        Value::Date(date) => write!(out, "{}", date.epoch_ms()),
        Value::List(items) => {
            out.write_char('[')?;
            for (index, item) in items.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { "," })?;
                write_json(out, item)?;
            }
            out.write_char(']')
        }
        Value::Map(map) => {
            out.write_char('{')?;
            for (index, (key, item)) in map.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { "," })?;
                write_json_string(out, key)?;
                out.write_char(':')?;
                write_json(out, item)?;
            }
            out.write_char('}')
        }
    }
}

fn write_json_string<W: fmt::Write>(out: &mut W, text: &str) -> fmt::Result {
    out.write_char('"')?;
    escape_json(out, text)?;
    out.write_char('"')
}

/// Writes `text` as the body of a JSON string, escaping only what RFC 8259 requires.
pub(crate) fn escape_json<W: fmt::Write>(out: &mut W, text: &str) -> fmt::Result {
    // Looking at every byte without stopping is faster than stopping at the first: most texts need no escape.
    if !text.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\')) {
        return out.write_str(text);
    }
    let mut start = 0;
    for (offset, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..=0x1f => "",
            _ => continue,
        };
        // All these bytes are whole characters, so the offsets are character boundaries.
        out.write_str(text.get(start..offset).unwrap_or_default())?;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}")?;
        } else {
            out.write_str(escape)?;
        }
        start = offset + 1;
    }
    out.write_str(text.get(start..).unwrap_or_default())
}

/// Checks that `text` is one JSON value, blanks around it allowed.
pub(crate) fn check_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(drop)
}

/// True if `text` is exactly one JSON number, string, `true`, `false` or `null`, with nothing around it.
pub(crate) fn is_json_scalar(text: &str) -> bool {
    match text.as_bytes() {
        [b'"', .., b'"'] => check_json(text).is_ok(),
        _ => matches!(text, "true" | "false" | "null") || is_json_number(text),
    }
}

/// Removes the blanks between the tokens of valid JSON.
pub(crate) fn minify_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if in_string || !matches!(character, ' ' | '\t' | '\r' | '\n') {
            out.push(character);
        }
        match character {
            '"' if !escaped => in_string = !in_string,
            '\\' if in_string => {
                escaped = !escaped;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trip_keeps_spelling_order_and_escapes() {
        for text in
            [r#"{"b":1.0,"a":[25.50,"x\"y\\z\n",null,true],"é":{}}"#, r#""\u0001\b\f\r\t/""#, "-1E+7", "[]"]
        {
            let mut out = String::new();
            write_json(&mut out, &Value::from_json_text(text).unwrap()).unwrap();
            assert_eq!(out, text);
        }
        let date = Value::from_json_text(r#"{"$date": 1600128000000}"#).unwrap();
        assert_eq!(date.to_string(), "2020-09-15T00:00:00.000Z");
        assert_eq!(date, Value::from(serde_json::json!({"$date": 1_600_128_000_000_i64})));
        let numbers = Value::from(serde_json::json!([7, 1.0, 23.49, 1e21]));
        assert_eq!(numbers.to_string(), "[7, 1.0, 23.49, 1000000000000000000000]");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Value::from_json_text(&nested(TEMPLATE_VALUE_DEPTH_MAX)).is_ok());
        assert!(Value::from_json_text(&nested(TEMPLATE_VALUE_DEPTH_MAX + 2)).is_err());
    }

    #[test]
    fn scalars() {
        for text in ["1", "-2.5e3", "true", "null", r#""a\"b""#] {
            assert!(is_json_scalar(text), "{text}");
        }
        for text in ["", " 1", "1 ", "[]", "{}", "yes", r#""a"b""#, r#"""#, r#""a","b""#, "1,2", "\"a\nb\""] {
            assert!(!is_json_scalar(text), "{text}");
        }
    }

    #[test]
    fn minify_touches_only_blanks_between_tokens() {
        assert_eq!(minify_json("{ \"a \\\" b\\\\\" :\n [ 1 , 2 ] }"), "{\"a \\\" b\\\\\":[1,2]}");
    }
}
