//! Walks the tree and writes the text.

use super::RenderOptions;
use super::budget::{Budget, OverBudget};
use super::error::{RenderError, RenderFault};
use super::item::{Item, List};
use super::scope::{Frame, Iteration, Scope};
use super::syntax::{Call, Expression, Node, Path};
use super::value::Value;
use super::writer::{Output, Style};

/// One rendering.
#[derive(Debug)]
pub(crate) struct Renderer<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) output: Output,
    pub(crate) budget: Budget,
    pub(crate) options: RenderOptions,
}

impl Call {
    /// An error in this call; it is named by the helper and the first variable it works on.
    pub(crate) fn error(&self, reason: impl Into<RenderFault>) -> RenderError {
        let variable = self.operands.iter().find_map(|operand| match operand {
            Expression::Path(path) => Some(&path.text),
            Expression::Literal(_) | Expression::List(_) => None,
        });
        let name =
            variable.map_or_else(|| self.name.to_owned(), |variable| format!("{} {variable}", self.name));
        RenderError { line: self.line, name, reason: reason.into() }
    }

    /// An error about what this call was given.
    pub(crate) fn misuse(&self, message: impl Into<String>) -> RenderError {
        self.error(RenderFault::Helper(message.into()))
    }
}

impl<'a> Renderer<'a> {
    pub(crate) fn new(root: &'a Value, output: Output, options: RenderOptions, steps: u64) -> Self {
        Self { scope: Scope::new(root), output, budget: Budget::new(steps), options }
    }

    pub(crate) fn nodes(&mut self, nodes: &'a [Node]) -> Result<(), RenderError> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &'a Node) -> Result<(), RenderError> {
        match node {
            Node::Text { literal, line } => {
                let error = |OverBudget| RenderError {
                    line: *line,
                    name: String::new(),
                    reason: RenderFault::StepBudget,
                };
                self.budget.charge(literal.steps).map_err(error)?;
                self.output.literal(literal).map_err(|room| {
                    let lines = literal.text.bytes().take(room).filter(|byte| *byte == b'\n').count();
                    let line = line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
                    RenderError { line, name: String::new(), reason: RenderFault::OutputBudget }
                })
            }
            Node::Variable { path, raw, line } => {
                let error = |reason| RenderError { line: *line, name: path.text.clone(), reason };
                let item = self.find(path).map_err(|exceeded| error(exceeded.into()))?;
                self.write(&item, *raw, *line, &path.text).map_err(error)
            }
            Node::Section { path, inverted, body, line } => {
                let error = |reason| RenderError { line: *line, name: path.text.clone(), reason };
                let item = self.find(path).map_err(|exceeded| error(exceeded.into()))?;
                if *inverted {
                    return if shows_section(&item) { Ok(()) } else { self.nodes(body) };
                }
                self.section(item, body).map_err(|failure| failure.or(error))
            }
            Node::Call(call) => {
                self.budget
                    .charge(1 + call.operands.len() + call.options.len())
                    .map_err(|reason| call.error(reason))?;
                self.call(call)
            }
        }
    }

