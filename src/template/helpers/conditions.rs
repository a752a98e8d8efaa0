//! Conditions: what a block or a text depends on.

use std::cmp::Ordering;

use super::Helper;
use crate::template::decimal::Decimal;
use crate::template::error::{RenderError, RenderFault};
use crate::template::item::Item;
use crate::template::render::Renderer;
use crate::template::syntax::{Call, OtherwisePiece, Prepared};
use crate::template::value::Value;

/// The operators of `numExpr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Neq,
    Gt,
    Ge,
    Lt,
    Le,
    Neg,
    Pos,
    In,
    Nin,
}

impl Operator {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "eq" => Self::Eq,
            "neq" => Self::Neq,
            "gt" => Self::Gt,
            "ge" => Self::Ge,
            "lt" => Self::Lt,
            "le" => Self::Le,
            "neg" => Self::Neg,
            "pos" => Self::Pos,
            "in" => Self::In,
            "nin" => Self::Nin,
            _ => return None,
        })
    }

    pub(super) fn operands(self) -> usize {
        if matches!(self, Self::Neg | Self::Pos) { 1 } else { 2 }
    }
}

/// A number is taken apart into its digits to be compared.
const STEPS_PER_DECIMAL: usize = 2;

impl<'a> Renderer<'a> {
    /// `if`, `unless`, `isNull`, `isNotNull`: every operand has to match, or with `any` one; logic="and" and
    /// logic="or" choose.
    pub(super) fn condition(
        &mut self,
        call: &'a Call,
        any: bool,
        is_match: fn(&Item<'a>) -> bool,
    ) -> Result<(), RenderError> {
        let any = match self.option(call, "logic")?.map(|logic| logic.text().to_ascii_lowercase()).as_deref()
        {
            Some("or") => true,
            Some("and") => false,
            Some(_) | None => any,
        };
        let mut matches = !any;
        for operand in &call.operands {
            if is_match(&self.evaluate(call, operand)?) == any {
                matches = any;
                break;
            }
        }
        if matches { self.body(call) } else { self.otherwise(call) }
    }

    /// Writes the text of the option `else`.
    fn otherwise(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let Prepared::Otherwise(pieces) = &call.prepared else {
            let text = self.option(call, "else")?;
            return text.map_or(Ok(()), |text| self.emit(call, &text));
        };
        let mut text = String::new();
        for piece in pieces {
            match piece {
                OtherwisePiece::Text(piece) => text.push_str(piece),
                OtherwisePiece::Variable(path) => {
                    let item = self.find(path).map_err(|exceeded| call.error(exceeded))?;
                    self.budget.charge_value(&item).map_err(|exceeded| call.error(exceeded))?;
                    if item.is_missing() && self.options.strict {
                        return Err(call.error(RenderFault::MissingVariable));
                    }
                    text.push_str(&item.text());
                }
            }
        }
        self.emit(call, &Item::from_text(text))
    }

    /// `is a yes [no]`
    pub(super) fn is(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let index = if self.operand(call, 0)?.is_truthy() { 1 } else { 2 };
        if index >= call.operands.len() {
            return Ok(());
        }
        let item = self.operand(call, index)?;
        self.emit(call, &item)
    }

    /// `isEq`, `isNotEq`: with one operand the other is `this`; a missing operand renders nothing in both.
    pub(super) fn is_equal(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let first = self.operand(call, 0)?;
        let (left, right) = match call.operands.len() {
            1 => (self.scope.this(), first),
            _ => (first, self.operand(call, 1)?),
        };
        if left.is_missing() || right.is_missing() {
            return Ok(());
        }
        let equal = self.equal(call, &left, &right)?;
        if equal == (call.helper == Helper::IsEq) { self.body(call) } else { Ok(()) }
    }

    /// Equality by kind and value; numbers by value whatever their spelling.
    pub(super) fn equal(
        &mut self,
        call: &Call,
        left: &Item<'a>,
        right: &Item<'a>,
    ) -> Result<bool, RenderError> {
        self.budget.charge_value(left).map_err(|exceeded| call.error(exceeded))?;
        Ok(match (left.string(), right.string(), left.value(), right.value()) {
            (Some(left), Some(right), ..) => left == right,
            (_, _, Some(left), Some(right)) => equal_values(left, right),
            (_, _, _, _) => false,
        })
    }

    /// `isOdd`, `isEven`: what is not a number matches neither.
    pub(super) fn parity(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let operand = self.operand(call, 0)?;
        let Some(number) = operand.number() else { return Ok(()) };
        let matches = number.is_even() == (call.helper == Helper::IsEven);
        if call.body.is_some() {
            return if matches { self.body(call) } else { Ok(()) };
        }
        let index = if matches { 1 } else { 2 };
        if index >= call.operands.len() {
            return Ok(());
        }
        let item = self.operand(call, index)?;
        self.emit(call, &item)
    }

    /// `numExpr`: prints `true`, the option `out` or the block.
    pub(super) fn numeric(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let name = self.option(call, "op")?.map(|op| op.text().into_owned());
        let operator = name.and_then(|name| Operator::from_name(&name)).unwrap_or(Operator::Eq);
        if call.operands.len() < operator.operands() {
            return Err(call.misuse(format!(
                "expected {} operands, found {}",
                operator.operands(),
                call.operands.len()
            )));
        }
        if !self.holds(call, operator)? {
            return Ok(());
        }
        if call.body.is_some() {
            return self.body(call);
        }
        let out = self.option(call, "out")?.filter(|out| !out.is_missing());
        self.emit(call, &out.unwrap_or(Item::Owned(Value::Bool(true))))
    }

    fn holds(&mut self, call: &'a Call, operator: Operator) -> Result<bool, RenderError> {
        let left = self.decimal_operand(call, 0)?;
        let sign = || left.compare(&Decimal { negative: false, digits: String::new(), magnitude: 0 });
        match operator {
            Operator::Pos => return Ok(sign() == Ordering::Greater),
            Operator::Neg => return Ok(sign() == Ordering::Less),
            Operator::In => return self.is_among(call, &left),
            Operator::Nin => return self.is_among(call, &left).map(|found| !found),
            Operator::Eq | Operator::Neq | Operator::Gt | Operator::Ge | Operator::Lt | Operator::Le => {}
        }
        let order = left.compare(&self.decimal_operand(call, 1)?);
        Ok(match operator {
            Operator::Neq => order.is_ne(),
            Operator::Gt => order.is_gt(),
            Operator::Ge => order.is_ge(),
            Operator::Lt => order.is_lt(),
            Operator::Le => order.is_le(),
            Operator::Eq | Operator::Neg | Operator::Pos | Operator::In | Operator::Nin => order.is_eq(),
        })
    }

    /// True if one of the further operands, or an element of one that is a list, has this value.
    fn is_among(&mut self, call: &'a Call, left: &Decimal) -> Result<bool, RenderError> {
        for index in 1..call.operands.len() {
            let operand = self.operand(call, index)?;
            if operand.is_missing() {
                continue;
            }
            self.budget.charge_value(&operand).map_err(|exceeded| call.error(exceeded))?;
            let candidates: Vec<Item<'a>> = match operand.list() {
                Some(list) => (0..list.len()).map(|index| list.get(index)).collect(),
                None => vec![operand],
            };
            let steps = candidates.len() * STEPS_PER_DECIMAL;
            self.budget.charge(steps).map_err(|exceeded| call.error(exceeded))?;
            for candidate in &candidates {
                if left.compare(&decimal(call, index, candidate)?).is_eq() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    pub(super) fn decimal_operand(&mut self, call: &'a Call, index: usize) -> Result<Decimal, RenderError> {
        let item = self.operand(call, index)?;
        self.budget.charge_value(&item).map_err(|exceeded| call.error(exceeded))?;
        decimal(call, index, &item)
    }
}

pub(super) fn decimal(call: &Call, index: usize, item: &Item<'_>) -> Result<Decimal, RenderError> {
    item.decimal().ok_or_else(|| {
        call.misuse(format!("expected a number as operand {}, found {}", index + 1, item.kind()))
    })
}

fn equal_values(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.compare(right).is_eq(),
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len()
                && left.iter().zip(right.iter()).all(|(left, right)| equal_values(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, left)| right.get(key).is_some_and(|right| equal_values(left, right)))
        }
        (left, right) => left == right,
    }
}
