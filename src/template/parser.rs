//! Tokens to a tree of nodes.

use super::error::{CompileError, shown};
use super::helpers::Helper;
use super::lexer::{Place, Token, TokenKind, error_at, tokens};
use super::syntax::{Call, Node, Path, Prepared};
use super::tag::Words;
use super::writer::Literal;
use crate::limits::TEMPLATE_NESTING_MAX;

/// Compiles a template to its tree.
pub(crate) fn parse(source: &str) -> Result<Vec<Node>, CompileError> {
    let mut parser = Parser { root: Vec::new(), open: Vec::new(), text: String::new(), text_line: 1 };
    for token in tokens(source)? {
        parser.token(&token).map_err(|message| error_at(source, token.place, message))?;
    }
    parser.flush_text();
    match parser.open.pop() {
        None => Ok(parser.root),
        Some(block) => {
            let name = shown(block.name());
            let message = format!("expected `{{{{/{name}}}}}` before the end of the template");
            Err(error_at(source, block.place, message))
        }
    }
}

struct Parser {
    root: Vec<Node>,
    open: Vec<Block>,
    /// Text since the last tag, and the line it starts in.
    text: String,
    text_line: u32,
}

/// A section or helper block that is not closed yet.
struct Block {
    kind: BlockKind,
    body: Vec<Node>,
    place: Place,
}

enum BlockKind {
    Section { path: Path, inverted: bool },
    Call(Box<Call>),
}

impl Block {
    /// What the closing tag has to say.
    fn name(&self) -> &str {
        match &self.kind {
            BlockKind::Section { path, .. } => &path.text,
            BlockKind::Call(call) => call.name,
        }
    }

    fn helper(&self) -> Option<Helper> {
        match &self.kind {
            BlockKind::Section { .. } => None,
            BlockKind::Call(call) => Some(call.helper),
        }
    }
}

impl Parser {
    fn token(&mut self, token: &Token<'_>) -> Result<(), String> {
        let line = token.place.line;
        if let TokenKind::Text(text) = token.kind {
            self.text_line = if self.text.is_empty() { line } else { self.text_line };
            self.text.push_str(text);
            return Ok(());
        }
        self.flush_text();
        match token.kind {
            TokenKind::Variable(content) => self.variable(content, false, line)?,
            TokenKind::RawVariable(content) => self.variable(content, true, line)?,
            TokenKind::Open(content) => {
                let kind = match self.call(content, false, line)? {
                    Some(call) => BlockKind::Call(Box::new(Call { body: Some(Vec::new()), ..call })),
                    None => BlockKind::Section { path: Path::parse(content)?, inverted: false },
                };
                self.open(kind, token.place)?;
            }
            TokenKind::OpenInverted(content) => {
                if Helper::from_name(Words::parse(content)?.name).is_some() {
                    return Err("expected a variable after `^`: a helper has no inverted form".to_owned());
                }
                self.open(BlockKind::Section { path: Path::parse(content)?, inverted: true }, token.place)?;
            }
            TokenKind::Close(name) => self.close(name)?,
            TokenKind::Text(_) | TokenKind::Silent => {}
        }
        Ok(())
    }

    fn nodes(&mut self) -> &mut Vec<Node> {
        match self.open.last_mut() {
            Some(block) => &mut block.body,
            None => &mut self.root,
        }
    }

    fn flush_text(&mut self) {
        if !self.text.is_empty() {
            let node =
                Node::Text { literal: Literal::new(std::mem::take(&mut self.text)), line: self.text_line };
            self.nodes().push(node);
        }
    }

    fn variable(&mut self, content: &str, raw: bool, line: u32) -> Result<(), String> {
        if content == "else" {
            return Err(
                "expected `{{^name}}` or the option else='…': `{{else}}` does not exist here".to_owned()
            );
        }
        let node = match self.call(content, raw, line)? {
            Some(call) => {
                call.helper.check_use(&call)?;
                Node::Call(Box::new(Call { prepared: call.helper.prepare(&call)?, ..call }))
            }
            None => Node::Variable { path: Path::parse(content)?, raw, line },
        };
        self.nodes().push(node);
        Ok(())
    }

