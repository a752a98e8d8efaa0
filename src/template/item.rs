//! What a name or an operand stands for while rendering.

use std::borrow::Cow;
use std::sync::Arc;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::decimal::Decimal;
use super::number::Number;
use super::scope::Iteration;
use super::syntax::Part;
use super::value::{Date, Value};

/// A value as a template sees it: borrowed from the data or the template, or worked out.
#[derive(Clone, Debug)]
pub(crate) enum Item<'a> {
    Missing,
    Borrowed(&'a Value),
    Owned(Value),
    /// The body of a JSON string, already escaped: JSON mode must not escape it again.
    Escaped(Arc<str>),
    /// One complete JSON value.
    Json(Arc<str>),
    /// `iter` in a loop.
    Iteration(Iteration),
}

impl From<Option<Number>> for Item<'_> {
    fn from(number: Option<Number>) -> Self {
        number.map_or(Self::Missing, |number| Self::Owned(Value::Number(number)))
    }
}

impl<'a> Item<'a> {
    pub(crate) fn from_text(text: impl Into<Arc<str>>) -> Self {
        Self::Owned(Value::String(text.into()))
    }

    /// The plain value, null not counted.
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Self::Borrowed(Value::Null) | Self::Owned(Value::Null) => None,
            Self::Borrowed(value) => Some(value),
            Self::Owned(value) => Some(value),
            Self::Missing | Self::Escaped(_) | Self::Json(_) | Self::Iteration(_) => None,
        }
    }

    /// Neither a value nor text: null and missing are one.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Missing | Self::Borrowed(Value::Null) | Self::Owned(Value::Null) => true,
            Self::Borrowed(_) | Self::Owned(_) | Self::Escaped(_) | Self::Json(_) | Self::Iteration(_) => {
                false
            }
        }
    }

    pub(crate) fn is_truthy(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::Borrowed(value) => value.is_truthy(),
            Self::Owned(value) => value.is_truthy(),
            Self::Escaped(text) | Self::Json(text) => !text.is_empty(),
            Self::Iteration(_) => true,
        }
    }

    /// The text of a value that is text.
    pub(crate) fn string(&self) -> Option<&str> {
        match self {
            Self::Escaped(text) | Self::Json(text) => Some(text),
            Self::Missing | Self::Iteration(_) | Self::Borrowed(_) | Self::Owned(_) => match self.value()? {
                Value::String(text) => Some(text),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Date(_)
                | Value::List(_)
                | Value::Map(_) => None,
            },
        }
    }

    /// The text form of any value, empty if there is none.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match (self.string(), self.value()) {
            (Some(text), _) => Cow::Borrowed(text),
            (None, Some(value)) => Cow::Owned(value.to_string()),
            (None, None) => Cow::Borrowed(""),
        }
    }

    pub(crate) fn number(&self) -> Option<&Number> {
        match self.value()? {
            Value::Number(number) => Some(number),
            Value::Null
            | Value::Bool(_)
            | Value::String(_)
            | Value::Date(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.value()? {
            Value::Bool(value) => Some(*value),
            Value::Null
            | Value::Number(_)
            | Value::String(_)
            | Value::Date(_)
            | Value::List(_)
            | Value::Map(_) => None,
        }
    }

    /// A number, or text that is one, as `java.math.BigDecimal` reads it.
    pub(crate) fn decimal(&self) -> Option<Decimal> {
        match (self.number(), self.string()) {
            (Some(number), _) => number.decimal(),
            (None, Some(text)) => Decimal::parse(text),
            (None, None) => None,
        }
    }

    /// A date, milliseconds after 1970 as a number or digits, or an RFC 3339 text.
    pub(crate) fn date(&self) -> Option<Date> {
        if let Some(Value::Date(date)) = self.value() {
            return Some(*date);
        }
        if let Some(number) = self.number() {
            return Date::from_epoch_ms(number.to_integer()?.as_integer()?);
        }
        let text = self.string()?;
        let epoch_ms = text.parse::<i64>().ok().or_else(|| {
            let parsed = OffsetDateTime::parse(text, &Rfc3339).ok()?;
            i64::try_from(parsed.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
        });
        Date::from_epoch_ms(epoch_ms?)
    }

    /// The elements, if this is a list.
    pub(crate) fn list(&self) -> Option<List<'a>> {
        match self {
            Self::Borrowed(Value::List(items)) => Some(List::Borrowed(items)),
            Self::Owned(Value::List(items)) => Some(List::Owned(Arc::clone(items))),
            Self::Borrowed(_)
            | Self::Owned(_)
            | Self::Missing
            | Self::Escaped(_)
            | Self::Json(_)
            | Self::Iteration(_) => None,
        }
    }

    /// A value of its own, for a list written in a template.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Missing | Self::Iteration(_) => Value::Null,
            Self::Borrowed(value) => value.clone(),
            Self::Owned(value) => value,
            Self::Escaped(text) | Self::Json(text) => Value::String(text),
        }
    }

    /// The kind of value, for error messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "no value",
            Self::Borrowed(value) => value.kind(),
            Self::Owned(value) => value.kind(),
            Self::Escaped(_) | Self::Json(_) => "text",
            Self::Iteration(_) => "the loop's metadata",
        }
    }

    /// An entry of a map, an element of a list or a field of a loop's metadata.
    pub(crate) fn child(&self, part: &Part) -> Option<Item<'a>> {
        match self {
            Self::Borrowed(value) => child_of(value, part).map(Self::Borrowed),
            Self::Owned(value) => child_of(value, part).cloned().map(Self::Owned),
            Self::Iteration(iteration) => part.field.map(|field| iteration.field(field)),
            Self::Missing | Self::Escaped(_) | Self::Json(_) => None,
        }
    }
}

/// An entry of a map or an element of a list.
pub(crate) fn child_of<'v>(value: &'v Value, part: &Part) -> Option<&'v Value> {
    match value {
        Value::Map(map) => map.get(&part.name),
        Value::List(items) => items.get(part.index?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Date(_) => None,
    }
}

/// The elements of a list, shared.
#[derive(Clone, Debug)]
pub(crate) enum List<'a> {
    Borrowed(&'a [Value]),
    Owned(Arc<[Value]>),
}

impl<'a> List<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Borrowed(items) => items.len(),
            Self::Owned(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Item<'a> {
        match self {
            Self::Borrowed(items) => items.get(index).map_or(Item::Missing, Item::Borrowed),
            Self::Owned(items) => items.get(index).cloned().map_or(Item::Missing, Item::Owned),
        }
    }
}
