//! Date patterns as `java.text.SimpleDateFormat` (JDK 17) reads them: English names, UTC, weeks from Sunday.

use std::fmt::Write as _;

use time::{Date as Day, Month, OffsetDateTime};

use super::value::Date;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatePattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A pattern letter and how often it is repeated.
    Field(char, usize),
}

const LETTERS: &str = "GyYMLwWDdFEuaHkKhmsSzZX";

impl DatePattern {
    /// Compiles a pattern; the error says what was expected.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            if first == '\'' {
                let (text, after) = quoted(rest.get(1..).unwrap_or_default())?;
                pieces.push(Piece::Text(text));
                rest = after;
                continue;
            }
            let run = if first.is_ascii_alphabetic() {
                rest.find(|c| c != first)
            } else {
                rest.find(|c: char| c.is_ascii_alphabetic() || c == '\'')
            };
            let (run, after) = rest.split_at(run.unwrap_or(rest.len()));
            rest = after;
            if !first.is_ascii_alphabetic() {
                pieces.push(Piece::Text(run.to_owned()));
            } else if !LETTERS.contains(first) {
                return Err(format!(
                    "expected one of the pattern letters {LETTERS}, found `{first}`; quote text with '"
                ));
            } else if first == 'X' && run.len() > 3 {
                return Err("expected one to three `X` in the date pattern".to_owned());
            } else {
                pieces.push(Piece::Field(first, run.len()));
            }
        }
        Ok(Self(pieces))
    }

    pub(crate) fn format(&self, date: Date) -> String {
        let utc = date.utc();
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(letter, count) => field(&mut out, *letter, *count, utc),
            }
        }
        out
    }
}

/// The text up to the closing quote, and what follows it; two quotes stand for one.
fn quoted(rest: &str) -> Result<(String, &str), String> {
    if let Some(after) = rest.strip_prefix('\'') {
        return Ok(("'".to_owned(), after));
    }
    let mut text = String::new();
    let mut rest = rest;
    loop {
        let Some((inside, after)) = rest.split_once('\'') else {
            return Err("expected a closing ' in the date pattern".to_owned());
        };
        text.push_str(inside);
        let Some(more) = after.strip_prefix('\'') else {
            return Ok((text, after));
        };
        text.push('\'');
        rest = more;
    }
}

fn field(out: &mut String, letter: char, count: usize, utc: OffsetDateTime) {
    let hour = i64::from(utc.hour());
    match letter {
        'G' => out.push_str(if utc.year() > 0 { "AD" } else { "BC" }),
        'y' => year(out, count, utc.year()),
        'Y' => year(out, count, week(utc.date()).1),
        'M' | 'L' if count >= 4 => out.push_str(month_name(utc.month())),
        'M' | 'L' if count == 3 => out.push_str(month_name(utc.month()).get(..3).unwrap_or_default()),
        'M' | 'L' => number(out, count, u8::from(utc.month()).into()),
        'w' => number(out, count, week(utc.date()).0),
        'W' => number(out, count, week_of_month(utc.date())),
        'D' => number(out, count, utc.ordinal().into()),
        'd' => number(out, count, utc.day().into()),
        'F' => number(out, count, (i64::from(utc.day()) - 1) / 7 + 1),
        'E' if count >= 4 => out.push_str(day_name(utc)),
        'E' => out.push_str(day_name(utc).get(..3).unwrap_or_default()),
        'u' => number(out, count, utc.weekday().number_from_monday().into()),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'H' => number(out, count, hour),
        'k' => number(out, count, if hour == 0 { 24 } else { hour }),
        'K' => number(out, count, hour % 12),
        'h' => number(out, count, if hour % 12 == 0 { 12 } else { hour % 12 }),
        'm' => number(out, count, utc.minute().into()),
        's' => number(out, count, utc.second().into()),
        'S' => number(out, count, utc.millisecond().into()),
        'z' if count >= 4 => out.push_str("Coordinated Universal Time"),
        'z' => out.push_str("UTC"),
        'Z' => out.push_str("+0000"),
        'X' => out.push('Z'),
        // The parser lets no other letter through.
        _ => {}
    }
}

fn number(out: &mut String, width: usize, value: i64) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value:0width$}");
}

