//! The templating dialect of Tealium's connectors: Mustache (specification 1.4 without partials), the helpers
//! of Trimou 2.3 and Tealium's own. Text in, text out: no partials, no recursion, no reflection, no input or
//! output, and the value of a variable is never read as a template.
//!
//! A [`Template`] is compiled once, shared between threads and rendered many times with [`Variables`]. In
//! [`Mode::Json`] a value can never add a key or an element to the document, nor end a string. Budgets are in
//! [`crate::limits`].
//!
//! The way of a template: `lexer` (tags, standalone lines) → `parser` and `tag` (the tree of `syntax`;
//! `helpers` check their use) → `render` with `scope` (contexts, names), `property` (pseudo-properties),
//! `helpers` → `writer` (escaping, the place in a JSON document). Values: `value`, `number`, `decimal`,
//! `json`, `variables`, and while rendering `item`. Formats: `date_pattern`, `printf`.

mod budget;
mod date_pattern;
mod decimal;
mod error;
mod exercise;
mod helpers;
mod item;
mod json;
mod lexer;
mod number;
mod parser;
mod printf;
mod property;
mod render;
mod scope;
mod syntax;
mod tag;
mod value;
mod variables;
mod writer;

pub use error::{CompileError, RenderError, RenderFault};
pub use exercise::exercise;
pub use json::DATE_KEY;
pub use number::Number;
pub use value::{Date, Map, Value};
pub use variables::{Variables, VariablesError};

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{TEMPLATE_OUTPUT_BYTES_MAX, TEMPLATE_STEPS_MAX};
use render::Renderer;
use syntax::Node;
use writer::{EmptyValue, JsonPlace, Output, Style};

/// What a template renders to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Plain text: values are written as they are.
    Text,
    /// A JSON document: values are escaped inside strings and must be whole scalars outside of them.
    Json,
    /// HTML, as the Mustache specification and Trimou's tests want it; no field of a message is HTML.
    Html,
}

/// What one rendering depends on besides its variables.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// A missing variable is an error that names it, instead of an empty text.
    pub strict: bool,
    /// The time that `unixTimestamp` prints.
    pub now: Date,
}

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    nodes: Vec<Node>,
    mode: Mode,
    /// Bytes that the last rendering came to: room for the next one, so that it is not moved while it grows.
    expected_bytes: AtomicUsize,
}

impl Template {
    /// Compiles `source`.
    ///
    /// # Errors
    /// If it does not follow the dialect or exceeds a budget; the error names the place.
    pub fn compile(source: &str, mode: Mode) -> Result<Self, CompileError> {
        Ok(Self { nodes: parser::parse(source)?, mode, expected_bytes: AtomicUsize::new(source.len()) })
    }

    /// Renders the template.
    ///
    /// # Errors
    /// If a helper cannot work with what it is given, a budget is exceeded, a variable is missing in strict
    /// mode, or in JSON mode a value does not fit its place or the result is not one JSON value.
    pub fn render(&self, variables: &Variables, options: &RenderOptions) -> Result<String, RenderError> {
        self.render_within(variables, options, &mut TEMPLATE_STEPS_MAX.clone())
    }

    /// Renders the template as [`render`](Self::render) does, in no more than so many steps, and takes those that it
    /// needed off them. None are left after [`RenderFault::StepBudget`].
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_within(
        &self,
        variables: &Variables,
        options: &RenderOptions,
        steps: &mut u64,
    ) -> Result<String, RenderError> {
        let output = self.run(variables, options, TEMPLATE_OUTPUT_BYTES_MAX, steps)?;
        if self.mode == Mode::Json {
            json::check_json(&output.text)
                .map_err(|error| self.not_json(&error, &output, variables, options))?;
        }
        self.expected_bytes.store(output.text.len(), Ordering::Relaxed);
        Ok(output.text)
    }

    /// True if it prints no variable: every rendering is the same.
    pub fn is_constant(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node, Node::Text { .. }))
    }

    fn run(
        &self,
        variables: &Variables,
        options: &RenderOptions,
        limit: usize,
        steps: &mut u64,
    ) -> Result<Output, RenderError> {
        let style = match self.mode {
            Mode::Text => Style::Text,
            Mode::Json => Style::Json(JsonPlace::Outside),
            Mode::Html => Style::Html,
        };
        let mut output = Output::new(style, limit);
        output.text.reserve(self.expected_bytes.load(Ordering::Relaxed));
        let mut renderer = Renderer::new(&variables.root, output, *options, *steps);
        let before = renderer.budget.steps_left();
        let rendered = renderer.nodes(&self.nodes);
        *steps = match &rendered {
            Err(RenderError { reason: RenderFault::StepBudget, .. }) => 0,
            Ok(()) | Err(_) => *steps - (before - renderer.budget.steps_left()),
        };
        rendered.map(|()| renderer.output)
    }

    /// The error for a result that is not JSON: at the tag that printed nothing there, or where the template
    /// stood when it went wrong, found by rendering once more up to that point.
    fn not_json(
        &self,
        error: &serde_json::Error,
        output: &Output,
        variables: &Variables,
        options: &RenderOptions,
    ) -> RenderError {
        let offset = offset_of(error, &output.text);
        let blank =
            |start: usize| output.text.get(start..offset).is_some_and(|between| between.trim().is_empty());
        if let Some(EmptyValue { line, name, .. }) =
            output.empty_values.iter().rev().find(|empty| blank(empty.offset))
        {
            let reason = writer::json_fault("expected a value: the tag printed nothing outside a string");
            return RenderError { line: *line, name: name.clone(), reason };
        }
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let reason = RenderFault::Json(format!("expected the result to be JSON: {message}"));
        match self.run(variables, options, offset, &mut TEMPLATE_STEPS_MAX.clone()) {
            Err(stopped) => RenderError { reason, ..stopped },
            Ok(_) => RenderError { line: self.last_line(), name: String::new(), reason },
        }
    }

    fn last_line(&self) -> u32 {
        self.nodes.last().map_or(1, |node| match node {
            Node::Text { literal, line } => line
                .saturating_add(u32::try_from(literal.text.lines().count().saturating_sub(1)).unwrap_or(0)),
            Node::Variable { line, .. } | Node::Section { line, .. } => *line,
            Node::Call(call) => call.line,
        })
    }
}

/// The place in `text` that the error is about: the first byte that does not belong there.
fn offset_of(error: &serde_json::Error, text: &str) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let before: usize = lines.map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}
