//! Tables of template, data and output.

use messenger_connector::template::Mode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::render;

/// A line of our own table.
#[derive(Debug, Deserialize)]
struct Case<'a> {
    about: String,
    template: String,
    #[serde(borrow)]
    data: &'a RawValue,
    expected: Expected,
    #[serde(default)]
    mode: CaseMode,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Expected {
    Text(String),
    /// It fails, and the message contains this.
    Failure {
        error: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CaseMode {
    #[default]
    Text,
    Json,
    Html,
}

#[test]
fn own_cases() {
    let mut failures = Vec::new();
    for line in include_str!("../../data/template_cases.jsonl").lines() {
        let case: Case<'_> = serde_json::from_str(line).unwrap();
        let mode = match case.mode {
            CaseMode::Text => Mode::Text,
            CaseMode::Json => Mode::Json,
            CaseMode::Html => Mode::Html,
        };
        let actual = render(&case.template, case.data.get(), mode);
        let passes = match (&case.expected, &actual) {
            (Expected::Text(expected), Ok(text)) => expected == text,
            (Expected::Failure { error }, Err(message)) => message.contains(error),
            (Expected::Text(_), Err(_)) | (Expected::Failure { .. }, Ok(_)) => false,
        };
        if !passes {
            failures.push(format!(
                "{}\n  {}\n  expected {:?}\n  actual   {actual:?}",
                case.about, case.template, case.expected
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A line of a table from outside the repository.
#[derive(Debug, Deserialize)]
struct OutsideCase<'a> {
    source: String,
    template: String,
    #[serde(borrow)]
    data: &'a RawValue,
    /// None: it must fail.
    expected: Option<String>,
    note: String,
}

/// Where the dialect deliberately differs from Trimou: template and our output.
const DEVIATIONS: [(&str, &str); 2] =
    [("{{#em}}M{{/em}}{{^em}}noM{{/em}}", "noM"), ("{{f}}|{{num}}|{{big}}|{{i}}", "false|1.0|12345678.0|7")];

/// Runs a table from outside the repository: `TEMPLATE_CASES=/path cargo test outside_cases -- --ignored`.
#[test]
#[ignore = "needs TEMPLATE_CASES, the path of a table"]
fn outside_cases() {
    let path = std::env::var_os("TEMPLATE_CASES").expect("TEMPLATE_CASES is the path of a table");
    let table = std::fs::read_to_string(path).unwrap();
    let mut failures = Vec::new();
    for line in table.lines() {
        let case: OutsideCase<'_> = serde_json::from_str(line).unwrap();
        let mode = match (case.source.starts_with("proposal"), case.note.contains("escape=html")) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Html,
            (false, false) => Mode::Text,
        };
        let deviation = DEVIATIONS.iter().find(|(template, _)| *template == case.template);
        let expected = deviation.map(|(_, output)| (*output).to_owned()).or(case.expected);
        let actual = render(&case.template, case.data.get(), mode);
        if actual.as_ref().ok() != expected.as_ref() {
            let (source, template, note) = (case.source, case.template, case.note);
            failures.push(format!(
                "{source}: {note}\n  {template}\n  {}\n  expected {expected:?}\n  actual   {actual:?}",
                case.data.get()
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} fail\n{}",
        failures.len(),
        table.lines().count(),
        failures.join("\n")
    );
}