    pub(crate) fn find(&mut self, path: &Path) -> Result<Item<'a>, OverBudget> {
        self.budget.charge(1)?;
        self.scope.find(path, &mut self.budget)
    }

    /// A plain section: its rules differ from those of `if`. Zero shows it; an empty text or map does not
    /// (Tealium's documentation of badges and tallies).
    fn section(&mut self, item: Item<'a>, body: &'a [Node]) -> Result<(), Failure> {
        if !shows_section(&item) {
            return Ok(());
        }
        if item.as_bool().is_some() {
            return Ok(self.nodes(body)?);
        }
        let Some(list) = item.list() else {
            return Ok(self.with_frame(Frame::Value(item), body)?);
        };
        self.iterate(&list, body)
    }

    fn iterate(&mut self, list: &List<'a>, body: &'a [Node]) -> Result<(), Failure> {
        let size = list.len();
        for position in 0..size {
            self.budget.charge(1)?;
            let iteration = Iteration { position, size };
            self.scope.frames.push(Frame::Iteration { iteration, alias: None });
            self.with_frame(Frame::Value(list.get(position)), body)?;
            self.scope.frames.pop();
        }
        Ok(())
    }

    /// Renders `body` with one more context.
    pub(crate) fn with_frame(&mut self, frame: Frame<'a>, body: &'a [Node]) -> Result<(), RenderError> {
        self.scope.frames.push(frame);
        let result = self.nodes(body);
        self.scope.frames.pop();
        result
    }

    /// Writes a value. `name` is what the template calls it.
    fn write(&mut self, item: &Item<'a>, raw: bool, line: u32, name: &str) -> Result<(), RenderFault> {
        if item.is_missing() && self.options.strict {
            return Err(RenderFault::MissingVariable);
        }
        let before = self.output.text.len();
        self.output.value(item, raw)?;
        let written = self.output.text.len() - before;
        if written == 0 {
            self.output.note_empty_value(line, name);
        }
        Ok(self.budget.charge_bytes(written)?)
    }

    /// Writes what a helper worked out.
    pub(crate) fn emit(&mut self, call: &'a Call, item: &Item<'a>) -> Result<(), RenderError> {
        self.write(item, call.raw, call.line, call.name).map_err(|reason| call.error(reason))
    }

    /// Writes what a helper worked out, without HTML escaping.
    pub(crate) fn emit_raw(&mut self, call: &'a Call, item: &Item<'a>) -> Result<(), RenderError> {
        let raw = call.raw || self.output.style == Style::Html;
        self.write(item, raw, call.line, call.name).map_err(|reason| call.error(reason))
    }

    /// Renders a block helper's content.
    pub(crate) fn body(&mut self, call: &'a Call) -> Result<(), RenderError> {
        self.nodes(call.body.as_deref().unwrap_or_default())
    }

    /// Renders a block helper's content with one more context.
    pub(crate) fn body_with(&mut self, call: &'a Call, frame: Frame<'a>) -> Result<(), RenderError> {
        self.with_frame(frame, call.body.as_deref().unwrap_or_default())
    }

    pub(crate) fn evaluate(
        &mut self,
        call: &Call,
        expression: &'a Expression,
    ) -> Result<Item<'a>, RenderError> {
        match expression {
            Expression::Literal(value) => Ok(Item::Borrowed(value)),
            Expression::Path(path) => self.find(path).map_err(|reason| call.error(reason)),
            Expression::List(items) => {
                self.budget.charge(items.len()).map_err(|exceeded| call.error(exceeded))?;
                let values = items.iter().map(|item| self.evaluate(call, item).map(Item::into_value));
                Ok(Item::Owned(Value::List(values.collect::<Result<_, _>>()?)))
            }
        }
    }

    /// A value that is going to be looked at as a whole.
    pub(crate) fn evaluate_whole(
        &mut self,
        call: &Call,
        expression: &'a Expression,
    ) -> Result<Item<'a>, RenderError> {
        let item = self.evaluate(call, expression)?;
        self.budget.charge_value(&item).map_err(|exceeded| call.error(exceeded))?;
        Ok(item)
    }

    /// The operand at `index`; missing if there are fewer.
    pub(crate) fn operand(&mut self, call: &'a Call, index: usize) -> Result<Item<'a>, RenderError> {
        call.operands.get(index).map_or(Ok(Item::Missing), |operand| self.evaluate(call, operand))
    }

    /// All operands, to be looked at as a whole.
    pub(crate) fn operands(&mut self, call: &'a Call) -> Result<Vec<Item<'a>>, RenderError> {
        call.operands.iter().map(|operand| self.evaluate_whole(call, operand)).collect()
    }

    /// An operand that strict mode wants present.
    pub(crate) fn required(&mut self, call: &'a Call, index: usize) -> Result<Item<'a>, RenderError> {
        let item = self.operand(call, index)?;
        if item.is_missing() && self.options.strict {
            return Err(call.error(RenderFault::MissingVariable));
        }
        Ok(item)
    }

    /// The value of an option, if the call has it; it is taken to be small, and charged for if it is not.
    pub(crate) fn option(&mut self, call: &'a Call, name: &str) -> Result<Option<Item<'a>>, RenderError> {
        let Some(option) = call.option(name) else { return Ok(None) };
        self.evaluate_whole(call, option).map(Some)
    }
}

/// True if a plain section with this value is rendered.
fn shows_section(item: &Item<'_>) -> bool {
    match (item.string(), item.value()) {
        (Some(text), _) => !text.is_empty(),
        (None, Some(Value::Bool(value))) => *value,
        (None, Some(Value::List(items))) => !items.is_empty(),
        (None, Some(Value::Map(map))) => !map.is_empty(),
        (None, Some(Value::Null | Value::Number(_) | Value::String(_) | Value::Date(_))) => true,
        (None, None) => !item.is_missing(),
    }
}

/// An error that may still need the place of the section it happened in.
enum Failure {
    Placed(RenderError),
    Fault(RenderFault),
}

impl Failure {
    fn or(self, place: impl FnOnce(RenderFault) -> RenderError) -> RenderError {
        match self {
            Self::Placed(error) => error,
            Self::Fault(reason) => place(reason),
        }
    }
}

impl From<RenderError> for Failure {
    fn from(error: RenderError) -> Self {
        Self::Placed(error)
    }
}

impl From<OverBudget> for Failure {
    fn from(exceeded: OverBudget) -> Self {
        Self::Fault(exceeded.into())
    }
}
