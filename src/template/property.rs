//! Pseudo-properties: the names after a dot that Tealium defines on values, such as `toJson` in
//! `{{cart.toJson}}`.
//!
//! Trimou calls any method of a Java object this way. Of those only the harmless ones that templates use
//! exist here: sizes, letter case, plain conversions.

use std::sync::Arc;

use super::budget::{Budget, OverBudget};
use super::decimal;
use super::item::Item;
use super::json::{escape_json, write_json};
use super::number::Number;
use super::value::{Date, Map, Value};

/// A pseudo-property. A map's own key of the same name comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    ToJson,
    CastIntegers,
    ToInteger,
    Sum,
    ToList,
    ToTimestamp,
    ToTimestampMs,
    EntrySet,
    Size,
    IsEmpty,
    ToUpperCase,
    ToLowerCase,
    ToText,
    BooleanValue,
}

impl Property {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "toJson" => Self::ToJson,
            "castIntegers" => Self::CastIntegers,
            "toInteger" | "intValue" | "longValue" => Self::ToInteger,
            "sum" => Self::Sum,
            "toList" => Self::ToList,
            "toTimestamp" => Self::ToTimestamp,
            "toTimestampMs" => Self::ToTimestampMs,
            "entrySet" => Self::EntrySet,
            "size" | "length" => Self::Size,
            "isEmpty" | "empty" => Self::IsEmpty,
            "toUpperCase" => Self::ToUpperCase,
            "toLowerCase" => Self::ToLowerCase,
            "toString" => Self::ToText,
            "booleanValue" => Self::BooleanValue,
            _ => return None,
        })
    }

    /// The property of `item`; missing if it has none of that name.
    pub(crate) fn of<'a>(self, item: &Item<'a>, budget: &mut Budget) -> Result<Item<'a>, OverBudget> {
        if item.is_missing() {
            return Ok(Item::Missing);
        }
        self.charge(item, budget)?;
        Ok(match self {
            Self::ToJson => to_json(item),
            Self::CastIntegers => cast_integers(item),
            Self::ToInteger => to_number(item).and_then(|number| number.to_integer()).into(),
            Self::Sum => sum(item).into(),
            Self::ToList => to_list(item),
            Self::ToTimestamp => {
                item.date().map(|date| Number::from(date.epoch_ms().div_euclid(1000))).into()
            }
            Self::ToTimestampMs => item.date().map(Date::epoch_ms).map(Number::from).into(),
            Self::EntrySet => entry_set(item),
            Self::Size => size(item).and_then(|size| i64::try_from(size).ok()).map(Number::from).into(),
            Self::IsEmpty => size(item).map_or(Item::Missing, |size| Item::Owned(Value::Bool(size == 0))),
            Self::ToUpperCase => {
                item.string().map_or(Item::Missing, |text| Item::from_text(text.to_uppercase()))
            }
            Self::ToLowerCase => {
                item.string().map_or(Item::Missing, |text| Item::from_text(text.to_lowercase()))
            }
            Self::ToText => Item::from_text(item.text()),
            Self::BooleanValue => {
                item.as_bool().map_or(Item::Missing, |value| Item::Owned(Value::Bool(value)))
            }
        })
    }
}

impl Property {
    /// Charges for the work on `item`: sizes of collections are known, new collections are dear.
    fn charge(self, item: &Item<'_>, budget: &mut Budget) -> Result<(), OverBudget> {
        match (self, item.string()) {
            (Self::ToList, Some(text)) => budget.charge(text.len() / BYTES_PER_PARSED_STEP),
            (_, Some(text)) => budget.charge_bytes(text.len()),
            (Self::CastIntegers | Self::EntrySet, None) => {
                budget.charge(size(item).unwrap_or(0).saturating_mul(STEPS_PER_NEW_ENTRY))?;
                budget.charge_value(item)
            }
            (Self::ToJson | Self::Sum | Self::ToText, None) => budget.charge_value(item),
            (_, None) => Ok(()),
        }
    }
}

/// Reading a short element takes longer than copying a long text.
const BYTES_PER_PARSED_STEP: usize = 2;

