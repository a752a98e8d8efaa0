//! The examples of `docs/templating.md`: every block of three fences, template, data and output.

use messenger_connector::template::Mode;

use super::render;

#[test]
fn every_example_renders_as_written() {
    let page = include_str!("../../../docs/templating.md");
    let mut count = 0;
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("```template") {
        let (header, after) = after.split_once('\n').unwrap();
        let (template, after) = fence(after);
        let (data, after) =
            fence(after.trim_start().strip_prefix("```data\n").expect("a data fence after the template"));
        let after = after.trim_start();
        let mode = if header.trim() == "json" { Mode::Json } else { Mode::Text };
        let actual = render(template, data, mode);
        rest = match after.strip_prefix("```output\n") {
            Some(after) => {
                let (output, after) = fence(after);
                assert_eq!(actual.as_deref(), Ok(output), "{template}");
                after
            }
            None => {
                let (message, after) =
                    fence(after.strip_prefix("```error\n").expect("an output or error fence after the data"));
                assert_eq!(actual.unwrap_err(), message, "{template}");
                after
            }
        };
        count += 1;
    }
    assert!(count > 45, "{count} examples");
}

#[test]
fn every_helper_and_property_has_an_example() {
    let page = include_str!("../../../docs/templating.md");
    let examples: String =
        page.split("```template").skip(1).filter_map(|after| after.split("```").next()).collect();
    let helpers = "alt case choose default each encodeBase64 encodeUrl escapeHtml escapeJson escapeXml eval fmt formatDate hash if is isEq \
                   isEven isNotEq isNotNull isNull isOdd join jsonMinify max md5 min numExpr otherwise repeat set sha1 sha256 substring \
                   substringAfter substringAfterLast substringBefore substringBeforeLast substringBetween switch tag unixTimestamp \
                   unixTimestampMs unless when with";
    for helper in helpers.split_whitespace() {
        let used = ["{{", "{{#", "{{&"]
            .iter()
            .any(|open| [" ", "}}"].iter().any(|end| examples.contains(&format!("{open}{helper}{end}"))));
        assert!(used, "no example of {helper}");
    }
    for property in "toJson castIntegers toInteger sum toList toTimestamp toTimestampMs entrySet size length toUpperCase toLowerCase isEmpty".split(' ') {
        assert!(examples.contains(&format!(".{property}")), "no example of {property}");
    }
}

/// The content up to the closing fence, without the last line end, and what follows.
fn fence(text: &str) -> (&str, &str) {
    let (content, after) = text.split_once("```").expect("a closing fence");
    (content.strip_suffix('\n').unwrap_or(content), after)
}
