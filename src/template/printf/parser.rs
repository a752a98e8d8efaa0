//! Reading a format.

use super::{Kind, Piece, Spec};
use crate::limits::TEMPLATE_OUTPUT_BYTES_MAX;
use crate::template::date_pattern::DatePattern;

/// Cuts a format into its pieces; the error says what was expected.
pub(super) fn parse(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = format;
    let (mut next, mut last) = (0, None);
    while let Some((text, spec)) = rest.split_once('%') {
        pieces.push(Piece::Text(text.to_owned()));
        let mut reader = Reader { rest: spec };
        match reader.spec(&mut next, &mut last)? {
            Some(spec) => pieces.push(Piece::Spec(spec)),
            None => {
                pieces.push(Piece::Text(if reader.letter() == Some('n') { "\n" } else { "%" }.to_owned()))
            }
        }
        rest = reader.rest;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn take(&mut self, character: char) -> bool {
        let rest = self.rest.strip_prefix(character);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn number(&mut self) -> Option<usize> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok()
    }

    fn letter(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = self.rest.get(letter.len_utf8()..).unwrap_or_default();
        Some(letter)
    }

    /// One specifier after its `%`; none for `%%` and `%n`, which stay in the rest.
    fn spec(&mut self, next: &mut usize, last: &mut Option<usize>) -> Result<Option<Spec>, String> {
        if self.rest.starts_with(['%', 'n']) {
            return Ok(None);
        }
        let mut spec = Spec::default();
        let explicit = self.argument_index(last)?;
        loop {
            match self.rest.chars().next() {
                Some('-') => spec.left = true,
                Some('0') => spec.zero = true,
                Some('+') => spec.plus = true,
                Some(' ') => spec.blank = true,
                Some(',') => spec.group = true,
                Some(_) | None => break,
            }
            self.letter();
        }
        spec.width = self.number().unwrap_or(0);
        if self.take('.') {
            spec.precision = Some(self.number().ok_or("expected a number after the `.` of the format")?);
        }
        if spec.width.max(spec.precision.unwrap_or(0)) > TEMPLATE_OUTPUT_BYTES_MAX {
            return Err("expected a smaller width in the format".to_owned());
        }
        let conversion = self.letter().unwrap_or(' ');
        spec.upper = conversion.is_ascii_uppercase();
        spec.kind = match conversion {
            's' | 'S' => Kind::Text,
            'b' | 'B' => Kind::Bool,
            'c' | 'C' => Kind::Char,
            'd' => Kind::Integer,
            'x' | 'X' => Kind::Hex,
            'o' => Kind::Octal,
            'f' => Kind::Fixed,
            't' | 'T' => Kind::Date(DatePattern::parse(date_letter(self.letter())?)?),
            _ => return Err("expected one of the conversions s b c d x o f t n % in the format".to_owned()),
        };
        spec.argument = explicit.unwrap_or(*next);
        *next += usize::from(explicit.is_none());
        *last = Some(spec.argument);
        Ok(Some(spec))
    }

    /// `2$`, or `<` for the argument before.
    fn argument_index(&mut self, last: &Option<usize>) -> Result<Option<usize>, String> {
        if self.take('<') {
            return last.map(Some).ok_or_else(|| "expected an argument before `%<`".to_owned());
        }
        let start = self.rest;
        match self.number() {
            Some(index) if self.take('$') => {
                index.checked_sub(1).map(Some).ok_or_else(|| "expected an argument number from 1".to_owned())
            }
            Some(_) | None => {
                self.rest = start;
                Ok(None)
            }
        }
    }
}

/// The date pattern that a letter after `%t` stands for.
fn date_letter(letter: Option<char>) -> Result<&'static str, String> {
    Ok(match letter.unwrap_or(' ') {
        'A' => "EEEE",
        'a' => "EEE",
        'B' => "MMMM",
        'b' | 'h' => "MMM",
        'Y' => "yyyy",
        'y' => "yy",
        'm' => "MM",
        'd' => "dd",
        'e' => "d",
        'j' => "DDD",
        'H' => "HH",
        'k' => "H",
        'I' => "hh",
        'l' => "h",
        'M' => "mm",
        'S' => "ss",
        'L' => "SSS",
        'p' => "a",
        'Z' => "z",
        'z' => "Z",
        'R' => "HH:mm",
        'T' => "HH:mm:ss",
        'r' => "hh:mm:ss a",
        'D' => "MM/dd/yy",
        'F' => "yyyy-MM-dd",
        'c' => "EEE MMM dd HH:mm:ss z yyyy",
        _ => return Err("expected a date letter after `%t`".to_owned()),
    })
}
