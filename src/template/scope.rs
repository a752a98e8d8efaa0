//! The stack of contexts and the lookup of names in it.

use super::budget::{Budget, OverBudget};
use super::item::{Item, child_of};
use super::syntax::{IterationField, Part, Path, Start};
use super::value::Value;

/// The name of a loop's metadata object.
const ITERATION_NAME: &str = "iter";

/// Contexts that a lookup visits without a further step: the root and two loops.
const FREE_FRAMES: usize = 5;

/// Where a loop stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Iteration {
    /// From 0.
    pub(crate) position: usize,
    pub(crate) size: usize,
}

impl Iteration {
    pub(crate) fn field<'a>(self, field: IterationField) -> Item<'a> {
        let index = self.position + 1;
        let number = |value: usize| Item::Owned(Value::from(i64::try_from(value).unwrap_or(i64::MAX)));
        let even = index.is_multiple_of(2);
        match field {
            IterationField::Index => number(index),
            IterationField::Position => number(self.position),
            IterationField::HasNext => Item::Owned(Value::Bool(index < self.size)),
            IterationField::IsFirst => Item::Owned(Value::Bool(self.position == 0)),
            IterationField::IsLast => Item::Owned(Value::Bool(index == self.size)),
            IterationField::IsOdd => Item::Owned(Value::Bool(!even)),
            IterationField::IsEven => Item::Owned(Value::Bool(even)),
            IterationField::IndexParity => Item::from_text(if even { "even" } else { "odd" }),
        }
    }
}

/// One context.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// A value: the root, an element, what a section or `with` pushed.
    Value(Item<'a>),
    /// The metadata of a loop and the name that `each … as=` gave the element.
    Iteration { iteration: Iteration, alias: Option<(&'a str, Item<'a>)> },
    /// The names of `set`.
    Names(Vec<(&'a str, Item<'a>)>),
    /// The state of a `switch` or `choose`; its value is also called `up`.
    Flow(Flow<'a>),
}

/// The state of a `switch` or `choose`.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    pub(crate) value: Item<'a>,
    /// A case has matched: the following ones are rendered too.
    pub(crate) matched: bool,
    /// Nothing more is rendered.
    pub(crate) finished: bool,
}

/// The contexts, outermost first.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) frames: Vec<Frame<'a>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(root: &'a Value) -> Self {
        Self { frames: vec![Frame::Value(Item::Borrowed(root))] }
    }

    /// The innermost value: `this`.
    pub(crate) fn this(&self) -> Item<'a> {
        let value = self.frames.iter().rev().find_map(|frame| match frame {
            Frame::Value(item) => Some(item),
            Frame::Flow(flow) => Some(&flow.value),
            Frame::Iteration { .. } | Frame::Names(_) => None,
        });
        value.cloned().unwrap_or(Item::Missing)
    }

    /// Finds what a name stands for.
    pub(crate) fn find(&self, path: &Path, budget: &mut Budget) -> Result<Item<'a>, OverBudget> {
        let mut item = match &path.start {
            Start::Name(part) => self.leading(part, budget)?,
            Start::This => self.this(),
        };
        // `this.up` in a switch or choose is the flow's value, not an entry of it.
        let is_up = |part: &Part| part.name == "up" && matches!(path.start, Start::This) && self.in_flow();
        let rest = match path.rest.split_first() {
            None => return Ok(item),
            Some((first, rest)) if is_up(first) => rest,
            Some(_) => &path.rest,
        };
        for part in rest {
            budget.charge(1)?;
            item = step(&item, part, budget)?;
        }
        Ok(item)
    }

    fn in_flow(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Flow(_)))
    }

    /// The first part of a name: contexts from the inside out, then a pseudo-property of `this`.
    fn leading(&self, part: &Part, budget: &mut Budget) -> Result<Item<'a>, OverBudget> {
        for (visited, frame) in self.frames.iter().rev().enumerate() {
            if visited >= FREE_FRAMES {
                budget.charge(1)?;
            }
            let found = match frame {
                // The common case on a short way: nothing is moved but a reference.
                Frame::Value(Item::Borrowed(value)) => match child_of(value, part) {
                    Some(child) if !matches!(child, Value::Null) => return Ok(Item::Borrowed(child)),
                    Some(_) | None => None,
                },
                Frame::Value(item) => item.child(part),
                Frame::Iteration { iteration, alias } => iteration_name(*iteration, alias.as_ref(), part),
                Frame::Names(names) => {
                    budget.charge(names.len())?;
                    names.iter().find(|(name, _)| *name == part.name).map(|(_, item)| item.clone())
                }
                Frame::Flow(flow) => (part.name == "up").then(|| flow.value.clone()),
            };
            match found {
                Some(item) if !item.is_missing() => return Ok(item),
                Some(_) | None => {}
            }
        }
        let this = self.this();
        match part.property {
            // On a map it would be taken for one of the map's keys.
            Some(property) if !matches!(this.value(), Some(Value::Map(_))) => property.of(&this, budget),
            Some(_) | None => Ok(Item::Missing),
        }
    }
}

fn iteration_name<'a>(
    iteration: Iteration,
    alias: Option<&(&'a str, Item<'a>)>,
    part: &Part,
) -> Option<Item<'a>> {
    if let Some((name, item)) = alias
        && *name == part.name
    {
        return Some(item.clone());
    }
    match part.field {
        Some(field) => Some(iteration.field(field)),
        None => (part.name == ITERATION_NAME).then_some(Item::Iteration(iteration)),
    }
}

/// One further part of a name, looked up in `item` alone.
pub(crate) fn step<'a>(item: &Item<'a>, part: &Part, budget: &mut Budget) -> Result<Item<'a>, OverBudget> {
    if let Item::Iteration(iteration) = item {
        let short = match &*part.name {
            "first" => Some(IterationField::IsFirst),
            "last" => Some(IterationField::IsLast),
            "odd" => Some(IterationField::IsOdd),
            "even" => Some(IterationField::IsEven),
            _ => None,
        };
        return Ok(part.field.or(short).map_or(Item::Missing, |field| iteration.field(field)));
    }
    match (item.child(part), part.property) {
        (Some(child), _) => Ok(child),
        (None, Some(property)) => property.of(item, budget),
        (None, None) => Ok(Item::Missing),
    }
}
