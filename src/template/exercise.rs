//! One entry for machines that look for crashes.

use super::{Date, Mode, RenderOptions, Template, Value, Variables};

/// Compiles and renders whatever `data` says: a byte for the mode, a template, a zero byte, variables as JSON
/// text.
///
/// For fuzzing and property tests: it must never panic, and what it returns must keep the engine's promises,
/// here that a rendering in JSON mode is JSON.
pub fn exercise(data: &[u8]) -> Option<String> {
    let (mode, rest) = data.split_first()?;
    let mode = match mode % 3 {
        0 => Mode::Text,
        1 => Mode::Json,
        _ => Mode::Html,
    };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let source = std::str::from_utf8(parts.next()?).ok()?;
    let json = std::str::from_utf8(parts.next().unwrap_or(b"{}")).ok()?;
    let template = Template::compile(source, mode).ok()?;
    let variables = match Value::from_json_text(json).ok()? {
        Value::Map(map) => {
            Variables::from_entries(map.iter().map(|(name, value)| (name.to_string(), value.clone()))).ok()?
        }
        root @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Date(_)
        | Value::List(_)) => root.into(),
    };
    let now = Date::from_epoch_ms(1_599_859_440_000)?;
    let text = template.render(&variables, &RenderOptions { strict: false, now }).ok()?;
    if mode == Mode::Json {
        assert!(super::json::check_json(&text).is_ok(), "JSON mode rendered something else");
    }
    Some(text)
}
