//! The Mustache specification, version 1.4: its required modules except partials, in HTML mode.

use messenger_connector::template::{Mode, Template, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::options;

#[derive(Deserialize)]
struct Module<'a> {
    #[serde(borrow)]
    tests: Vec<Test<'a>>,
}

#[derive(Deserialize)]
struct Test<'a> {
    name: String,
    #[serde(borrow)]
    data: &'a RawValue,
    template: String,
    expected: String,
}

/// Tests of the modules below that need partials, which the dialect refuses: there is nowhere to load them
/// from.
const NEED_PARTIALS: [&str; 2] = ["Partial Inheritence", "Post-Partial Behavior"];

#[test]
fn required_modules() {
    let modules = [
        ("comments", include_str!("../../data/mustache-spec/comments.json"), 12),
        ("delimiters", include_str!("../../data/mustache-spec/delimiters.json"), 12),
        ("interpolation", include_str!("../../data/mustache-spec/interpolation.json"), 42),
        ("inverted", include_str!("../../data/mustache-spec/inverted.json"), 22),
        ("sections", include_str!("../../data/mustache-spec/sections.json"), 34),
    ];
    for (name, json, count) in modules {
        let module: Module<'_> = serde_json::from_str(json).unwrap();
        let tests: Vec<_> =
            module.tests.iter().filter(|test| !NEED_PARTIALS.contains(&&*test.name)).collect();
        assert_eq!(tests.len(), count, "{name}");
        for test in tests {
            let template = Template::compile(&test.template, Mode::Html).unwrap();
            let data = Value::from_json_text(test.data.get()).unwrap().into();
            assert_eq!(
                template.render(&data, &options(false)).as_deref(),
                Ok(&*test.expected),
                "{name}: {}",
                test.name
            );
        }
    }
}
