//! Where rendered text goes: escaping, JSON mode's state machine, the output budget.

use std::fmt::{self, Write as _};

use super::error::RenderFault;
use super::item::Item;
use super::json::{escape_json, is_json_scalar};
use super::value::Value;
use crate::limits::TEMPLATE_BYTES_PER_STEP;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As they are.
    Text,
    /// With HTML's special characters escaped.
    Html,
    /// So that they stay inside their place in a JSON document.
    Json(JsonPlace),
}

/// Where in a JSON document the next character goes. Only text of the template moves it: escaped values never
/// do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonPlace {
    /// Between strings.
    Outside,
    /// In a string.
    Inside,
    /// In a string, after a backslash.
    AfterBackslash,
}

/// A piece of the template's own text, with the place in a JSON document that it leads to from each place.
#[derive(Clone, Debug)]
pub(crate) struct Literal {
    pub(crate) text: String,
    /// What to charge for writing it.
    pub(crate) steps: usize,
    from_outside: JsonPlace,
    from_inside: JsonPlace,
    from_backslash: JsonPlace,
}

impl Literal {
    pub(crate) fn new(text: String) -> Self {
        Self {
            from_outside: JsonPlace::Outside.after(&text),
            from_inside: JsonPlace::Inside.after(&text),
            from_backslash: JsonPlace::AfterBackslash.after(&text),
            steps: 1 + text.len() / TEMPLATE_BYTES_PER_STEP,
            text,
        }
    }

    fn place_after(&self, place: JsonPlace) -> JsonPlace {
        match place {
            JsonPlace::Outside => self.from_outside,
            JsonPlace::Inside => self.from_inside,
            JsonPlace::AfterBackslash => self.from_backslash,
        }
    }
}

/// A tag that printed nothing outside a string: the first suspect if the document turns out not to be JSON.
#[derive(Clone, Debug)]
pub(crate) struct EmptyValue {
    pub(crate) offset: usize,
    pub(crate) line: u32,
    pub(crate) name: String,
}

/// The text rendered so far.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) text: String,
    pub(crate) style: Style,
    /// Bytes that may be written.
    limit: usize,
    pub(crate) empty_values: Vec<EmptyValue>,
}

/// Empty values remembered for an error message; the first ones are the ones an author meets first.
const EMPTY_VALUES_MAX: usize = 64;

impl Output {
    pub(crate) fn new(style: Style, limit: usize) -> Self {
        Self { text: String::new(), style, limit, empty_values: Vec::new() }
    }

    /// Writes text of the template. The error carries the number of bytes that still fit.
    pub(crate) fn literal(&mut self, literal: &Literal) -> Result<(), usize> {
        let room = self.limit.saturating_sub(self.text.len());
        if literal.text.len() > room {
            return Err(room);
        }
        self.text.push_str(&literal.text);
        if let Style::Json(place) = self.style {
            self.style = Style::Json(literal.place_after(place));
        }
        Ok(())
    }

    /// Writes a value; raw is `{{{x}}}` and `{{&x}}`.
    pub(crate) fn value(&mut self, item: &Item<'_>, raw: bool) -> Result<(), RenderFault> {
        let result = match self.style {
            Style::Text => write_text(&mut self.text, item),
            Style::Html if raw => write_text(&mut self.text, item),
            Style::Html => write_text(&mut Escaping { out: &mut self.text, escape: escape_html }, item),
            Style::Json(JsonPlace::Inside) => match item {
                Item::Escaped(body) => self.text.write_str(body),
                Item::Borrowed(Value::String(text)) => escape_json(&mut self.text, text),
                Item::Missing | Item::Borrowed(_) | Item::Owned(_) | Item::Json(_) | Item::Iteration(_) => {
                    write_text(&mut Escaping { out: &mut self.text, escape: escape_json }, item)
                }
            },
            Style::Json(JsonPlace::Outside) => {
                return self.json_value(item, raw).and_then(|()| self.check_limit());
            }
            Style::Json(JsonPlace::AfterBackslash) => {
                return Err(json_fault(
                    "expected no backslash before a tag: the value would change its meaning",
                ));
            }
        };
        // Writing to a String cannot fail, and the text forms of values have no other error.
        debug_assert!(result.is_ok());
        self.check_limit()
    }

    fn check_limit(&self) -> Result<(), RenderFault> {
        if self.text.len() > self.limit { Err(RenderFault::OutputBudget) } else { Ok(()) }
    }

    /// Outside a string a value is one whole scalar, or whole JSON where the author asks for it.
    fn json_value(&mut self, item: &Item<'_>, raw: bool) -> Result<(), RenderFault> {
        match item.value() {
            Some(Value::Number(_) | Value::Bool(_)) => {
                let _ = write_text(&mut self.text, item);
                return Ok(());
            }
            Some(Value::List(_) | Value::Map(_)) => {
                return Err(json_fault(&format!(
                    "expected `.toJson` after the name of {} outside a string",
                    item.kind()
                )));
            }
            Some(Value::Date(_)) => {
                return Err(json_fault("expected quotes around a date, or `.toTimestamp` after its name"));
            }
            Some(Value::Null | Value::String(_)) | None => {}
        }
        let whole = match item {
            Item::Missing | Item::Iteration(_) | Item::Json(_) => true,
            Item::Escaped(text) => is_json_scalar(text),
            Item::Borrowed(_) | Item::Owned(_) => {
                let text = item.string().unwrap_or_default();
                text.is_empty() || is_json_scalar(text) || (raw && is_json_document(text))
            }
        };
        if !whole && raw {
            return Err(json_fault("expected exactly one JSON value outside a string"));
        }
        if !whole {
            return Err(json_fault(
                "expected a number, a boolean or a quoted string outside a string; put quotes around the tag",
            ));
        }
        let _ = write_text(&mut self.text, item);
        Ok(())
    }

