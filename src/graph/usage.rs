//! Usage headers: how much of its budget a page has spent (Graph's rate limiting guide).

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use super::lenient::{Object, Scalar};

/// What the usage headers of one answer say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// The fullest of the budgets, in percent; calls beyond 100 are refused.
    pub percent: f64,
    /// How long until refused calls are taken again, if they are refused.
    pub regain_access: Option<Duration>,
}

#[derive(Deserialize)]
struct Budget<'a> {
    /// The product that it is of; none in headers that know no products.
    #[serde(borrow, default)]
    r#type: Scalar<'a>,
    #[serde(borrow, default)]
    call_count: Scalar<'a>,
    #[serde(borrow, default)]
    total_time: Scalar<'a>,
    #[serde(borrow, default)]
    total_cputime: Scalar<'a>,
    /// Minutes.
    #[serde(borrow, default)]
    estimated_time_to_regain_access: Scalar<'a>,
}

/// The product whose budget messages are counted against. Those of others, such as `ads_insights`, do not bear on them.
const PRODUCT: &str = "messenger";

impl Usage {
    /// Reads one header; `None` if it is no usage header or cannot be read.
    pub fn from_header(name: &str, value: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-business-use-case-usage") {
            let businesses: HashMap<Cow<'_, str>, Vec<Object<Budget<'_>>>> =
                serde_json::from_str(value).ok()?;
            let budgets = businesses.into_values().flatten().filter_map(Object::read);
            budgets.filter_map(Self::from_budget).fold(None, |a, b| Self::highest(a, Some(b)))
        } else if name.eq_ignore_ascii_case("x-app-usage") || name.eq_ignore_ascii_case("x-page-usage") {
            serde_json::from_str::<Budget<'_>>(value).ok().and_then(Self::from_budget)
        } else {
            None
        }
    }

    /// `None` for the budget of another product.
    fn from_budget(budget: Budget<'_>) -> Option<Self> {
        let product = budget.r#type.into_text();
        if !product.is_empty() && product != PRODUCT {
            return None;
        }
        let spent = [budget.call_count, budget.total_time, budget.total_cputime];
        let minutes = budget.estimated_time_to_regain_access.number();
        Some(Self {
            percent: spent.iter().map(Scalar::number).fold(0.0, f64::max),
            regain_access: Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|wait| !wait.is_zero()),
        })
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
            // Budgets of other products do not bear on messages.
            (
                "x-business-use-case-usage",
                r#"{"1":[{"type":"ads_insights","call_count":100,"estimated_time_to_regain_access":60},
                    {"type":"messenger","call_count":"7","total_time":null}]}"#,
                Some((7.0, None)),
            ),
            ("x-business-use-case-usage", r#"{"1":[{"type":"pages","call_count":100}]}"#, None),
            (
                "x-business-use-case-usage",
                r#"{"1":[{"type":"messenger","call_count":100,"estimated_time_to_regain_access":1440}]}"#,
                Some((100.0, Some(1440 * minute))),
            ),
            ("x-app-usage", "garbage", None),
            ("content-type", r#"{"call_count":28}"#, None),
        ];
        for (name, value, expected) in table {
            let usage = Usage::from_header(name, value).map(|usage| (usage.percent, usage.regain_access));
            assert_eq!(usage, expected, "{name}: {value}");
        }
    }
}
