//! Numbers of the dialect: they keep the text they came with.
//!
//! `25.50` prints `25.50` and `1.0` prints `1.0`, because templates put numbers into JSON and into text for
//! people. A number that comes as a binary double has no such text: it prints as a plain decimal, integral
//! values without `.0`. Comparing and adding work on the decimal digits, so that `0.1` + `0.2` is `0.3`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::decimal::Decimal;
use crate::limits::TEMPLATE_NUMBER_BYTES_MAX;

/// A finite decimal number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(Repr);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Repr {
    Integer(i64),
    /// A JSON number in the spelling it came with.
    Text(Arc<str>),
}

impl Number {
    /// The number that a double stands for; `None` for the infinities and not-a-number.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // Up to 2^53 every integral double is exactly one integer.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            return Some(Self(Repr::Integer(value as i64)));
        }
        Some(Self(Repr::Text(value.to_string().into())))
    }

    /// The number written as `text`, if that is a number in JSON's grammar (RFC 8259, section 6) and not
    /// longer than [`TEMPLATE_NUMBER_BYTES_MAX`].
    #[must_use]
    pub fn from_json_text(text: &str) -> Option<Self> {
        if text.len() > TEMPLATE_NUMBER_BYTES_MAX || !is_json_number(text) {
            return None;
        }
        match text.parse::<i64>() {
            Ok(value) if text != "-0" => Some(Self(Repr::Integer(value))),
            Ok(_) | Err(_) => Some(Self(Repr::Text(text.into()))),
        }
    }

    /// The value, if it is spelled as an integer of 64 bits.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        match &self.0 {
            Repr::Integer(value) => Some(*value),
            Repr::Text(_) => None,
        }
    }

    /// True if the spelling has neither a fraction nor an exponent.
    pub(crate) fn is_integer_text(&self) -> bool {
        match &self.0 {
            Repr::Integer(_) => true,
            Repr::Text(text) => !text.contains(['.', 'e', 'E']),
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        match &self.0 {
            Repr::Integer(value) => *value == 0,
            Repr::Text(text) => Decimal::parse(text).is_some_and(|decimal| decimal.digits.is_empty()),
        }
    }

    /// The integral part, cut towards zero; `None` if it has more than some hundred digits.
    pub(crate) fn to_integer(&self) -> Option<Self> {
        match &self.0 {
            Repr::Integer(_) => Some(self.clone()),
            Repr::Text(text) => Decimal::parse(text)?.to_integer(),
        }
    }

    /// True if the integral part is even.
    pub(crate) fn is_even(&self) -> bool {
        self.to_integer().is_some_and(|integer| match integer.0 {
            Repr::Integer(value) => value % 2 == 0,
            Repr::Text(text) => text.bytes().last().is_some_and(|digit| digit % 2 == 0),
        })
    }

    /// Bytes of the spelling, none for a machine integer.
    pub(crate) fn text_bytes(&self) -> usize {
        match &self.0 {
            Repr::Integer(_) => 0,
            Repr::Text(text) => text.len(),
        }
    }

    /// Compares by value: 1 equals 1.0.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        if self == other {
            return Ordering::Equal;
        }
        if let (Repr::Integer(left), Repr::Integer(right)) = (&self.0, &other.0) {
            return left.cmp(right);
        }
        match (self.decimal(), other.decimal()) {
            (Some(left), Some(right)) => left.compare(&right),
            // Only a spelling with an exponent beyond i64 gets here; comparing texts is still an order.
            (_, _) => self.to_string().cmp(&other.to_string()),
        }
    }

    pub(crate) fn decimal(&self) -> Option<Decimal> {
        match &self.0 {
            Repr::Integer(value) => Decimal::parse(&value.to_string()),
            Repr::Text(text) => Decimal::parse(text),
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(Repr::Integer(value))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Integer(value) => fmt::Display::fmt(value, formatter),
            Repr::Text(text) => formatter.write_str(text),
        }
    }
}

/// True if `text` is exactly one number in JSON's grammar.
pub(crate) fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(all_digits)
        && exponent.is_none_or(all_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_plain_decimals() {
        let cases = [
            (1.0, "1"),
            (-3.0, "-3"),
            (0.0, "0"),
            (23.49, "23.49"),
            (12_345_678.0, "12345678"),
            (1e21, "1000000000000000000000"),
            (1e-7, "0.0000001"),
        ];
        for (value, text) in cases {
            assert_eq!(Number::from_f64(value).unwrap().to_string(), text);
        }
        assert_eq!(Number::from_f64(f64::NAN), None);
        assert_eq!(Number::from_f64(f64::INFINITY), None);
    }

    #[test]
    fn text_is_kept_and_checked() {
        for text in ["1.0", "25.50", "0", "-0", "1E7", "1e-400", "123456789012345678901234567890"] {
            assert_eq!(Number::from_json_text(text).unwrap().to_string(), text);
        }
        for text in ["", "-", "01", "1.", ".5", "+1", "1e", "0x1", " 1", "1,2", "NaN"] {
            assert_eq!(Number::from_json_text(text), None, "{text}");
        }
    }

    #[test]
    fn comparison_is_by_value() {
        let number = |text| Number::from_json_text(text).unwrap();
        for (left, order, right) in [
            ("1", Ordering::Equal, "1.0"),
            ("1e2", Ordering::Equal, "100"),
            ("-0", Ordering::Equal, "0"),
            ("9", Ordering::Less, "10.5"),
            ("-9", Ordering::Greater, "-10.5"),
            ("0.1", Ordering::Less, "0.11"),
            ("0.09", Ordering::Less, "0.1"),
            ("-1", Ordering::Less, "0.0"),
            ("1e-400", Ordering::Greater, "0"),
        ] {
            assert_eq!(number(left).compare(&number(right)), order, "{left} {right}");
            assert_eq!(number(right).compare(&number(left)), order.reverse(), "{right} {left}");
        }
    }

    #[test]
    fn integers_and_parity() {
        let number = |text| Number::from_json_text(text).unwrap();
        for (text, integer) in [
            ("2.9", "2"),
            ("-2.9", "-2"),
            ("1.5E3", "1500"),
            ("0.3", "0"),
            ("1e30", "1000000000000000000000000000000"),
        ] {
            assert_eq!(number(text).to_integer().unwrap().to_string(), integer);
        }
        assert_eq!(number("1e999").to_integer(), None);
        assert!(number("2.5").is_even() && number("0").is_even() && number("1e30").is_even());
        assert!(!number("3").is_even() && !number("-7.0").is_even());
    }
}
