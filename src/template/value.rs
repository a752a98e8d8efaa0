//! The data a template is rendered with.
//!
//! A [`Value`] is cheap to clone (lists, maps and texts are shared), so that a loop or a helper can hold a
//! part of the data without copying it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use time::OffsetDateTime;

use super::number::Number;

/// One value: a template variable, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value; the dialect does not tell it from a missing name.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number with its spelling.
    Number(Number),
    /// Text, never read as a template.
    String(Arc<str>),
    /// A point in time.
    Date(Date),
    /// Tealium's arrays and sets of strings.
    List(Arc<[Value]>),
    /// Tealium's tallies, and nested data.
    Map(Arc<Map>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::List(values.into())
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(Arc::new(map))
    }
}

impl Value {
    /// False for what `if`, `unless`, `is` and `when` count as absent: null, false, an empty text, an empty
    /// list and zero. (Trimou 2.3, `Checker.isFalsy`.)
    pub(crate) fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => !number.is_zero(),
            Self::String(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Date(_) | Self::Map(_) => true,
        }
    }

    /// The kind of value, for error messages: they never show the value itself.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "text",
            Self::Date(_) => "a date",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The plain text form: what `{{x}}` prints in text. Lists and maps look as Java prints them: `[A, B]`,
/// `{A=1, B=2}`.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Bool(value) => formatter.write_str(if *value { "true" } else { "false" }),
            Self::Number(number) => fmt::Display::fmt(number, formatter),
            Self::String(text) => formatter.write_str(text),
            Self::Date(date) => write!(formatter, "{date}"),
            Self::List(items) => {
                formatter.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    formatter.write_str(if index == 0 { "" } else { ", " })?;
                    write_inner(formatter, item)?;
                }
                formatter.write_char(']')
            }
            Self::Map(map) => {
                formatter.write_char('{')?;
                for (index, (key, item)) in map.iter().enumerate() {
                    formatter.write_str(if index == 0 { "" } else { ", " })?;
                    write!(formatter, "{key}=")?;
                    write_inner(formatter, item)?;
                }
                formatter.write_char('}')
            }
        }
    }
}

/// Java prints the word for a null inside a collection, and only there.
fn write_inner(formatter: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Null => formatter.write_str("null"),
        Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Date(_)
        | Value::List(_)
        | Value::Map(_) => {
            write!(formatter, "{value}")
        }
    }
}

/// A point in time with millisecond precision, in the years -9999 to 9999; prints as
/// `2025-06-04T23:55:26.718Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    epoch_ms: i64,
}

impl Date {
    /// The date that many milliseconds after 1970-01-01T00:00Z; `None` outside the years -9999 to 9999.
    #[must_use]
    pub fn from_epoch_ms(epoch_ms: i64) -> Option<Self> {
        OffsetDateTime::from_unix_timestamp(epoch_ms.div_euclid(1000)).ok().map(|_| Self { epoch_ms })
    }

    /// Milliseconds after 1970-01-01T00:00Z.
    #[must_use]
    pub fn epoch_ms(self) -> i64 {
        self.epoch_ms
    }

    /// The same instant as a calendar date and time in UTC.
    pub(crate) fn utc(self) -> OffsetDateTime {
        // The constructor has checked the range, so the fallback is never taken.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.epoch_ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let utc = self.utc();
        let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
        let (hour, minute, second, millisecond) = (utc.hour(), utc.minute(), utc.second(), utc.millisecond());
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// A map that keeps the order of its entries. Small maps are searched from the front, large ones (a tally has
/// up to 30,000 entries) by halving.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<(Arc<str>, Value)>,
    /// The places of the entries in the order of `key_order`, if there are many.
    sorted: Vec<usize>,
}

/// Up to this many entries, comparing keys one by one is fast enough.
const SEARCHED_ENTRIES_MAX: usize = 8;

/// Shorter keys first: most comparisons end with the lengths.
fn key_order(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

impl Map {
    /// A map of these entries; of entries with one key the last one counts, in the place of the first.
    pub fn from_entries<K: Into<Arc<str>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let mut entries: Vec<(Arc<str>, Value)> =
            entries.into_iter().map(|(key, value)| (key.into(), value)).collect();
        let mut sorted = sorted_places(&entries);
        let same_key = |pair: &[usize]| match pair {
            [left, right] => {
                entries.get(*left).map(|entry| &entry.0) == entries.get(*right).map(|entry| &entry.0)
            }
            _ => false,
        };
        if sorted.windows(2).any(same_key) {
            entries = without_duplicates(entries);
            sorted = sorted_places(&entries);
        }
        if entries.len() <= SEARCHED_ENTRIES_MAX {
            sorted = Vec::new();
        }
        Self { entries, sorted }
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        if self.sorted.is_empty() {
            return self.entries.iter().find(|(name, _)| **name == *key).map(|(_, value)| value);
        }
        let order =
            |place: &usize| self.entries.get(*place).map_or(Ordering::Less, |(name, _)| key_order(name, key));
        let found = self.sorted.binary_search_by(order).ok()?;
        self.entries.get(*self.sorted.get(found)?).map(|(_, value)| value)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The places of the entries by key, equal keys in their order.
fn sorted_places(entries: &[(Arc<str>, Value)]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..entries.len()).collect();
    let key = |place: usize| entries.get(place).map_or("", |(key, _)| &**key);
    places.sort_by(|left, right| key_order(key(*left), key(*right)));
    places
}

fn without_duplicates(entries: Vec<(Arc<str>, Value)>) -> Vec<(Arc<str>, Value)> {
    let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(entries.len());
    let mut kept: Vec<(Arc<str>, Value)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        match places.get(&key).and_then(|place| kept.get_mut(*place)) {
            Some(entry) => entry.1 = value,
            None => {
                places.insert(Arc::clone(&key), kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

/// Maps are equal if they hold the same entries, in whatever order.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms() {
        let map = Map::from_entries([("A", Value::from(1)), ("B", Value::Null)]);
        let list = Value::from(vec![Value::from("x"), Value::from(map), Value::from(true)]);
        assert_eq!(list.to_string(), "[x, {A=1, B=null}, true]");
        let date = |ms| Date::from_epoch_ms(ms).unwrap().to_string();
        assert_eq!(date(1_749_081_326_718), "2025-06-04T23:55:26.718Z");
        assert_eq!(date(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(Date::from_epoch_ms(i64::MAX), None);
    }

    #[test]
    fn maps_of_any_size_find_every_key_and_keep_the_last_duplicate() {
        for size in [0, 1, SEARCHED_ENTRIES_MAX, SEARCHED_ENTRIES_MAX + 1, 100] {
            let entries = (0..size).map(|n| (format!("k{n}"), Value::from(i64::try_from(n).unwrap())));
            let again = [("k0".to_owned(), Value::from("last"))];
            let map = Map::from_entries(entries.chain(again));
            assert_eq!(map.len(), size.max(1));
            assert_eq!(map.get("k0"), Some(&Value::from("last")));
            assert_eq!(map.get("absent"), None);
            for n in 1..size {
                assert_eq!(map.get(&format!("k{n}")), Some(&Value::from(i64::try_from(n).unwrap())));
            }
        }
    }
}
