//! Formats of `fmt`, in the grammar of `java.util.Formatter`:
//! `%[index$][flags][width][.precision]conversion`.

mod parser;

use super::date_pattern::DatePattern;
use super::decimal::Decimal;
use super::item::Item;
use super::number::Number;

/// A compiled format.
#[derive(Clone, Debug)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Spec(Spec),
}

#[derive(Clone, Debug, Default)]
struct Spec {
    /// Position of the argument, from 0.
    argument: usize,
    left: bool,
    zero: bool,
    plus: bool,
    blank: bool,
    group: bool,
    width: usize,
    precision: Option<usize>,
    kind: Kind,
    upper: bool,
}

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    Text,
    Bool,
    Char,
    Integer,
    Hex,
    Octal,
    Fixed,
    Date(DatePattern),
}

impl Format {
    /// Compiles a format; the error says what was expected.
    pub(crate) fn parse(format: &str) -> Result<Self, String> {
        parser::parse(format).map(Self)
    }

    /// The number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Formats the arguments; the error says which argument did not fit, never its value.
    pub(crate) fn format(&self, arguments: &[Item<'_>]) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Spec(spec) => {
                    let argument = arguments.get(spec.argument).ok_or_else(|| {
                        format!("expected an argument number {} for the format", spec.argument + 1)
                    })?;
                    spec.write(&mut out, argument)?;
                }
            }
        }
        Ok(out)
    }
}

impl Spec {
    fn write(&self, out: &mut String, argument: &Item<'_>) -> Result<(), String> {
        let text = match &self.kind {
            Kind::Text => truncated(argument.text().into_owned(), self.precision),
            Kind::Bool => truncated(bool_text(argument).to_owned(), self.precision),
            Kind::Char => truncated(argument.text().into_owned(), Some(1)),
            Kind::Integer => self.signed(whole(argument)?.to_string()),
            Kind::Hex => format!("{:x}", small(argument)?),
            Kind::Octal => format!("{:o}", small(argument)?),
            Kind::Fixed => {
                let decimal = argument.decimal().ok_or_else(|| mismatch("a number", argument))?;
                self.signed(fixed(&decimal, self.precision.unwrap_or(6))?)
            }
            Kind::Date(pattern) => {
                pattern.format(argument.date().ok_or_else(|| mismatch("a date", argument))?)
            }
        };
        let text = if self.upper { text.to_uppercase() } else { text };
        let missing = self.width.saturating_sub(text.chars().count());
        let (sign, digits) = text.split_at(text.find(|c: char| c.is_ascii_digit()).unwrap_or(0));
        if self.left {
            out.push_str(&text);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if self.zero && matches!(self.kind, Kind::Integer | Kind::Fixed | Kind::Hex | Kind::Octal) {
            out.push_str(sign);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(digits);
        } else {
            out.extend(std::iter::repeat_n(' ', missing));
            out.push_str(&text);
        }
        Ok(())
    }

    /// Adds grouping and the sign that the flags ask for.
    fn signed(&self, text: String) -> String {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None if self.plus => ("+", &*text),
            None if self.blank => (" ", &*text),
            None => ("", &*text),
        };
        if !self.group {
            return format!("{sign}{digits}");
        }
        let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
        let mut grouped = String::with_capacity(digits.len() * 2);
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        format!("{sign}{grouped}{fraction}")
    }
}

fn truncated(text: String, precision: Option<usize>) -> String {
    match precision.and_then(|precision| text.char_indices().nth(precision)) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text,
    }
}

