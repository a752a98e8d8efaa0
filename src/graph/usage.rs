//! Usage headers: how much of its budget a page has spent (Graph's rate limiting guide).

use std::time::Duration;

use serde::Deserialize;

/// What the usage headers of one answer say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// The fullest of the budgets, in percent; calls beyond 100 are refused.
    pub percent: f64,
    /// How long until refused calls are taken again, if they are refused.
    pub regain_access: Option<Duration>,
}

#[derive(Deserialize)]
struct Budget {
    #[serde(default)]
    call_count: f64,
    #[serde(default)]
    total_time: f64,
    #[serde(default)]
    total_cputime: f64,
    /// Minutes.
    #[serde(default)]
    estimated_time_to_regain_access: f64,
}

impl Usage {
    /// Reads one header; `None` if it is no usage header or cannot be read.
    pub fn from_header(name: &str, value: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-business-use-case-usage") {
            let businesses: std::collections::HashMap<String, Vec<Budget>> =
                serde_json::from_str(value).ok()?;
            businesses.values().flatten().map(Self::from_budget).fold(None, |a, b| Self::highest(a, Some(b)))
        } else if name.eq_ignore_ascii_case("x-app-usage") || name.eq_ignore_ascii_case("x-page-usage") {
            serde_json::from_str::<Budget>(value).ok().as_ref().map(Self::from_budget)
        } else {
            None
        }
    }

    fn from_budget(budget: &Budget) -> Self {
        let minutes = budget.estimated_time_to_regain_access;
        Self {
            percent: budget.call_count.max(budget.total_time).max(budget.total_cputime),
            regain_access: Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|wait| !wait.is_zero()),
        }
    }

    /// The worse of two readings.
    pub fn highest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Self {
                percent: a.percent.max(b.percent),
                regain_access: a.regain_access.max(b.regain_access),
            }),
            (one, None) | (None, one) => one,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fullest_budget_and_the_longest_wait() {
        let minute = Duration::from_secs(60);
        let table = [
            ("X-App-Usage", r#"{"call_count":28,"total_time":25,"total_cputime":31}"#, Some((31.0, None))),
            (
                "x-business-use-case-usage",
                r#"{"1":[{"type":"messenger","call_count":1,"total_cputime":1,"total_time":1,"estimated_time_to_regain_access":0}],
                    "2":[{"type":"messenger","call_count":101,"total_cputime":1,"total_time":1,"estimated_time_to_regain_access":2}]}"#,
                Some((101.0, Some(2 * minute))),
            ),
            ("x-business-use-case-usage", r#"{"1":[]}"#, None),
            ("x-app-usage", "garbage", None),
            ("content-type", r#"{"call_count":28}"#, None),
        ];
        for (name, value, expected) in table {
            let usage = Usage::from_header(name, value).map(|usage| (usage.percent, usage.regain_access));
            assert_eq!(usage, expected, "{name}: {value}");
        }
    }
}
