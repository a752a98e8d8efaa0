//! What has to hold for every template and all data.

use messenger_connector::template::{Mode, Template, Value, Variables, exercise};
use proptest::prelude::*;

use super::options;

/// Pieces that templates are made of, well-formed and not.
fn piece() -> impl Strategy<Value = String> {
    let names = prop_oneof![
        Just("a"),
        Just("l"),
        Just("m.k"),
        Just("this"),
        Just("."),
        Just("iter.index"),
        Just("l.0"),
        Just("s"),
        Just("up")
    ];
    let properties = prop_oneof![
        Just(""),
        Just(".toJson"),
        Just(".sum"),
        Just(".toList"),
        Just(".entrySet"),
        Just(".size"),
        Just(".castIntegers.toJson")
    ];
    let helpers = prop_oneof![
        Just("if"),
        Just("unless"),
        Just("each"),
        Just("with"),
        Just("switch"),
        Just("case"),
        Just("choose"),
        Just("when"),
        Just("otherwise"),
        Just("md5"),
        Just("escapeJson"),
        Just("jsonMinify"),
        Just("encodeUrl"),
        Just("repeat times=3"),
        Just("set x=1"),
        Just("isEq"),
        Just("tag"),
    ];
    let values = prop_oneof![
        Just("join"),
        Just("alt"),
        Just("min"),
        Just("numExpr 1"),
        Just("fmt '%5s|%,.2f'"),
        Just("substring start='-2'"),
        Just("eval 'l'"),
        Just("formatDate pattern='yy'"),
        Just("is")
    ];
    prop_oneof![
        (names.clone(), properties).prop_map(|(name, property)| format!("{{{{{name}{property}}}}}")),
        names.clone().prop_map(|name| format!("{{{{{{{name}}}}}}}")),
        names.clone().prop_map(|name| format!("{{{{#{name}}}}}x{{{{/{name}}}}}")),
        names.clone().prop_map(|name| format!("{{{{#{name}}}}}")),
        names.clone().prop_map(|name| format!("{{{{^{name}}}}}")),
        names.clone().prop_map(|name| format!("{{{{/{name}}}}}")),
        (helpers, names.clone()).prop_map(|(helper, name)| {
            let close = helper.split(' ').next().unwrap_or_default();
            format!("{{{{#{helper} {name}}}}}\"{{{{{name}}}}}\"{{{{/{close}}}}}")
        }),
        (values, names.clone(), names)
            .prop_map(|(helper, left, right)| format!("{{{{{helper} {left} {right}}}}}")),
        "[\"\\\\{}:,\\[\\]a1 \n]{0,6}",
        Just("{{=<% %>=}}".to_owned()),
        Just("<%={{ }}=%>".to_owned()),
        "\\PC{0,8}",
    ]
}

/// Values that try to leave their place, and ordinary ones.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,8}",
        "[\"\\\\,:{}\\[\\]0-9a\u{1}\n]{0,8}",
        Just("\",\"x\":\"".to_owned()),
        Just("1,\"x\":2".to_owned()),
        Just("\\".to_owned()),
        Just("{{a}}".to_owned()),
        Just("null".to_owned()),
        Just("[1,2]".to_owned()),
    ]
}

fn data() -> impl Strategy<Value = String> {
    (text(), prop::collection::vec(text(), 0..4), text(), -1e9..1e9_f64)
        .prop_map(|(a, l, k, s)| serde_json::json!({"a": a, "l": l, "m": {"k": k}, "s": s}).to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2_000 } else { 20_000 }))]

    #[test]
    fn nothing_panics(mode in 0..3_u8, pieces in prop::collection::vec(piece(), 0..12), json in data()) {
        let source = pieces.concat();
        let mut input = vec![mode];
        input.extend(source.bytes().filter(|byte| *byte != 0));
        input.push(0);
        input.extend(json.bytes());
        exercise(&input);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), json in "\\PC*") {
        exercise(&bytes);
        let _ = Value::from_json_text(&json);
    }

    /// In JSON mode the structure depends on the template alone: with any texts as values the document has
    /// the keys and elements that it has with harmless ones.
    #[test]
    fn values_never_change_the_structure(a in text(), b in text(), k in text()) {
        let template = Template::compile(
            r#"{"a":"{{a}}","{{k}}":["{{{b}}}","x{{a.toJson}}y{{#escapeJson}}{{b}}{{/escapeJson}}",{{l.toJson}}],
               "j":{{join}},"h":"{{#md5}}"{{a}}{{/md5}}","m":{{#jsonMinify}}{ "i" : "{{b}}" }{{/jsonMinify}},"o":"{{is a b k}}{{alt a.toJson b}}{{tag a b}}"}"#
                .replace("\"j\":{{join}},", "\"j\":\"{{join l on=a}}{{fmt '%s%5s' a b}}\",")
                .as_str(),
            Mode::Json,
        ).unwrap();
        let render = |a: &str, b: &str, k: &str| {
            let json = serde_json::json!({"a": a, "b": b, "k": k, "l": [a, b]}).to_string();
            let text = template.render(&Variables::from(Value::from_json_text(&json).unwrap()), &options(false)).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let attack = render(&a, &b, &k);
        let fields = ["a", "j", "h", "m", "o"];
        let expected = if fields.contains(&&*k) { 5 } else { 6 };
        prop_assert_eq!(attack.as_object().unwrap().len(), expected);
        if !fields.contains(&&*k) {
            prop_assert_eq!(attack["a"].as_str().unwrap(), &a);
            prop_assert_eq!(attack[&k][0].as_str().unwrap(), &b);
            prop_assert_eq!(attack[&k][1].as_str().unwrap(), &format!("x{a}y{b}"));
            prop_assert_eq!(&attack[&k][2], &serde_json::json!([a, b]));
            prop_assert_eq!(&attack["m"], &serde_json::json!({"i": b}));
        }
    }

    /// Outside a string a value is one scalar or an error.
    #[test]
    fn values_outside_strings_are_scalars_or_refused(v in text(), raw in any::<bool>()) {
        let source = if raw { "{\"a\":[1,{{{v}}},2]}" } else { "{\"a\":[1,{{v}},2]}" };
        let template = Template::compile(source, Mode::Json).unwrap();
        let json = serde_json::json!({"v": v}).to_string();
        if let Ok(text) = template.render(&Variables::from(Value::from_json_text(&json).unwrap()), &options(false)) {
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            let items = document["a"].as_array().unwrap();
            prop_assert_eq!(items.len(), 3);
            prop_assert!(raw || !(items[1].is_array() || items[1].is_object()));
        }
    }
}
