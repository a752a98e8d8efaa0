//! Source text to tokens: pieces of text and tags, with standalone lines already removed.

use super::error::{CompileError, shown};
use crate::limits::{TEMPLATE_SOURCE_BYTES_MAX, TEMPLATE_TAGS_MAX};

/// A piece of text or a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'s> {
    pub(crate) kind: TokenKind<'s>,
    /// Where it starts.
    pub(crate) place: Place,
}

/// A place in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) line: u32,
}

/// What a token is. Contents are trimmed and without their sigil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind<'s> {
    /// Text up to and with the end of a line, or up to a tag.
    Text(&'s str),
    /// `{{name}}`
    Variable(&'s str),
    /// `{{{name}}}` and `{{&name}}`
    RawVariable(&'s str),
    /// `{{#name}}`
    Open(&'s str),
    /// `{{^name}}`
    OpenInverted(&'s str),
    /// `{{/name}}`
    Close(&'s str),
    /// Comments and delimiter changes: nothing to render.
    Silent,
}

const DEFAULT_OPEN: &str = "{{";
const DEFAULT_CLOSE: &str = "}}";

/// Cuts `source` into tokens.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token<'_>>, CompileError> {
    if source.len() > TEMPLATE_SOURCE_BYTES_MAX {
        let message = format!("expected at most {TEMPLATE_SOURCE_BYTES_MAX} bytes, found {}", source.len());
        return Err(CompileError { line: 1, column: 1, message });
    }
    let mut lexer = Lexer {
        source,
        place: Place { offset: 0, line: 1 },
        open: DEFAULT_OPEN,
        close: DEFAULT_CLOSE,
        tags: 0,
        tokens: Vec::new(),
    };
    while lexer.text_and_tag()? {}
    remove_standalone_lines(&mut lexer.tokens);
    Ok(lexer.tokens)
}

/// An error at `place`, its column counted in characters.
pub(crate) fn error_at(source: &str, place: Place, message: impl Into<String>) -> CompileError {
    let before = source.get(..place.offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count();
    let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
    CompileError { line: place.line, column, message: message.into() }
}

struct Lexer<'s> {
    source: &'s str,
    place: Place,
    open: &'s str,
    close: &'s str,
    tags: usize,
    tokens: Vec<Token<'s>>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.place.offset..).unwrap_or_default()
    }

    fn advance(&mut self, text: &str) {
        self.place.offset += text.len();
        let lines = text.bytes().filter(|byte| *byte == b'\n').count();
        self.place.line = self.place.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }

    fn push(&mut self, kind: TokenKind<'s>, place: Place) {
        self.tokens.push(Token { kind, place });
    }

    /// Takes the text up to the next tag and that tag; false at the end of the source.
    fn text_and_tag(&mut self) -> Result<bool, CompileError> {
        let rest = self.rest();
        let Some(text) = rest.find(self.open).and_then(|start| rest.get(..start)) else {
            self.text(rest);
            return Ok(false);
        };
        self.text(text);
        let place = self.place;
        self.tags += 1;
        if self.tags > TEMPLATE_TAGS_MAX {
            return Err(error_at(self.source, place, format!("expected at most {TEMPLATE_TAGS_MAX} tags")));
        }
        self.advance(self.open);
        let kind = self.tag(place)?;
        self.push(kind, place);
        Ok(true)
    }

    fn text(&mut self, text: &'s str) {
        for line in text.split_inclusive('\n') {
            let place = self.place;
            self.advance(line);
            self.push(TokenKind::Text(line), place);
        }
    }

    /// Takes the content up to `terminator` and the terminator.
    fn content(&mut self, terminator: &str, place: Place) -> Result<&'s str, CompileError> {
        let rest = self.rest();
        let content = rest.find(terminator).and_then(|end| rest.get(..end));
        let Some(content) = content else {
            return Err(error_at(
                self.source,
                place,
                format!("expected `{}` at the end of this tag", shown(terminator)),
            ));
        };
        if self.open != self.close && content.contains(self.open) {
            let (terminator, open) = (shown(terminator), shown(self.open));
            let message = format!("expected `{terminator}` before the next `{open}`");
            return Err(error_at(self.source, place, message));
        }
        self.advance(content);
        self.advance(terminator);
        Ok(content)
    }

    fn tag(&mut self, place: Place) -> Result<TokenKind<'s>, CompileError> {
        let rest = self.rest();
        if self.open == DEFAULT_OPEN && self.close == DEFAULT_CLOSE && rest.starts_with('{') {
            self.advance("{");
            let content = self.content("}}}", place)?;
            return self.named(content, place).map(TokenKind::RawVariable);
        }
        if rest.starts_with('=') {
            self.delimiters(place)?;
            return Ok(TokenKind::Silent);
        }
        let content = self.content(self.close, place)?.trim();
        let name = content.get(1..).unwrap_or_default();
        match content.as_bytes().first() {
            Some(b'!') => Ok(TokenKind::Silent),
            Some(b'#') => self.named(name, place).map(TokenKind::Open),
            Some(b'^') => self.named(name, place).map(TokenKind::OpenInverted),
            Some(b'/') => self.named(name, place).map(TokenKind::Close),
            Some(b'&') => self.named(name, place).map(TokenKind::RawVariable),
            Some(b'>' | b'<' | b'$' | b'+') => {
                let message =
                    "expected a variable, section or helper: partials and inheritance do not exist here";
                Err(error_at(self.source, place, message))
            }
            Some(_) | None => self.named(content, place).map(TokenKind::Variable),
        }
    }

    fn named(&self, name: &'s str, place: Place) -> Result<&'s str, CompileError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(error_at(self.source, place, "expected a name in this tag"));
        }
        Ok(name)
    }

    /// `{{=<% %>=}}`: both delimiters, blanks between them, no `=` in them.
    fn delimiters(&mut self, place: Place) -> Result<(), CompileError> {
        self.advance("=");
        let expected = "expected two delimiters between `=` signs, as in `=<% %>=`";
        let rest = self.rest();
        let terminator = format!("={}", self.close);
        let content = rest.find(&terminator).and_then(|end| rest.get(..end));
        let mut parts = content.unwrap_or_default().split_whitespace();
        let (Some(content), Some(open), Some(close), None) =
            (content, parts.next(), parts.next(), parts.next())
        else {
            return Err(error_at(self.source, place, expected));
        };
        if content.contains('=') {
            return Err(error_at(self.source, place, expected));
        }
        self.advance(content);
        self.advance(&terminator);
        (self.open, self.close) = (open, close);
        Ok(())
    }
}

