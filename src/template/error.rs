//! What can go wrong in a template.
//!
//! No message shows the value of a variable or the literal text of a template: they name lines, columns,
//! variables and helpers.

use std::fmt;

use crate::limits::{TEMPLATE_OUTPUT_BYTES_MAX, TEMPLATE_STEPS_MAX};

/// A word of a template as an error shows it: on one line, and cut if it is long.
pub(crate) fn shown(word: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let cut = if word.chars().nth(CHARACTERS_MAX).is_some() { "…" } else { "" };
    let printable = word.chars().map(|character| if character.is_control() { ' ' } else { character });
    printable.take(CHARACTERS_MAX).chain(cut.chars()).collect()
}

/// A template that does not compile: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What the compiler expected, and what it found if that has a name.
    pub message: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, message } = self;
        write!(formatter, "line {line}, column {column}: {message}")
    }
}

impl std::error::Error for CompileError {}

/// A rendering that failed: the line of the template, the variable or helper at fault, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderError {
    /// Line of the template, from 1.
    pub line: u32,
    /// The variable or helper at fault, as the template names it; empty if it is the text itself.
    pub name: String,
    /// Why.
    pub reason: RenderFault,
}

/// Why a rendering failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderFault {
    /// Strict mode: the variable is missing or null.
    MissingVariable,
    /// The helper cannot work with what it was given.
    Helper(String),
    /// JSON mode: the value does not fit where its tag stands, or the result is not JSON.
    Json(String),
    /// More steps than [`TEMPLATE_STEPS_MAX`].
    StepBudget,
    /// More text than [`TEMPLATE_OUTPUT_BYTES_MAX`].
    OutputBudget,
}

impl fmt::Display for RenderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: ", self.line)?;
        if !self.name.is_empty() {
            write!(formatter, "`{}`: ", self.name)?;
        }
        match &self.reason {
            RenderFault::MissingVariable => {
                formatter.write_str("expected a variable of this name, strict mode is on")
            }
            RenderFault::Helper(message) | RenderFault::Json(message) => formatter.write_str(message),
            RenderFault::StepBudget => {
                write!(
                    formatter,
                    "expected at most {TEMPLATE_STEPS_MAX} steps, the template loops over too much data"
                )
            }
            RenderFault::OutputBudget => {
                write!(formatter, "expected at most {TEMPLATE_OUTPUT_BYTES_MAX} bytes of text")
            }
        }
    }
}

impl std::error::Error for RenderError {}