    /// A helper's call, if the first word names a helper.
    fn call(&self, content: &str, raw: bool, line: u32) -> Result<Option<Call>, String> {
        let first = content.split_whitespace().next().unwrap_or_default();
        let Some((name, helper)) = Helper::from_name(first) else {
            if first.len() == content.len() {
                return Ok(None);
            }
            let first = shown(first);
            return Err(format!(
                "expected a helper, found `{first}` with operands; a variable's name has no blanks"
            ));
        };
        let Words { operands, options, .. } = Words::parse(content)?;
        let prepared = Prepared::Nothing;
        Ok(Some(Call { helper, name, body: None, raw, operands, options, prepared, line }))
    }

    fn open(&mut self, kind: BlockKind, place: Place) -> Result<(), String> {
        if self.open.len() >= TEMPLATE_NESTING_MAX {
            return Err(format!("expected at most {TEMPLATE_NESTING_MAX} sections inside one another"));
        }
        let kind = match kind {
            BlockKind::Call(mut call) => {
                call.helper.check_use(&call)?;
                self.check_place(&call)?;
                call.prepared = call.helper.prepare(&call)?;
                BlockKind::Call(call)
            }
            BlockKind::Section { path, inverted } => BlockKind::Section { path, inverted },
        };
        self.open.push(Block { kind, body: Vec::new(), place });
        Ok(())
    }

    /// `case` and `default` belong to a `switch`, `when` and `otherwise` to a `choose`.
    fn check_place(&self, call: &Call) -> Result<(), String> {
        let Some((owner, owner_name)) = call.helper.owner() else { return Ok(()) };
        let flow = |helper: &Helper| matches!(helper, Helper::Switch | Helper::Choose);
        match self.open.iter().rev().filter_map(Block::helper).find(flow) {
            Some(helper) if helper == owner => Ok(()),
            Some(_) | None => {
                Err(format!("expected `{{{{#{owner_name}}}}}` around `{{{{#{}}}}}`", call.name))
            }
        }
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        let Some(block) = self.open.pop() else {
            return Err(format!("expected an opening tag before `{{{{/{}}}}}`", shown(name)));
        };
        if block.name() != name {
            let (expected, found) = (shown(block.name()), shown(name));
            return Err(format!("expected `{{{{/{expected}}}}}`, found `{{{{/{found}}}}}`"));
        }
        let Block { kind, body, place } = block;
        let node = match kind {
            BlockKind::Section { path, inverted } => Node::Section { path, inverted, body, line: place.line },
            BlockKind::Call(mut call) => {
                call.body = Some(body);
                Node::Call(call)
            }
        };
        self.nodes().push(node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_their_place_and_what_was_expected() {
        let cases = [
            ("Hello {{#foo}} and...", "line 1, column 7: expected `{{/foo}}` before the end"),
            ("{{#foo}}{{/foo}}\n {{/bar}}", "line 2, column 2: expected an opening tag before `{{/bar}}`"),
            ("Hello,\n{{^foo}}{{/bar}}", "line 2, column 9: expected `{{/foo}}`, found `{{/bar}}`"),
            ("{{#if a}}x{{/if a}}", "expected `{{/if}}`"),
            ("{{#if a}}x{{else}}y{{/if}}", "line 1, column 11: expected `{{^name}}`"),
            ("{{foo 'x'}}", "expected a helper, found `foo`"),
            ("{{#foo x}}{{/foo}}", "expected a helper, found `foo`"),
            ("{{^if x}}{{/if}}", "expected a variable after `^`"),
            ("{{\"x\"}}", "expected a name"),
            ("{{#case 1}}{{/case}}", "expected `{{#switch}}` around"),
            (
                "{{#choose}}{{#switch a}}{{#when b}}{{/when}}{{/switch}}{{/choose}}",
                "expected `{{#choose}}` around",
            ),
        ];
        for (source, message) in cases {
            let error = parse(source).unwrap_err().to_string();
            assert!(error.contains(message), "{source}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "{{#a}}".repeat(levels), "{{/a}}".repeat(levels));
        assert!(parse(&nested(TEMPLATE_NESTING_MAX)).is_ok());
        let error = parse(&nested(TEMPLATE_NESTING_MAX + 1)).unwrap_err().to_string();
        assert!(error.contains("expected at most 32 sections"), "{error}");
    }
}
