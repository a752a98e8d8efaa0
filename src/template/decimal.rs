//! Exact decimal arithmetic: what comparing, cutting and adding numbers needs.

use std::cmp::Ordering;

use super::number::Number;
use crate::limits::TEMPLATE_NUMBER_BYTES_MAX;

/// Digits before the decimal point that [`Decimal::to_integer`] writes out at most; the largest double has
/// 309.
const INTEGER_DIGITS_MAX: i64 = 400;

/// A decimal in normal form: 0.d₁d₂d₃… × 10^magnitude, without zeros at either end of the digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    pub(crate) digits: String,
    pub(crate) magnitude: i64,
}

impl Decimal {
    /// Reads `12`, `-1.50`, `.5`, `+3`, `1.2E-3`; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEMPLATE_NUMBER_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits: String = whole.chars().chain(fraction.chars()).collect();
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_start_matches('0');
        let leading_zeros = digits.len() - significant.len();
        let magnitude =
            i64::try_from(whole.len()).ok()? - i64::try_from(leading_zeros).ok()? + i64::from(exponent);
        let significant = significant.trim_end_matches('0');
        Some(Self {
            negative: negative && !significant.is_empty(),
            digits: significant.to_owned(),
            magnitude: if significant.is_empty() { 0 } else { magnitude },
        })
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => {
                self.magnitude.cmp(&other.magnitude).then_with(|| self.digits.cmp(&other.digits))
            }
        }
    }

    /// The integral part, cut towards zero; `None` if it has more than some hundred digits.
    pub(crate) fn to_integer(&self) -> Option<Number> {
        if self.magnitude > INTEGER_DIGITS_MAX {
            return None;
        }
        let length = usize::try_from(self.magnitude).unwrap_or(0);
        if length == 0 || self.digits.is_empty() {
            return Some(Number::from(0));
        }
        let mut text = String::with_capacity(length + 1);
        if self.negative {
            text.push('-');
        }
        text.extend(self.digits.chars().chain(std::iter::repeat('0')).take(length));
        Number::from_json_text(&text)
    }

    /// The value as an integer count of 10^-scale, if it fits.
    fn scaled(&self, scale: u32) -> Option<i128> {
        let shift = self.magnitude - i64::try_from(self.digits.len()).ok()? + i64::from(scale);
        let digits: i128 = if self.digits.is_empty() { 0 } else { self.digits.parse().ok()? };
        let size = digits.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
        Some(if self.negative { -size } else { size })
    }

    /// Digits after the decimal point.
    fn scale(&self) -> u32 {
        let digits = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        u32::try_from(digits.saturating_sub(self.magnitude).max(0)).unwrap_or(u32::MAX)
    }
}

/// Adds exactly. With `integral` the result prints as an integer, otherwise with at least one decimal, as
/// Java prints a sum of doubles. `None` if the numbers are too far apart to be added in 38 digits.
pub(crate) fn sum(terms: &[Decimal], integral: bool) -> Option<Number> {
    let scale = terms.iter().map(Decimal::scale).max().unwrap_or(0);
    let mut total: i128 = 0;
    for term in terms {
        total = total.checked_add(term.scaled(scale)?)?;
    }
    let sign = if total < 0 { "-" } else { "" };
    let width = usize::try_from(scale).ok()?;
    let digits = format!("{:0>width$}", total.unsigned_abs(), width = width + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len() - width)?;
    if integral {
        return Number::from_json_text(&format!("{sign}{whole}"));
    }
    let fraction = fraction.trim_end_matches('0');
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    Number::from_json_text(&format!("{sign}{whole}.{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact() {
        let total = |texts: &[&str], integral| {
            let terms: Vec<_> = texts.iter().map(|text| Decimal::parse(text).unwrap()).collect();
            sum(&terms, integral).map(|number| number.to_string())
        };
        assert_eq!(total(&["0.1", "0.2"], false).unwrap(), "0.3");
        assert_eq!(total(&["9.99", "20.01"], false).unwrap(), "30.0");
        assert_eq!(total(&["-1.5", "0.25"], false).unwrap(), "-1.25");
        assert_eq!(total(&["1", "2"], true).unwrap(), "3");
        assert_eq!(total(&[], true).unwrap(), "0");
        assert_eq!(total(&["1e300", "1"], false), None);
    }
}