    /// Takes over what a block inside remembered: its text ends where this one stands.
    pub(crate) fn adopt_empty_values(&mut self, inner: Vec<EmptyValue>) {
        let offset = self.text.len();
        self.empty_values.extend(inner.into_iter().map(|empty| EmptyValue { offset, ..empty }));
        self.empty_values.truncate(EMPTY_VALUES_MAX);
    }

    /// Remembers a tag that printed nothing where JSON needs a value.
    pub(crate) fn note_empty_value(&mut self, line: u32, name: &str) {
        if self.style == Style::Json(JsonPlace::Outside) && self.empty_values.len() < EMPTY_VALUES_MAX {
            self.empty_values.push(EmptyValue { offset: self.text.len(), line, name: name.to_owned() });
        }
    }
}

pub(crate) fn json_fault(message: &str) -> RenderFault {
    RenderFault::Json(message.to_owned())
}

/// One JSON value with nothing around it.
fn is_json_document(text: &str) -> bool {
    text.trim() == text && super::json::check_json(text).is_ok()
}

impl JsonPlace {
    /// The place after a piece of the template's own text.
    fn after(self, text: &str) -> Self {
        let mut place = self;
        let mut rest = text.as_bytes();
        loop {
            let end = match place {
                Self::Outside => rest.iter().position(|byte| *byte == b'"'),
                Self::Inside => rest.iter().position(|byte| matches!(byte, b'"' | b'\\')),
                Self::AfterBackslash => (!rest.is_empty()).then_some(0),
            };
            let Some((byte, after)) = end.and_then(|end| rest.get(end..)).and_then(<[u8]>::split_first)
            else {
                return place;
            };
            place = match (place, byte) {
                (Self::Outside, _) | (Self::AfterBackslash, _) => Self::Inside,
                (Self::Inside, b'\\') => Self::AfterBackslash,
                (Self::Inside, _) => Self::Outside,
            };
            rest = after;
        }
    }
}

fn write_text<W: fmt::Write>(out: &mut W, item: &Item<'_>) -> fmt::Result {
    match item {
        Item::Borrowed(Value::String(text)) | Item::Owned(Value::String(text)) => out.write_str(text),
        Item::Escaped(text) | Item::Json(text) => out.write_str(text),
        Item::Borrowed(value) => write!(out, "{value}"),
        Item::Owned(value) => write!(out, "{value}"),
        Item::Missing | Item::Iteration(_) => Ok(()),
    }
}

/// A writer that escapes what passes through it.
struct Escaping<'o> {
    out: &'o mut String,
    escape: fn(&mut String, &str) -> fmt::Result,
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.escape)(self.out, text)
    }
}

/// Escapes `& < > " '` as Trimou does.
pub(crate) fn escape_html<W: fmt::Write>(out: &mut W, text: &str) -> fmt::Result {
    escape_markup(out, text, "&#39;")
}

/// Escapes `& < > " '` with the entities that XML defines.
pub(crate) fn escape_xml<W: fmt::Write>(out: &mut W, text: &str) -> fmt::Result {
    escape_markup(out, text, "&apos;")
}

fn escape_markup<W: fmt::Write>(out: &mut W, text: &str, apostrophe: &str) -> fmt::Result {
    for piece in text.split_inclusive(['&', '<', '>', '"', '\'']) {
        let mut chars = piece.chars();
        let entity = match chars.next_back() {
            Some('&') => "&amp;",
            Some('<') => "&lt;",
            Some('>') => "&gt;",
            Some('"') => "&quot;",
            Some('\'') => apostrophe,
            Some(_) | None => {
                out.write_str(piece)?;
                continue;
            }
        };
        out.write_str(chars.as_str())?;
        out.write_str(entity)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_follows_the_template_text() {
        for (text, place) in [
            ("{\"a\":", JsonPlace::Outside),
            ("{\"a\":\"", JsonPlace::Inside),
            ("{\"a\":\"\\", JsonPlace::AfterBackslash),
            ("{\"a\":\"\\\\", JsonPlace::Inside),
            ("{\"a\":\"\\\"", JsonPlace::Inside),
            ("{\"a\":\"\\\"\"", JsonPlace::Outside),
        ] {
            assert_eq!(JsonPlace::Outside.after(text), place, "{text}");
            // The same text in two pieces, wherever it is cut.
            for cut in 0..=text.len() {
                let (left, right) = text.split_at(cut);
                assert_eq!(JsonPlace::Outside.after(left).after(right), place, "{text}");
            }
        }
    }

    #[test]
    fn markup() {
        let mut out = String::new();
        escape_html(&mut out, "<a>&\"é' x").unwrap();
        assert_eq!(out, "&lt;a&gt;&amp;&quot;é&#39; x");
    }
}
