//! The variables of one rendering: the root of a template's data.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::value::{Map, Value};
use crate::limits::TEMPLATE_ALIGNED_VALUES_MAX;

/// What a template is rendered with.
///
/// Callers name variables flat. Names with a dot belong together, as in Tealium's aligned arrays: `cart.item`
/// and `cart.price`, both lists of one length, become a list `cart` of objects with `item` and `price`; what
/// is not a list under the prefix is repeated in every object.
#[derive(Clone, Debug, PartialEq)]
pub struct Variables {
    pub(super) root: Value,
}

impl Variables {
    /// Variables by name, dotted names joined. Without any list under a prefix the prefix is one object.
    ///
    /// # Errors
    /// If the lists under a prefix differ in length or hold too many values, a name has two dots, or a prefix
    /// is also a name.
    pub fn from_entries(entries: impl IntoIterator<Item = (String, Value)>) -> Result<Self, VariablesError> {
        Self::from_entries_within(entries, &mut u64::MAX.clone())
    }

    /// Variables as [`from_entries`](Self::from_entries) makes them, in no more than so many steps, one for each value in
    /// the lists under a prefix. The steps are taken off.
    ///
    /// # Errors
    /// As [`from_entries`](Self::from_entries), and [`VariablesError::StepBudget`].
    pub fn from_entries_within(
        entries: impl IntoIterator<Item = (String, Value)>,
        steps: &mut u64,
    ) -> Result<Self, VariablesError> {
        let mut names: Vec<(Arc<str>, Slot)> = Vec::new();
        let mut places: HashMap<Arc<str>, usize> = HashMap::new();
        for (name, value) in entries {
            let (key, field) = split(&name).map_or((&*name, None), |(prefix, field)| (prefix, Some(field)));
            if field.is_some_and(|field| field.contains('.')) {
                return Err(VariablesError::TwoDots { name });
            }
            let place = places.get(key).copied();
            match (place.and_then(|place| names.get_mut(place)), field) {
                (Some((_, Slot::Group(fields))), Some(field)) => fields.push((field.into(), value)),
                (Some((_, Slot::Single(known))), None) => *known = value,
                (Some(_), _) => return Err(VariablesError::PrefixIsName { name: key.to_owned() }),
                (None, field) => {
                    let key: Arc<str> = key.into();
                    places.insert(Arc::clone(&key), names.len());
                    let slot = match field {
                        Some(field) => Slot::Group(vec![(field.into(), value)]),
                        None => Slot::Single(value),
                    };
                    names.push((key, slot));
                }
            }
        }
        let entries = names.into_iter().map(|(name, slot)| match slot {
            Slot::Single(value) => Ok((name, value)),
            Slot::Group(fields) => align(&name, fields, steps).map(|value| (name, value)),
        });
        let map = Map::from_entries(entries.collect::<Result<Vec<_>, _>>()?);
        Ok(Self { root: Value::from(map) })
    }
}

/// Data of any shape, its names as they are.
impl From<Value> for Variables {
    fn from(root: Value) -> Self {
        Self { root }
    }
}

enum Slot {
    Single(Value),
    Group(Vec<(Arc<str>, Value)>),
}

/// Prefix and field of a dotted name; a dot at either end is part of a plain name.
fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('.').filter(|(prefix, field)| !prefix.is_empty() && !field.is_empty())
}

fn align(prefix: &str, fields: Vec<(Arc<str>, Value)>, steps: &mut u64) -> Result<Value, VariablesError> {
    let lengths: Vec<(String, usize)> = fields
        .iter()
        .filter_map(|(field, value)| list(value).map(|items| (format!("{prefix}.{field}"), items.len())))
        .collect();
    let Some((_, length)) = lengths.first() else {
        return Ok(Value::from(Map::from_entries(fields)));
    };
    if lengths.iter().any(|(_, other)| other != length) {
        return Err(VariablesError::UnequalLengths { lengths });
    }
    let values = length.saturating_mul(fields.len());
    if values > TEMPLATE_ALIGNED_VALUES_MAX {
        return Err(VariablesError::TooMany { prefix: prefix.to_owned(), values });
    }
    let left = steps.checked_sub(values as u64);
    *steps = left.unwrap_or_default();
    left.ok_or(VariablesError::StepBudget)?;
    let object = |index: usize| {
        let entries = fields.iter().map(|(field, value)| {
            let item = list(value).map_or(Some(value), |items| items.get(index));
            (Arc::clone(field), item.cloned().unwrap_or(Value::Null))
        });
        Value::from(Map::from_entries(entries))
    };
    Ok(Value::List((0..*length).map(object).collect()))
}

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(items) => Some(items),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Date(_)
        | Value::Map(_) => None,
    }
}