/// Lines that hold only blanks and at least one tag that prints nothing itself vanish with their line end, as
/// in the Mustache specification. Trimou also removes lines with several such tags.
fn remove_standalone_lines(tokens: &mut Vec<Token<'_>>) {
    let ends_line = |token: &Token<'_>| matches!(token.kind, TokenKind::Text(text) if text.ends_with('\n'));
    for line in tokens.split_inclusive_mut(ends_line) {
        let mut has_tag = false;
        let removable = line.iter().all(|token| match token.kind {
            TokenKind::Text(text) => text.bytes().all(|byte| byte.is_ascii_whitespace()),
            TokenKind::Variable(_) | TokenKind::RawVariable(_) => false,
            TokenKind::Open(_) | TokenKind::OpenInverted(_) | TokenKind::Close(_) | TokenKind::Silent => {
                has_tag = true;
                true
            }
        });
        if removable && has_tag {
            for token in line {
                if matches!(token.kind, TokenKind::Text(_)) {
                    token.kind = TokenKind::Silent;
                }
            }
        }
    }
    tokens.retain(|token| token.kind != TokenKind::Silent);
}

#[cfg(test)]
mod tests {
    use super::TokenKind::{Close, Open, RawVariable, Text, Variable};
    use super::*;

    #[test]
    fn a_tag_ends_at_the_first_close() {
        let cases: [(&str, &[TokenKind<'_>]); 6] = [
            ("{\"a\":{{n}}}", &[Text("{\"a\":"), Variable("n"), Text("}")]),
            ("{{{s}}}}", &[RawVariable("s"), Text("}")]),
            ("{{& s }}{{ #b }}{{/ b }}", &[RawVariable("s"), Open("b"), Close("b")]),
            ("{ {{s}} }}", &[Text("{ "), Variable("s"), Text(" }}")]),
            ("{{=| |=}}|x|{{x}}|={{ }}=|{{y}}", &[Variable("x"), Text("{{x}}"), Variable("y")]),
            ("a\n {{#b}} {{/b}}\r\nc", &[Text("a\n"), Open("b"), Close("b"), Text("c")]),
        ];
        for (source, expected) in cases {
            let kinds: Vec<_> = tokens(source).unwrap().into_iter().map(|token| token.kind).collect();
            assert_eq!(kinds, expected, "{source}");
        }
    }

    #[test]
    fn errors_name_their_place() {
        let cases = [
            ("Hello\n\n {{}}", "line 3, column 2: expected a name"),
            ("é {{#  }}", "line 1, column 3: expected a name"),
            ("{{foo", "line 1, column 1: expected `}}` at the end"),
            ("{{{s}}", "expected `}}}` at the end"),
            ("{{a {{b}}", "expected `}}` before the next `{{`"),
            ("{{==}}", "expected two delimiters"),
            ("{{=%% %%}}", "expected two delimiters"),
            ("{{= %}}", "expected two delimiters"),
            ("{{= =}}", "expected two delimiters"),
            ("{{=a b c=}}", "expected two delimiters"),
            ("{{=a= b=}}", "expected two delimiters"),
            ("{{>p}}", "partials and inheritance do not exist"),
            ("{{$b}}{{/b}}", "partials and inheritance do not exist"),
        ];
        for (source, message) in cases {
            let error = tokens(source).unwrap_err().to_string();
            assert!(error.contains(message), "{source}: {error}");
        }
    }

    #[test]
    fn budgets() {
        assert!(tokens(&"x".repeat(TEMPLATE_SOURCE_BYTES_MAX)).is_ok());
        assert!(tokens(&"x".repeat(TEMPLATE_SOURCE_BYTES_MAX + 1)).is_err());
        assert!(tokens(&"{{x}}".repeat(TEMPLATE_TAGS_MAX)).is_ok());
        assert!(tokens(&"{{x}}".repeat(TEMPLATE_TAGS_MAX + 1)).is_err());
    }
}
