//! The inside of a tag: a helper's name, operands and options.

use super::number::Number;
use super::syntax::{Expression, Path};
use super::value::Value;

/// A tag's content taken apart.
#[derive(Debug)]
pub(crate) struct Words<'s> {
    /// The first word.
    pub(crate) name: &'s str,
    pub(crate) operands: Vec<Expression>,
    pub(crate) options: Vec<(String, Expression)>,
}

impl<'s> Words<'s> {
    /// Takes a tag's content apart; the error says what was expected.
    pub(crate) fn parse(content: &'s str) -> Result<Self, String> {
        let end = content.find(char::is_whitespace).unwrap_or(content.len());
        let (name, rest) = content.split_at(end);
        let mut reader = Reader { rest };
        let (mut operands, mut options) = (Vec::new(), Vec::new());
        while reader.blank()? {
            match reader.key() {
                Some(key) => options.push((key.to_owned(), reader.expression()?)),
                None => operands.push(reader.expression()?),
            }
        }
        Ok(Self { name, operands, options })
    }
}

struct Reader<'s> {
    rest: &'s str,
}

impl<'s> Reader<'s> {
    /// Takes the blanks before the next word; false at the end.
    fn blank(&mut self) -> Result<bool, String> {
        let rest = self.rest.trim_start();
        if !rest.is_empty() && rest.len() == self.rest.len() {
            return Err("expected a blank between the words of this tag".to_owned());
        }
        self.rest = rest;
        Ok(!rest.is_empty())
    }

    /// Takes `key=`.
    fn key(&mut self) -> Option<&'s str> {
        let end = self.rest.find(|c: char| c.is_whitespace() || "='\"[".contains(c))?;
        let (key, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix('=').filter(|_| !key.is_empty())?;
        Some(key)
    }

    /// Takes characters up to one of `ends`, or all.
    fn until(&mut self, is_end: impl Fn(char) -> bool) -> &'s str {
        let (word, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn expression(&mut self) -> Result<Expression, String> {
        if let Some(rest) = self.rest.strip_prefix('[') {
            self.rest = rest;
            return self.list();
        }
        self.single(char::is_whitespace)
    }

    /// A literal or a name; a name goes up to `is_end`.
    fn single(&mut self, is_end: impl Fn(char) -> bool) -> Result<Expression, String> {
        let quote = self.rest.chars().next().filter(|first| matches!(first, '\'' | '"'));
        if let Some(quote) = quote {
            let inside = self.rest.get(1..).unwrap_or_default();
            let Some((text, rest)) = inside.split_once(quote) else {
                return Err(format!("expected a closing {quote}"));
            };
            self.rest = rest;
            return Ok(Expression::Literal(Value::from(text)));
        }
        let word = self.until(is_end);
        match word {
            "true" => return Ok(Expression::Literal(Value::Bool(true))),
            "false" => return Ok(Expression::Literal(Value::Bool(false))),
            _ => {}
        }
        match integer(word) {
            Some(number) => Ok(Expression::Literal(Value::Number(number))),
            None => Path::parse(word).map(Expression::Path),
        }
    }

    /// `a, 1, 'x']`
    fn list(&mut self) -> Result<Expression, String> {
        let mut items = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if items.is_empty()
                && let Some(rest) = self.rest.strip_prefix(']')
            {
                self.rest = rest;
                return Ok(Expression::List(items));
            }
            items.push(self.single(|c| c.is_whitespace() || c == ',' || c == ']')?);
            let rest = self.rest.trim_start();
            if let Some(rest) = rest.strip_prefix(']') {
                self.rest = rest;
                return Ok(Expression::List(items));
            }
            self.rest = rest.strip_prefix(',').ok_or("expected `,` or `]` in the list")?;
        }
    }
}

/// `12`, `+12`, `-12`, `12L`: the only numbers that a tag can hold. A decimal is written as text.
fn integer(word: &str) -> Option<Number> {
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let digits = unsigned.strip_suffix(['l', 'L']).unwrap_or(unsigned);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let sign = if word.starts_with('-') { "-" } else { "" };
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some(Number::from(0));
    }
    Number::from_json_text(&format!("{sign}{significant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expression: &Expression) -> String {
        match expression {
            Expression::Literal(Value::String(text)) => format!("'{text}'"),
            Expression::Literal(value) => value.to_string(),
            Expression::Path(path) => format!("${}", path.text),
            Expression::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        }
    }

    #[test]
    fn words() {
        let cases = [
            ("name foo.bar", "name|$foo.bar|"),
            ("name  hash1=\"DD-MM-yyyy HH:mm\"", "name||hash1='DD-MM-yyyy HH:mm'"),
            ("n 'a \"b\" =' x=y z='m = \n k'", "n|'a \"b\" ='|x=$y z='m = \n k'"),
            ("n 12 +12 -0012 12L -3l true false 1.0", "n|12 12 -12 12 -3 true false $1.0|"),
            ("n [ 'foo', bar , 1] [] x=['a']", "n|['foo',$bar,1] []|x=['a']"),
            ("n a\n\tb", "n|$a $b|"),
            ("n", "n||"),
        ];
        for (content, expected) in cases {
            let words = Words::parse(content).unwrap();
            let operands: Vec<_> = words.operands.iter().map(shown).collect();
            let options: Vec<_> =
                words.options.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
            assert_eq!(format!("{}|{}|{}", words.name, operands.join(" "), options.join(" ")), expected);
        }
    }

    #[test]
    fn what_is_no_word() {
        let cases = [
            ("n key='value foo", "closing '"),
            ("n key=value'", "expected a name"),
            ("n 'a'b", "expected a blank"),
            ("n key=", "expected a name"),
            ("n = x", "expected a name"),
            ("n [a b]", "expected `,` or `]`"),
            ("n [a,", "expected a name"),
            ("n [[1]]", "expected a name"),
        ];
        for (content, message) in cases {
            let error = Words::parse(content).unwrap_err();
            assert!(error.contains(message), "{content}: {error}");
        }
    }
}