/// Two letters are two digits, any other count the whole year of the era.
fn year(out: &mut String, count: usize, year: i32) {
    let of_era = i64::from(if year > 0 { year } else { 1 - year });
    number(out, count, if count == 2 { of_era % 100 } else { of_era });
}

/// Week and week year: week 1 is the one with January 1, weeks start on Sunday (Java's rule for the US).
fn week(day: Day) -> (i64, i32) {
    let january_1 = |year: i32| {
        Day::from_ordinal_date(year, 1)
            .map_or(0, |first| i64::from(first.weekday().number_days_from_sunday()))
    };
    let ordinal = i64::from(day.ordinal());
    let days_to_next_year = i64::from(time::util::days_in_year(day.year())) - ordinal + 1;
    if days_to_next_year <= january_1(day.year() + 1) {
        return (1, day.year() + 1);
    }
    ((ordinal - 1 + january_1(day.year())) / 7 + 1, day.year())
}

fn week_of_month(day: Day) -> i64 {
    let first = day.replace_day(1).map_or(0, |first| i64::from(first.weekday().number_days_from_sunday()));
    (i64::from(day.day()) - 1 + first) / 7 + 1
}

pub(crate) fn month_name(month: Month) -> &'static str {
    match month {
        Month::January => "January",
        Month::February => "February",
        Month::March => "March",
        Month::April => "April",
        Month::May => "May",
        Month::June => "June",
        Month::July => "July",
        Month::August => "August",
        Month::September => "September",
        Month::October => "October",
        Month::November => "November",
        Month::December => "December",
    }
}

pub(crate) fn day_name(utc: OffsetDateTime) -> &'static str {
    match utc.weekday() {
        time::Weekday::Monday => "Monday",
        time::Weekday::Tuesday => "Tuesday",
        time::Weekday::Wednesday => "Wednesday",
        time::Weekday::Thursday => "Thursday",
        time::Weekday::Friday => "Friday",
        time::Weekday::Saturday => "Saturday",
        time::Weekday::Sunday => "Sunday",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str, epoch_ms: i64) -> String {
        DatePattern::parse(pattern).unwrap().format(Date::from_epoch_ms(epoch_ms).unwrap())
    }

    #[test]
    fn every_letter() {
        // Wednesday 2025-06-04T23:55:26.718Z
        let cases = [
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "2025-06-04T23:55:26.718Z"),
            ("MM/dd/yy", "06/04/25"),
            ("G y yyy yyyyy Y", "AD 2025 2025 02025 2025"),
            ("M MMM MMMM L LLL LLLL", "6 Jun June 6 Jun June"),
            ("w W D DDDD d F", "23 1 155 0155 4 1"),
            ("E EEE EEEE u", "Wed Wed Wednesday 3"),
            ("h:mm a K k H", "11:55 PM 11 23 23"),
            ("S SSSSS s m", "718 00718 26 55"),
            ("z zzzz Z X XXX", "UTC Coordinated Universal Time +0000 Z Z"),
            ("h 'o''clock' ''a", "11 o'clock 'PM"),
            ("d. MMM – é", "4. Jun – é"),
            ("", ""),
        ];
        for (pattern, expected) in cases {
            assert_eq!(format(pattern, 1_749_081_326_718), expected, "{pattern}");
        }
    }

    #[test]
    fn edges_of_days_and_years() {
        let midnight = 1_600_128_000_000; // 2020-09-15T00:00Z
        assert_eq!(format("yyyy-MM-dd HH:mm a", midnight), "2020-09-15 00:00 AM");
        assert_eq!(format("h K k H a", midnight), "12 0 24 0 AM");
        assert_eq!(format("h a", midnight + 12 * 3_600_000), "12 PM");
        // 2024-12-29 is a Sunday: its week holds 2025-01-01.
        assert_eq!(format("YYYY w", 1_735_430_400_000), "2025 1");
        assert_eq!(format("YYYY w", 1_735_430_400_000 - 86_400_000), "2024 52");
        // 2023-01-01 is a Sunday.
        assert_eq!(format("YYYY w W", 1_672_531_200_000), "2023 1 1");
        assert_eq!(format("YYYY w W", 1_672_531_200_000 - 86_400_000), "2022 53 5");
        assert_eq!(format("y G", -62_167_219_200_000), "1 BC");
    }

    #[test]
    fn bad_patterns() {
        for pattern in ["yyyy-bb", "'open", "XXXX", "T", "n"] {
            assert!(DatePattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
