use super::*;
use crate::api::pb;
use crate::api::pb::action::Kind;
use crate::message::check_together;

/// Everything that is wrong with a message, as `field: description`.
fn violations(options: pb::SendOptions, kind: Kind) -> Vec<String> {
    let mut violations = Violations::default();
    let options = super::options(Some(options), &"options", &mut violations);
    if let Some(action) = action(Some(kind), &"", None, Vec::new(), &mut violations) {
        check_together(&options, &action, &"options", &mut violations);
    }
    if violations.is_empty() {
        return Vec::new();
    }
    let error = violations.into_error();
    error
        .violations
        .into_iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect()
}

fn update() -> pb::SendOptions {
    pb::SendOptions { messaging_type: pb::MessagingType::Update.into(), ..Default::default() }
}

fn text(text: &str, extras: pb::MessageExtras) -> Kind {
    Kind::Text(pb::TextMessage { text: text.to_owned(), extras: Some(extras) })
}

fn template(json: &str) -> Kind {
    let content = Some(pb::template_message::Content::PayloadJson(json.to_owned()));
    Kind::Template(pb::TemplateMessage { content, extras: None })
}

#[test]
fn all_violations_are_found_at_once_and_named_by_path() {
    let quick_reply = |title: &str, payload: String| pb::QuickReply {
        content_type: pb::quick_reply::ContentType::Text.into(),
        title: title.to_owned(),
        payload,
        image_url: String::new(),
    };
    let extras = pb::MessageExtras {
        quick_replies: vec![quick_reply("", "p".repeat(1001)), quick_reply("ok", String::new())],
        metadata: "m".repeat(1001),
        ..Default::default()
    };
    let options = pb::SendOptions {
        tag: pb::MessageTag::HumanAgent.into(),
        notification_type: 99,
        ..Default::default()
    };
    let found = violations(options, text(&"é".repeat(2001), extras));
    insta::assert_snapshot!(found.join("\n"), @r"
    options.notification_type: 99 is not a value that this server knows
    options.tag: goes with messaging_type MESSAGE_TAG only: leave it empty, or set that type
    text.extras.metadata: must not be longer than 1000 characters, has 1001
    text.extras.quick_replies[0].title: is required with content type text
    text.extras.quick_replies[0].payload: must not be longer than 1000 characters, has 1001
    text.extras.quick_replies[1].payload: is required with content type text
    text.text: must not be longer than 2000 characters, has 2001
    ");
}

#[test]
fn limits_are_inclusive_and_count_characters() {
    let quick_reply = |_| pb::QuickReply {
        content_type: pb::quick_reply::ContentType::Text.into(),
        title: "t".to_owned(),
        payload: "p".repeat(1000),
        image_url: String::new(),
    };
    let extras = |count| pb::MessageExtras {
        quick_replies: (0..count).map(quick_reply).collect(),
        metadata: "ä".repeat(1000),
        ..Default::default()
    };
    assert_eq!(violations(update(), text(&"\u{1F600}".repeat(2000), extras(13))), [""; 0]);
    assert_eq!(
        violations(update(), text("x", extras(14))),
        ["text.extras.quick_replies: must not be more than 13, are 14"]
    );
    assert_eq!(violations(update(), text("", extras(0))), ["text.text: must not be empty"]);
}

#[test]
fn tags_go_with_message_tag_and_retired_ones_name_their_replacement() {
    let tagged = |tag: pb::MessageTag, tag_name: &str| pb::SendOptions {
        messaging_type: pb::MessagingType::MessageTag.into(),
        tag: tag.into(),
        tag_name: tag_name.to_owned(),
        ..Default::default()
    };
    let hello = || text("hello", pb::MessageExtras::default());
    let table = [
        (tagged(pb::MessageTag::HumanAgent, ""), ""),
        (tagged(pb::MessageTag::Unspecified, "HUMAN_AGENT"), ""),
        (tagged(pb::MessageTag::Unspecified, "A_TAG_OF_2027"), ""),
        (tagged(pb::MessageTag::Unspecified, ""), "options.tag: is required"),
        (tagged(pb::MessageTag::HumanAgent, "HUMAN_AGENT"), "options.tag_name: excludes tag"),
        (
            tagged(pb::MessageTag::AccountUpdate, ""),
            "options.tag: was retired by Meta on 2026-04-27: send a utility template",
        ),
        (
            tagged(pb::MessageTag::Unspecified, "POST_PURCHASE_UPDATE"),
            "options.tag_name: was retired by Meta on 2026-04-27",
        ),
        (
            tagged(pb::MessageTag::Unspecified, "SHIPPING_UPDATE"),
            "options.tag_name: was retired by Meta on 2020-03-04",
        ),
        (tagged(pb::MessageTag::CustomerFeedback, ""), "options.tag: CUSTOMER_FEEDBACK goes with a template"),
        (pb::SendOptions::default(), "options.messaging_type: is required"),
    ];
    for (options, expected) in table {
        let found = violations(options, hello());
        match found.as_slice() {
            [] => assert_eq!(expected, ""),
            [only] => assert!(!expected.is_empty() && only.starts_with(expected), "{only}"),
            many => panic!("{many:?}"),
        }
    }
    let typing = Kind::SenderAction(pb::SenderAction { r#type: pb::sender_action::Type::TypingOn.into() });
    assert_eq!(
        violations(pb::SendOptions::default(), typing),
        [""; 0],
        "a sender action needs no messaging type"
    );
}

#[test]
fn quick_reply_arrays_are_zipped_and_must_be_as_long_as_each_other() {
    let arrays = |content_types: &[&str], titles: &[&str], payloads: &[&str]| {
        let strings = |array: &[&str]| array.iter().map(ToString::to_string).collect();
        let quick_reply_arrays = pb::QuickReplyArrays {
            content_types: strings(content_types),
            titles: strings(titles),
            payloads: strings(payloads),
            image_urls: Vec::new(),
        };
        text("x", pb::MessageExtras { quick_reply_arrays: Some(quick_reply_arrays), ..Default::default() })
    };
    assert_eq!(violations(update(), arrays(&["text", "user_email"], &["A", ""], &["a", ""])), [""; 0]);
    assert_eq!(
        violations(update(), arrays(&["text", "fax"], &["A"], &["a", "b"])),
        [
            "text.extras.quick_reply_arrays.titles: must be empty or as long as content_types (2), has 1",
            "text.extras.quick_reply_arrays.content_types[1]: must be text, user_phone_number, user_email or location",
        ]
    );
}

#[test]
fn media_needs_a_type_and_an_address_that_meta_can_fetch() {
    let media = |media_type: pb::media_message::Type, url: &str| {
        let source = Some(pb::media_message::Source::Url(url.to_owned()));
        Kind::Media(pb::MediaMessage { r#type: media_type.into(), source, ..Default::default() })
    };
    let image = pb::media_message::Type::Image;
    assert_eq!(violations(update(), media(image, "https://example.com/a.png")), [""; 0]);
    for url in ["", "ftp://example.com/a.png", "/a.png", "https://", "javascript:alert(1)"] {
        let found = violations(update(), media(image, url));
        assert_eq!(
            found,
            ["media.url: must be an http or https URL, such as https://example.com/picture.png"],
            "{url}"
        );
    }
    let unspecified =
        violations(update(), media(pb::media_message::Type::Unspecified, "https://example.com/a"));
    assert_eq!(unspecified, ["media.type: is required: IMAGE, AUDIO, VIDEO or FILE"]);
}

#[test]
fn documented_templates_have_their_required_fields_and_counts() {
    let button = r#"{"type":"postback","title":"t","payload":"p"}"#;
    let generic = |count| {
        let elements = vec![format!(r#"{{"title":"t","buttons":[{button}]}}"#); count].join(",");
        format!(r#"{{"template_type":"generic","elements":[{elements}]}}"#)
    };
    let at = |path: &str, rule: &str| vec![format!("template.payload_json{path}: {rule}")];
    let table = [
        (generic(10), vec![]),
        (generic(11), at(".elements", "must have 1 to 10 entries, has 11")),
        (generic(0), at(".elements", "must have 1 to 10 entries, has 0")),
        (r#"{"template_type":"brand_new","x":[1]}"#.into(), vec![]),
        ("[]".into(), at("", r#"must be a JSON object, such as {"template_type": "button", ...}"#)),
        ("{".into(), at("", "is not JSON: line 1, column 1")),
        ("{}".into(), at(".template_type", "is required: a string such as \"generic\"")),
        (
            r#"{"template_type":"generic","elements":[{"title":"t"}]}"#.into(),
            at(".elements[0]", "needs one more of subtitle, image_url, default_action, buttons"),
        ),
        (
            format!(r#"{{"template_type":"button","text":"x","buttons":[{}]}}"#, [button; 4].join(",")),
            at(".buttons", "must have 1 to 3 entries, has 4"),
        ),
        (
            r#"{"template_type":"button","text":"x","buttons":[{"type":"web_url","title":"t"}]}"#.into(),
            at(".buttons[0].url", "is required"),
        ),
        (
            r#"{"template_type":"generic","elements":[{"title":"t","buttons":[{"type":"account_unlink"}]}]}"#
                .into(),
            vec![],
        ),
        (
            r#"{"template_type":"media","elements":[{"media_type":"image","url":"u","attachment_id":"1"}]}"#
                .into(),
            at(".elements[0]", "needs exactly one of attachment_id and url"),
        ),
        (r#"{"template_type":"coupon","title":"t"}"#.into(), at("", "needs coupon_code or coupon_url")),
        (
            r#"{"template_type":"utility","name":"n","language":{}}"#.into(),
            at(".language.code", "is required"),
        ),
        (
            r#"{"template_type":"receipt","recipient_name":"a","order_number":"1","currency":"USD",
             "payment_method":"v","summary":{"total_cost":0}}"#
                .into(),
            vec![],
        ),
    ];
    for (json, expected) in table {
        assert_eq!(violations(update(), template(&json)), expected, "{json}");
    }
}

#[test]
fn a_structure_keeps_integers_as_integers() {
    let number = |number| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number)) };
    let fields =
        [("a", 1.0), ("b", 1.5), ("c", -0.0), ("d", 9_007_199_254_740_993.0), ("e", f64::NAN), ("f", 1e300)];
    let object = prost_types::Struct {
        fields: fields.into_iter().map(|(key, value)| (key.to_owned(), number(value))).collect(),
    };
    assert_eq!(
        json::JsonTree::new(object).into_text(),
        r#"{"a":1,"b":1.5,"c":0,"d":9007199254740992,"e":null,"f":1e+300}"#
    );
}