/// Java: a boolean is itself, anything else is true unless it is null.
fn bool_text(argument: &Item<'_>) -> &'static str {
    match argument.as_bool().unwrap_or(!argument.is_missing()) {
        true => "true",
        false => "false",
    }
}

fn mismatch(expected: &str, argument: &Item<'_>) -> String {
    format!("expected {expected} for the format, found {}", argument.kind())
}

/// An argument of `%d`: a number without a fraction.
fn whole(argument: &Item<'_>) -> Result<Number, String> {
    let number = argument.number().ok_or_else(|| mismatch("an integer", argument))?;
    let integer = number.to_integer().filter(|integer| integer.compare(number).is_eq());
    integer.ok_or_else(|| "expected an integer for the format, found a fraction".to_owned())
}

fn small(argument: &Item<'_>) -> Result<i64, String> {
    whole(argument)?.as_integer().ok_or_else(|| "expected an integer of 64 bits for the format".to_owned())
}

/// Writes a decimal with that many digits after the point, halves rounded away from zero as Java does.
fn fixed(decimal: &Decimal, precision: usize) -> Result<String, String> {
    let too_long = || "expected a shorter number for the format".to_owned();
    let point = decimal.magnitude;
    if point.unsigned_abs() > 400 || precision > 400 {
        return Err(too_long());
    }
    // Digits with at least one before the point, cut after the precision, with the next one for rounding.
    let leading = usize::try_from((1 - point).max(0)).map_err(|_| too_long())?;
    let whole = usize::try_from(point.max(1)).map_err(|_| too_long())?;
    let padded =
        std::iter::repeat_n(b'0', leading).chain(decimal.digits.bytes()).chain(std::iter::repeat(b'0'));
    let mut digits: Vec<u8> = padded.take(whole + precision + 1).collect();
    let mut carry = digits.pop().is_some_and(|next| next >= b'5');
    for digit in digits.iter_mut().rev() {
        if !carry {
            break;
        }
        carry = *digit == b'9';
        *digit = if carry { b'0' } else { *digit + 1 };
    }
    // A carry that runs off the front leaves zeros behind a new 1.
    let carried_out = carry && digits.iter().all(|digit| *digit == b'0');
    let negative = decimal.negative && (carried_out || digits.iter().any(|digit| *digit != b'0'));
    let mut text = String::from(if negative { "-" } else { "" });
    text.push_str(if carried_out { "1" } else { "" });
    for (place, digit) in digits.iter().enumerate() {
        text.push_str(if place == whole { "." } else { "" });
        text.push(char::from(*digit));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::value::{Date, Value};

    fn format(format: &str, arguments: &[Value]) -> Result<String, String> {
        let items: Vec<_> = arguments.iter().map(Item::Borrowed).collect();
        Format::parse(format)?.format(&items)
    }

    #[test]
    fn formats() {
        let number = |text| Value::from_json_text(text).unwrap();
        let date = Value::Date(Date::from_epoch_ms(1_749_081_326_718).unwrap());
        let cases: Vec<(&str, Vec<Value>, &str)> = vec![
            ("100%% %n|", vec![], "100% \n|"),
            ("%s%%%s%%%%", vec!["a".into(), "b".into()], "a%b%%"),
            ("%s %S", vec!["a".into(), "b".into()], "a B"),
            ("%2$s %1$s %<s %s", vec!["a".into(), "b".into()], "b a a a"),
            ("[%-4s][%4s][%.2s]", vec!["ab".into(), "ab".into(), "abc".into()], "[ab  ][  ab][ab]"),
            (
                "%d %5d %-5d| %05d %+d",
                vec![1.into(), 2.into(), 3.into(), (-4).into(), 5.into()],
                "1     2 3    | -0004 +5",
            ),
            ("%,d %,.2f", vec![1_234_567.into(), number("1234.5")], "1,234,567 1,234.50"),
            (
                "%.2f %.0f %f %.1f",
                vec![number("0.125"), number("9.5"), 1.into(), number("-0.04")],
                "0.13 10 1.000000 0.0",
            ),
            ("%08.2f %.3f", vec![number("-3.14159"), number("1e-2")], "-0003.14 0.010"),
            ("%x %X %o", vec![255.into(), 255.into(), 8.into()], "ff FF 10"),
            ("%b %b %c", vec![true.into(), Value::Null, "xyz".into()], "true false x"),
            ("%tA %1$tY-%1$tm-%1$td %1$tH:%1$tM", vec![date], "Wednesday 2025-06-04 23:55"),
        ];
        for (pattern, arguments, expected) in cases {
            assert_eq!(format(pattern, &arguments).as_deref(), Ok(expected), "{pattern}");
        }
    }

    #[test]
    fn what_does_not_fit() {
        let half = Value::from_json_text("0.5").unwrap();
        for (pattern, argument) in [
            ("%d", "x".into()),
            ("%d", half),
            ("%f", "x".into()),
            ("%tY", "x".into()),
            ("%2$s", "x".into()),
            ("%q", 1.into()),
            ("%<s", 1.into()),
            ("%99999999s", 1.into()),
            ("%", 1.into()),
        ] {
            assert!(format(pattern, &[argument]).is_err(), "{pattern}");
        }
    }
}
