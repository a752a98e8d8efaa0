use std::sync::Arc;

use insta::assert_snapshot;

use super::*;
use crate::error::Violations;
use crate::message::{ContentType, Text};

fn message(recipient: Recipient, options: Options, action: Action) -> Message {
    Message { recipient, options: Arc::new(options), action: Arc::new(action) }
}

fn update() -> Options {
    Options { messaging_type: Some(MessagingType::Update), ..Options::default() }
}

fn text(text: &str, extras: Extras) -> Action {
    Action::Text { text: Text::new(text.into(), &"text", &mut Violations::default()).unwrap(), extras }
}

fn template(json: &str) -> Action {
    let template = Template::new(json.into(), &"template", &mut Violations::default()).unwrap();
    Action::Template { template, extras: Extras::default() }
}

fn psid() -> Recipient {
    Recipient::Id("7".into())
}

fn body(recipient: Recipient, options: Options, action: Action) -> String {
    body_json(&message(recipient, options, action)).unwrap()
}

#[test]
fn text_with_everything() {
    let quick_reply = QuickReply {
        content_type: ContentType::Text,
        title: "Yes".into(),
        payload: "yes".into(),
        image_url: "https://example.com/y.png".into(),
    };
    let email = QuickReply {
        content_type: ContentType::UserEmail,
        title: String::new(),
        payload: String::new(),
        image_url: String::new(),
    };
    let extras = Extras {
        quick_replies: vec![quick_reply, email],
        metadata: "order-1".into(),
        reply_to_message_id: "m_0".into(),
    };
    let options = Options {
        messaging_type: Some(MessagingType::MessageTag),
        tag: Some("HUMAN_AGENT".into()),
        notification_type: Some(NotificationType::SilentPush),
        persona_id: Some("5".into()),
    };
    assert_snapshot!(body(psid(), options, text("Hi \"you\"\n\u{1F600}", extras)), @r#"{"recipient":{"id":"7"},"messaging_type":"MESSAGE_TAG","tag":"HUMAN_AGENT","notification_type":"SILENT_PUSH","persona_id":"5","reply_to":{"mid":"m_0"},"message":{"text":"Hi \"you\"\n😀","quick_replies":[{"content_type":"text","title":"Yes","payload":"yes","image_url":"https://example.com/y.png"},{"content_type":"user_email"}],"metadata":"order-1"}}"#);
}

#[test]
fn every_kind_of_recipient() {
    let phone = |first: &str, last: &str| Recipient::Phone {
        phone_number: "+1(212)555-2368".into(),
        first_name: first.into(),
        last_name: last.into(),
    };
    let recipient = |recipient| {
        let body: serde_json::Value =
            serde_json::from_str(&body(recipient, update(), text("x", Extras::default()))).unwrap();
        body["recipient"].to_string()
    };
    assert_snapshot!(recipient(psid()), @r#"{"id":"7"}"#);
    assert_snapshot!(recipient(Recipient::UserRef("r".into())), @r#"{"user_ref":"r"}"#);
    assert_snapshot!(recipient(Recipient::CommentId("c".into())), @r#"{"comment_id":"c"}"#);
    assert_snapshot!(recipient(Recipient::PostId("p".into())), @r#"{"post_id":"p"}"#);
    assert_snapshot!(recipient(phone("", "")), @r#"{"phone_number":"+1(212)555-2368"}"#);
    assert_snapshot!(recipient(phone("Ann", "")), @r#"{"phone_number":"+1(212)555-2368","name":{"first_name":"Ann"}}"#);
    assert_snapshot!(recipient(phone("Ann", "Lee")), @r#"{"phone_number":"+1(212)555-2368","name":{"first_name":"Ann","last_name":"Lee"}}"#);
}

#[test]
fn media_by_url_and_by_id() {
    let media = |media_type, source| {
        body(
            psid(),
            update(),
            Action::Media { media: Media { media_type, source }, extras: Extras::default() },
        )
    };
    let url = |is_reusable| MediaSource::Url { url: "https://example.com/a".into(), is_reusable };
    assert_snapshot!(media(MediaType::Image, url(None)), @r#"{"recipient":{"id":"7"},"messaging_type":"UPDATE","message":{"attachment":{"type":"image","payload":{"url":"https://example.com/a"}}}}"#);
    assert_snapshot!(media(MediaType::Video, url(Some(true))), @r#"{"recipient":{"id":"7"},"messaging_type":"UPDATE","message":{"attachment":{"type":"video","payload":{"url":"https://example.com/a","is_reusable":true}}}}"#);
    assert_snapshot!(media(MediaType::Audio, url(Some(false))), @r#"{"recipient":{"id":"7"},"messaging_type":"UPDATE","message":{"attachment":{"type":"audio","payload":{"url":"https://example.com/a","is_reusable":false}}}}"#);
    assert_snapshot!(media(MediaType::File, MediaSource::AttachmentId("9".into())), @r#"{"recipient":{"id":"7"},"messaging_type":"UPDATE","message":{"attachment":{"type":"file","payload":{"attachment_id":"9"}}}}"#);
}

#[test]
fn a_sender_action_goes_alone() {
    let options = Options { notification_type: Some(NotificationType::NoPush), ..update() };
    let names = [SenderAction::TypingOn, SenderAction::TypingOff, SenderAction::MarkSeen]
        .map(|sender_action| body(psid(), options.clone(), Action::SenderAction(sender_action)));
    assert_snapshot!(names.join("\n"), @r#"
    {"recipient":{"id":"7"},"sender_action":"typing_on"}
    {"recipient":{"id":"7"},"sender_action":"typing_off"}
    {"recipient":{"id":"7"},"sender_action":"mark_seen"}
    "#);
}

#[test]
fn template_payloads_keep_their_text() {
    let button = r#"{"template_type":"button","text":"x","buttons":[{"type":"web_url","url":"https://a.b","title":"t"}],"n":1.50}"#;
    assert_snapshot!(body(psid(), update(), template(button)), @r#"{"recipient":{"id":"7"},"messaging_type":"UPDATE","message":{"attachment":{"type":"template","payload":{"template_type":"button","text":"x","buttons":[{"type":"web_url","url":"https://a.b","title":"t"}],"n":1.50}}}}"#);
    let utility = r#"{"template_type":"utility","name":"n","language":{"code":"en"},"components":[]}"#;
    let options = Options { messaging_type: Some(MessagingType::Utility), ..Options::default() };
    assert_snapshot!(body(psid(), options, template(utility)), @r#"{"recipient":{"id":"7"},"messaging_type":"UTILITY","message":{"template":{"name":"n","language":{"code":"en"},"components":[]}}}"#);
}

#[test]
fn a_batch_holds_forms_of_json() {
    let first = message(psid(), update(), text("a&b=c \"é\" 100%+", Extras::default()));
    let second = message(psid(), Options::default(), Action::SenderAction(SenderAction::MarkSeen));
    let body = crate::graph::batch::body_json("me", &[&first, &second]).unwrap();
    assert_snapshot!(body, @r#"{"include_headers":true,"batch":[{"method":"POST","relative_url":"me/messages","body":"recipient=%7B%22id%22%3A%227%22%7D&messaging_type=UPDATE&message=%7B%22text%22%3A%22a%26b%3Dc%20%5C%22%C3%A9%5C%22%20100%25%2B%22%7D"},{"method":"POST","relative_url":"me/messages","body":"recipient=%7B%22id%22%3A%227%22%7D&sender_action=mark_seen"}]}"#);
}