/// An entry of a new list or map is allocated, and dropped later.
const STEPS_PER_NEW_ENTRY: usize = 3;

/// Text becomes the body of a JSON string, so that authors can put quotes around it; all else is complete
/// JSON.
fn to_json<'a>(item: &Item<'a>) -> Item<'a> {
    let mut out = String::new();
    // Writing to a String cannot fail.
    if let Some(text) = item.string() {
        let _ = escape_json(&mut out, text);
        return Item::Escaped(out.into());
    }
    item.value().map_or(Item::Missing, |value| {
        let _ = write_json(&mut out, value);
        Item::Json(out.into())
    })
}

/// A number, or text that reads as one.
fn to_number(item: &Item<'_>) -> Option<Number> {
    match item.number() {
        Some(number) => Some(number.clone()),
        None => Number::from_json_text(item.string()?.trim()),
    }
}

fn cast_integers<'a>(item: &Item<'a>) -> Item<'a> {
    let cast = |value: &Value| {
        let integer = to_number(&Item::Borrowed(value)).and_then(|number| number.to_integer());
        integer.map_or_else(|| value.clone(), Value::Number)
    };
    match item.value() {
        Some(Value::List(items)) => Item::Owned(Value::List(items.iter().map(cast).collect())),
        Some(Value::Map(map)) => {
            let entries = map.iter().map(|(key, value)| (key.clone(), cast(value)));
            Item::Owned(Value::from(Map::from_entries(entries)))
        }
        Some(value @ (Value::Number(_) | Value::String(_))) => Item::Owned(cast(value)),
        Some(Value::Null | Value::Bool(_) | Value::Date(_)) | None => Item::Missing,
    }
}

/// Adds the entries; integers give an integer, decimals and numbers in text a decimal. Nothing if an entry is
/// no number.
fn sum(item: &Item<'_>) -> Option<Number> {
    let values: Vec<&Value> = match item.value()? {
        Value::List(items) => items.iter().collect(),
        Value::Map(map) => map.iter().map(|(_, value)| value).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Date(_) => return None,
    };
    let mut integers = values.iter().map(|value| Item::Borrowed(value).number().and_then(Number::as_integer));
    if let Some(total) = integers.try_fold(0_i64, |total, integer| total.checked_add(integer?)) {
        return Some(Number::from(total));
    }
    let integral = |value: &&Value| matches!(value, Value::Number(number) if number.is_integer_text());
    let all_integral = values.iter().all(integral);
    let terms = values.iter().map(|value| Item::Borrowed(value).decimal()).collect::<Option<Vec<_>>>()?;
    decimal::sum(&terms, all_integral).or_else(|| {
        let doubles = values.iter().map(|value| value.to_string().parse::<f64>().ok());
        Number::from_f64(doubles.collect::<Option<Vec<f64>>>()?.iter().sum())
    })
}

fn to_list<'a>(item: &Item<'a>) -> Item<'a> {
    let list = match item.string() {
        Some(text) => Value::from_json_text(text).ok().map(Item::Owned),
        None => Some(item.clone()),
    };
    list.filter(|item| item.list().is_some()).unwrap_or(Item::Missing)
}

fn entry_set<'a>(item: &Item<'a>) -> Item<'a> {
    let Some(Value::Map(map)) = item.value() else { return Item::Missing };
    let (key_name, value_name): (Arc<str>, Arc<str>) = ("key".into(), "value".into());
    let entry = |(key, value): (&Arc<str>, &Value)| {
        let entries = [(&key_name, Value::String(Arc::clone(key))), (&value_name, value.clone())];
        Value::from(Map::from_entries(entries.map(|(name, value)| (Arc::clone(name), value))))
    };
    Item::Owned(Value::List(map.iter().map(entry).collect()))
}

fn size(item: &Item<'_>) -> Option<usize> {
    if let Some(text) = item.string() {
        return Some(text.chars().count());
    }
    match item.value()? {
        Value::List(items) => Some(items.len()),
        Value::Map(map) => Some(map.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Date(_) => None,
    }
}
