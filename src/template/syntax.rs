//! The compiled form of a template: a tree of nodes.

use super::date_pattern::DatePattern;
use super::helpers::{Apply, Helper};
use super::printf::Format;
use super::property::Property;
use super::value::Value;
use super::writer::Literal;
use crate::limits::TEMPLATE_NAME_BYTES_MAX;

/// One node of the tree.
#[derive(Debug)]
pub(crate) enum Node {
    /// Text to print as it is.
    Text { literal: Literal, line: u32 },
    /// `{{name}}`; raw is `{{{name}}}` or `{{&name}}`.
    Variable { path: Path, raw: bool, line: u32 },
    /// `{{#name}}` or, inverted, `{{^name}}`.
    Section { path: Path, inverted: bool, body: Vec<Node>, line: u32 },
    /// A helper, with or without a body.
    Call(Box<Call>),
}

/// A use of a helper.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) helper: Helper,
    /// The helper's name as written.
    pub(crate) name: &'static str,
    /// The content of `{{#helper}}…{{/helper}}`; none for `{{helper}}`.
    pub(crate) body: Option<Vec<Node>>,
    /// `{{{helper …}}}` or `{{&helper …}}`.
    pub(crate) raw: bool,
    pub(crate) operands: Vec<Expression>,
    pub(crate) options: Vec<(String, Expression)>,
    /// What could be worked out when compiling.
    pub(crate) prepared: Prepared,
    pub(crate) line: u32,
}

impl Call {
    pub(crate) fn option(&self, name: &str) -> Option<&Expression> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, expression)| expression)
    }

    /// The option's text, if it is a literal.
    pub(crate) fn literal_option(&self, name: &str) -> Option<&str> {
        match self.option(name) {
            Some(Expression::Literal(Value::String(text))) => Some(text),
            Some(Expression::Literal(_) | Expression::Path(_) | Expression::List(_)) | None => None,
        }
    }
}

/// Parts of a helper's options that are compiled once.
#[derive(Debug)]
pub(crate) enum Prepared {
    Nothing,
    /// `else='text {name}'` of the conditions.
    Otherwise(Vec<OtherwisePiece>),
    /// `apply='skipIf:key'` of `each`.
    Apply(Apply),
    /// A literal date pattern.
    Date(DatePattern),
    /// A literal format of `fmt`.
    Printf(Format),
}

/// A piece of an `else` text.
#[derive(Debug)]
pub(crate) enum OtherwisePiece {
    Text(String),
    Variable(Path),
}

/// An operand or the value of an option.
#[derive(Debug)]
pub(crate) enum Expression {
    Literal(Value),
    Path(Path),
    /// `[a, 1, 'x']`
    List(Vec<Expression>),
}

/// A dotted name.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// As written.
    pub(crate) text: String,
    pub(crate) start: Start,
    pub(crate) rest: Vec<Part>,
}

/// The first part of a name: where the search begins.
#[derive(Clone, Debug)]
pub(crate) enum Start {
    /// `this` or `.`
    This,
    /// Searched for in the contexts, inner to outer.
    Name(Part),
}

/// One part of a name with everything it may mean, so that rendering only compares.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) index: Option<usize>,
    pub(crate) property: Option<Property>,
    pub(crate) field: Option<IterationField>,
}

/// What a loop tells about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IterationField {
    Index,
    Position,
    HasNext,
    IsFirst,
    IsLast,
    IsOdd,
    IsEven,
    IndexParity,
}

impl IterationField {
    /// The names that resolve inside a loop without `iter.`: those of Trimou's metadata object, and its older
    /// flat names.
    pub(crate) fn from_bare_name(name: &str) -> Option<Self> {
        match name {
            "index" | "iterIndex" => Some(Self::Index),
            "position" => Some(Self::Position),
            "hasNext" | "iterHasNext" => Some(Self::HasNext),
            "isFirst" | "iterIsFirst" => Some(Self::IsFirst),
            "isLast" | "iterIsLast" => Some(Self::IsLast),
            "isOdd" => Some(Self::IsOdd),
            "isEven" => Some(Self::IsEven),
            "indexParity" => Some(Self::IndexParity),
            _ => None,
        }
    }
}

impl Part {
    fn new(name: &str) -> Self {
        let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        Self {
            name: name.to_owned(),
            index: digits.then(|| name.parse().ok()).flatten(),
            property: Property::from_name(name),
            field: IterationField::from_bare_name(name),
        }
    }
}

impl Path {
    /// All parts except `this`.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        let first = match &self.start {
            Start::This => None,
            Start::Name(part) => Some(part),
        };
        first.into_iter().chain(&self.rest)
    }

    /// Splits a name at its dots; dots at the ends and repeated dots do not count. The error says what was
    /// expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let start_over = |parts: &[&str]| parts.iter().map(|part| Part::new(part)).collect();
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "\"'{}[]=".contains(c)) {
            return Err("expected a name: letters, digits, `.`, `_` or `-`".to_owned());
        }
        if text.len() > TEMPLATE_NAME_BYTES_MAX {
            return Err(format!("expected a name of at most {TEMPLATE_NAME_BYTES_MAX} bytes"));
        }
        let parts: Vec<&str> = text.split('.').filter(|part| !part.is_empty()).collect();
        let (start, rest) = match parts.as_slice() {
            [] if text == "." => (Start::This, Vec::new()),
            [] => return Err("expected a name between the dots".to_owned()),
            ["this", rest @ ..] => (Start::This, start_over(rest)),
            [name, rest @ ..] => (Start::Name(Part::new(name)), start_over(rest)),
        };
        Ok(Self { text: text.to_owned(), start, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_dots() {
        let parts = |text: &str| {
            let path = Path::parse(text).ok()?;
            let start = match path.start {
                Start::This => "this".to_owned(),
                Start::Name(part) => part.name,
            };
            Some(
                [start]
                    .into_iter()
                    .chain(path.rest.into_iter().map(|part| part.name))
                    .collect::<Vec<_>>()
                    .join("/"),
            )
        };
        let cases = [
            (".", Some("this")),
            ("this", Some("this")),
            ("this.a", Some("this/a")),
            (".a", Some("a")),
            ("a.", Some("a")),
            ("a..b.0", Some("a/b/0")),
            ("my-name_é", Some("my-name_é")),
            ("..", None),
            ("", None),
            ("a b", None),
            ("'a'", None),
            ("{a", None),
            (&*"a".repeat(TEMPLATE_NAME_BYTES_MAX + 1), None),
        ];
        for (text, expected) in cases {
            assert_eq!(parts(text).as_deref(), expected, "{text}");
        }
    }
}