/// Why variables cannot be joined by their dotted names. Names and lengths only, no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariablesError {
    /// The lists under one prefix have different lengths: each name with its length.
    UnequalLengths {
        /// Names and lengths in the order given.
        lengths: Vec<(String, usize)>,
    },
    /// Only one level of grouping exists.
    TwoDots {
        /// The name at fault.
        name: String,
    },
    /// A prefix has more values than [`TEMPLATE_ALIGNED_VALUES_MAX`], repeated ones included.
    TooMany {
        /// The prefix.
        prefix: String,
        /// Its number of values.
        values: usize,
    },
    /// More values in all prefixes together than there are steps for.
    StepBudget,
    /// A variable has the name that is also the prefix of others.
    PrefixIsName {
        /// That name.
        name: String,
    },
}

impl fmt::Display for VariablesError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnequalLengths { lengths } => {
                formatter.write_str("expected lists of one length under a common prefix, found ")?;
                for (index, (name, length)) in lengths.iter().enumerate() {
                    formatter.write_str(if index == 0 { "" } else { ", " })?;
                    write!(formatter, "`{name}` with {length}")?;
                }
                Ok(())
            }
            Self::TwoDots { name } => {
                write!(formatter, "expected at most one dot in the variable name `{name}`")
            }
            Self::TooMany { prefix, values } => write!(
                formatter,
                "expected at most {TEMPLATE_ALIGNED_VALUES_MAX} values in the lists that start with `{prefix}.`, found {values}"
            ),
            Self::StepBudget => {
                formatter.write_str("expected fewer values in the lists under common prefixes together")
            }
            Self::PrefixIsName { name } => {
                write!(
                    formatter,
                    "expected either a variable `{name}` or variables that start with `{name}.`, found both"
                )
            }
        }
    }
}

impl std::error::Error for VariablesError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(json: &str) -> Result<String, String> {
        let serde_json::Value::Object(entries) = serde_json::from_str(json).unwrap() else {
            unreachable!("an object")
        };
        let entries = entries.into_iter().map(|(name, value)| (name, Value::from(value)));
        let mut out = String::new();
        let variables = Variables::from_entries(entries).map_err(|error| error.to_string())?;
        super::super::json::write_json(&mut out, &variables.root).unwrap();
        Ok(out)
    }

    #[test]
    fn dotted_names_are_joined() {
        let cases = [
            (r#"{"a":1,"b":[1,2]}"#, r#"{"a":1,"b":[1,2]}"#),
            (
                r#"{"cart.item":["x","y"],"n":1,"cart.price":[1,2],"cart.id":"T"}"#,
                r#"{"cart":[{"item":"x","price":1,"id":"T"},{"item":"y","price":2,"id":"T"}],"n":1}"#,
            ),
            (r#"{"c.a":[],"c.b":[]}"#, r#"{"c":[]}"#),
            (r#"{"c.a":1,"c.b":"x"}"#, r#"{"c":{"a":1,"b":"x"}}"#),
            (r#"{".a":1,"b.":2}"#, r#"{".a":1,"b.":2}"#),
        ];
        for (given, joined) in cases {
            assert_eq!(variables(given).as_deref(), Ok(joined));
        }
    }

    #[test]
    fn what_cannot_be_joined_is_named() {
        let cases = [
            (r#"{"c.a":[1],"c.b":[1,2]}"#, "found `c.a` with 1, `c.b` with 2"),
            (r#"{"c.a.b":1}"#, "one dot in the variable name `c.a.b`"),
            (r#"{"c":1,"c.a":1}"#, "a variable `c`"),
            (r#"{"c.a":1,"c":1}"#, "a variable `c`"),
        ];
        for (given, message) in cases {
            let error = variables(given).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn repeating_values_is_bounded() {
        let list = ("c.list".to_owned(), Value::List(vec![Value::Null; 30_000].into()));
        let repeated = (0..10).map(|n| (format!("c.f{n}"), Value::Null));
        let error = Variables::from_entries(repeated.chain([list])).unwrap_err();
        assert_eq!(error, VariablesError::TooMany { prefix: "c".to_owned(), values: 330_000 });
    }
}
