//! Graph API versions: their syntax, and which one really serves a call.

use std::fmt;
use std::str::FromStr;

/// A Graph API version, written `vN.N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GraphVersion {
    major: u16,
    minor: u16,
}

/// The oldest version that is still served on its own: v20.0 ended on 2026-09-24, v21.0 lives until
/// 2027-01-21 (Meta's version list, 2026-07-29). A constant and not the clock, so that a test means
/// the same next year.
const OLDEST_LIVE: GraphVersion = GraphVersion { major: 21, minor: 0 };

/// The newest version in the same list; it serves calls that name none.
const NEWEST: GraphVersion = GraphVersion { major: 26, minor: 0 };

impl GraphVersion {
    /// The version that serves a call which asked for `asked`: Graph upgrades calls to a retired
    /// version instead of refusing them (Meta's guide to versioning). Versions newer than the list
    /// are taken at their word.
    pub(crate) fn serving(asked: Option<Self>) -> Self {
        asked.unwrap_or(NEWEST).max(OLDEST_LIVE)
    }
}

impl fmt::Display for GraphVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "v{}.{}", self.major, self.minor)
    }
}

/// A text that is not a Graph version.
#[derive(Debug)]
pub struct InvalidVersion;

impl fmt::Display for InvalidVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a Graph version is written vN.N, for example v25.0")
    }
}

impl std::error::Error for InvalidVersion {}

impl FromStr for GraphVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) =
            text.strip_prefix('v').and_then(|rest| rest.split_once('.')).ok_or(InvalidVersion)?;
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse().map_err(|_not_a_number| InvalidVersion),
            false => Err(InvalidVersion),
        };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_versions_are_served_by_the_oldest_live_one() {
        let cases = [
            ("v18.0", "v21.0"),
            ("v20.0", "v21.0"),
            ("v21.0", "v21.0"),
            ("v25.0", "v25.0"),
            ("v26.0", "v26.0"),
            ("v27.1", "v27.1"),
        ];
        for (asked, served) in cases {
            assert_eq!(GraphVersion::serving(Some(asked.parse().unwrap())).to_string(), served, "{asked}");
        }
        assert_eq!(GraphVersion::serving(None), NEWEST);
    }

    #[test]
    fn other_texts_are_not_versions() {
        for text in ["25.0", "v25", "v.0", "v25.", "v+5.0", "me", "v25.0.1"] {
            assert!(text.parse::<GraphVersion>().is_err(), "{text}");
        }
    }
}
