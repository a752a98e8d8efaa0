//! The step budget of one rendering.

use super::error::RenderFault;
use super::item::Item;
use super::value::Value;
use crate::limits::{TEMPLATE_BYTES_PER_STEP, TEMPLATE_STEPS_MAX};

/// What is left of the steps of a rendering, [`TEMPLATE_STEPS_MAX`] at most.
#[derive(Debug)]
pub(crate) struct Budget {
    steps_left: u64,
}

/// The steps are used up. Without any data, so that results of lookups stay small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverBudget;

impl From<OverBudget> for RenderFault {
    fn from(_: OverBudget) -> Self {
        Self::StepBudget
    }
}

impl Budget {
    /// A budget of so many steps, or as many as one rendering may have.
    pub(crate) fn new(steps: u64) -> Self {
        Self { steps_left: steps.min(TEMPLATE_STEPS_MAX) }
    }

    /// Steps that are left.
    pub(crate) fn steps_left(&self) -> u64 {
        self.steps_left
    }

    pub(crate) fn charge(&mut self, steps: usize) -> Result<(), OverBudget> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        let left = self.steps_left.checked_sub(steps);
        self.steps_left = left.unwrap_or_default();
        left.map(drop).ok_or(OverBudget)
    }

    pub(crate) fn charge_bytes(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.charge(bytes / TEMPLATE_BYTES_PER_STEP)
    }

    /// Charges for looking at all of a value once.
    pub(crate) fn charge_value(&mut self, item: &Item<'_>) -> Result<(), OverBudget> {
        match (item.string(), item.value()) {
            (Some(text), _) => self.charge_bytes(text.len()),
            (None, Some(value)) => self.charge_parts(value),
            (None, None) => Ok(()),
        }
    }

    fn charge_parts(&mut self, value: &Value) -> Result<(), OverBudget> {
        match value {
            Value::String(text) => self.charge_bytes(text.len()),
            Value::Number(number) => self.charge_bytes(number.text_bytes()),
            Value::Null | Value::Bool(_) | Value::Date(_) => Ok(()),
            Value::List(items) => {
                self.charge(items.len())?;
                items.iter().try_for_each(|item| self.charge_parts(item))
            }
            Value::Map(map) => {
                self.charge(map.len())?;
                map.iter().try_for_each(|(key, item)| {
                    self.charge_bytes(key.len())?;
                    self.charge_parts(item)
                })
            }
        }
    }
}
