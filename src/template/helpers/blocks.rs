//! Contexts, choices and repetition.

use std::cmp::Ordering;

use super::Helper;
use super::conditions::decimal;
use crate::template::decimal::Decimal;
use crate::template::error::RenderError;
use crate::template::item::Item;
use crate::template::render::Renderer;
use crate::template::scope::{Flow, Frame};
use crate::template::syntax::{Call, Path};

/// A name put together while rendering has to be taken apart again.
const STEPS_PER_NEW_NAME: usize = 4;

impl<'a> Renderer<'a> {
    /// `with x`: `x` becomes `this` unless it is missing; a list is not iterated.
    pub(super) fn with(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let item = self.operand(call, 0)?;
        self.push_or_emit(call, item)
    }

    /// A block has the value as its context, or is left out; without a block the value is printed.
    fn push_or_emit(&mut self, call: &'a Call, item: Item<'a>) -> Result<(), RenderError> {
        match (call.body.is_some(), item.is_missing()) {
            (true, true) => Ok(()),
            (true, false) => self.body_with(call, Frame::Value(item)),
            (false, _) => self.emit(call, &item),
        }
    }

    /// `set a=1 b=x`: names for the block. `this` stays what it is.
    pub(super) fn set(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let names = call.options.iter().map(|(name, value)| Ok((&**name, self.evaluate(call, value)?)));
        let names = names.collect::<Result<Vec<_>, RenderError>>()?;
        self.body_with(call, Frame::Names(names))
    }

    /// `alt a b …`: the first that is neither missing nor an empty text.
    pub(super) fn alternative(&mut self, call: &'a Call) -> Result<(), RenderError> {
        for operand in &call.operands {
            let item = self.evaluate(call, operand)?;
            if !item.is_missing() && item.string() != Some("") {
                return self.push_or_emit(call, item);
            }
        }
        self.push_or_emit(call, Item::Missing)
    }

    /// `min a b …`, `max a b …`: the smallest or largest number, as it was given.
    pub(super) fn extreme(&mut self, call: &'a Call, wanted: Ordering) -> Result<(), RenderError> {
        let mut chosen: Option<(Decimal, Item<'a>)> = None;
        for (index, item) in self.operands(call)?.into_iter().enumerate() {
            let number = decimal(call, index, &item)?;
            if chosen.as_ref().is_none_or(|(best, _)| number.compare(best) == wanted) {
                chosen = Some((number, item));
            }
        }
        self.push_or_emit(call, chosen.map_or(Item::Missing, |(_, item)| item))
    }

    /// `eval 'list' index`: the operands make up a name.
    pub(super) fn eval(&mut self, call: &'a Call) -> Result<(), RenderError> {
        self.budget.charge(STEPS_PER_NEW_NAME).map_err(|exceeded| call.error(exceeded))?;
        let operands = self.operands(call)?;
        let name = operands.iter().map(|item| item.text()).collect::<Vec<_>>().join(".");
        let known = operands.iter().all(|item| !item.is_missing());
        let item = match Path::parse(&name) {
            Ok(path) if known => self.find(&path).map_err(|exceeded| call.error(exceeded))?,
            Ok(_) | Err(_) => Item::Missing,
        };
        self.push_or_emit(call, item)
    }

    /// `tag 'name' params…`: a tag of this syntax as text.
    pub(super) fn tag(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let operands = self.operands(call)?;
        let mut words = operands.iter().map(|item| item.text());
        let name = words.next().unwrap_or_default().into_owned();
        let params: String = words.collect();
        let blank = if params.is_empty() { "" } else { " " };
        let sigil = if call.body.is_some() { "#" } else { "" };
        self.emit_raw(call, &Item::from_text(format!("{{{{{sigil}{name}{blank}{params}}}}}")))?;
        if call.body.is_some() {
            self.body(call)?;
            self.emit_raw(call, &Item::from_text(format!("{{{{/{name}}}}}")))?;
        }
        Ok(())
    }

    /// `switch x`, `choose`: the frame that the cases look at.
    pub(super) fn flow(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let value = match call.operands.first() {
            Some(operand) => self.evaluate(call, operand)?,
            None => self.scope.this(),
        };
        if call.helper == Helper::Switch && value.is_missing() {
            return Ok(());
        }
        self.body_with(call, Frame::Flow(Flow { value, matched: false, finished: false }))
    }

    /// `case x`: matches once, and then every case that follows does, until one has break="true".
    pub(super) fn case(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let Some((value, matched)) = self.unfinished_flow(call)? else { return Ok(()) };
        let operand = self.operand(call, 0)?;
        if !matched && (operand.is_missing() || !self.equal(call, &value, &operand)?) {
            return Ok(());
        }
        let ends = self.option(call, "break")?.is_some_and(|item| item.text().eq_ignore_ascii_case("true"));
        self.branch(call, ends)
    }

    /// `when x`: the first that holds.
    pub(super) fn when(&mut self, call: &'a Call) -> Result<(), RenderError> {
        if self.unfinished_flow(call)?.is_none() || !self.operand(call, 0)?.is_truthy() {
            return Ok(());
        }
        self.branch(call, true)
    }

    /// `default`, `otherwise`: what is left.
    pub(super) fn last_branch(&mut self, call: &'a Call) -> Result<(), RenderError> {
        match self.unfinished_flow(call)? {
            Some(_) => self.branch(call, true),
            None => Ok(()),
        }
    }

    /// The value of the `switch` or `choose` around, and whether a case has matched; none if it is finished.
    fn unfinished_flow(&self, call: &Call) -> Result<Option<(Item<'a>, bool)>, RenderError> {
        match self.scope.frames.last() {
            Some(Frame::Flow(flow)) => Ok((!flow.finished).then(|| (flow.value.clone(), flow.matched))),
            Some(Frame::Value(_) | Frame::Iteration { .. } | Frame::Names(_)) | None => {
                Err(call
                    .misuse("expected `switch` or `choose` directly around, without another context between"))
            }
        }
    }

    fn branch(&mut self, call: &'a Call, ends: bool) -> Result<(), RenderError> {
        self.body(call)?;
        if let Some(Frame::Flow(flow)) = self.scope.frames.last_mut() {
            (flow.matched, flow.finished) = (true, ends);
        }
        Ok(())
    }

    /// `repeat times=3`. Nothing in a template changes a value, so a `while` that holds would never end.
    pub(super) fn repeat(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let Some(times) = self.option(call, "times")? else {
            return if self.while_holds(call)? {
                Err(call.misuse("expected a `while` that is not always true"))
            } else {
                Ok(())
            };
        };
        let times = times
            .decimal()
            .and_then(|decimal| decimal.to_integer()?.as_integer())
            .ok_or_else(|| call.misuse(format!("expected an integer in times=…, found {}", times.kind())))?;
        for _ in 0..times {
            self.budget.charge(1).map_err(|exceeded| call.error(exceeded))?;
            self.body(call)?;
        }
        Ok(())
    }

    /// The name that `while` holds, as it is or in quotes.
    fn while_holds(&mut self, call: &'a Call) -> Result<bool, RenderError> {
        let Some(name) = call.literal_option("while") else {
            return Ok(self.option(call, "while")?.is_some_and(|item| item.is_truthy()));
        };
        let path = Path::parse(name).map_err(|message| call.misuse(message))?;
        let item = self.find(&path).map_err(|exceeded| call.error(exceeded))?;
        Ok(item.is_truthy())
    }
}
