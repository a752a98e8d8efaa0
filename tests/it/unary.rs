//! The four unary sends.

use messenger_connector::api::pb;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{self, psid, receipt, send_error, text_request, update};

#[tokio::test]
async fn each_kind_is_sent_and_answered_with_a_receipt() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();

    let sent = receipt(client.send_text_message(text_request("7", "hello")).await.unwrap().into_inner());
    assert!(!sent.message_id.is_empty() && !sent.replayed && sent.sent_time.is_some(), "{sent:?}");
    assert_eq!((sent.recipient_id.as_str(), sent.attempts), ("7", 1));

    let media = pb::SendMediaMessageRequest {
        recipient: Some(psid("7")),
        options: Some(update()),
        media: Some(pb::MediaMessage {
            r#type: pb::media_message::Type::Image.into(),
            source: Some(pb::media_message::Source::Url("https://example.com/a.png".into())),
            is_reusable: Some(true),
            extras: None,
        }),
        ..Default::default()
    };
    let response = client.send_media_message(media).await.unwrap().into_inner();
    let Some(pb::send_media_message_response::Result::Receipt(kept)) = response.result else { panic!() };
    assert!(!kept.attachment_id.is_empty(), "reusable media is kept: {kept:?}");

    let typing = pb::SendSenderActionRequest {
        recipient: Some(psid("7")),
        sender_action: Some(pb::SenderAction { r#type: pb::sender_action::Type::TypingOn.into() }),
        ..Default::default()
    };
    let response = client.send_sender_action(typing).await.unwrap().into_inner();
    let Some(pb::send_sender_action_response::Result::Receipt(shown)) = response.result else { panic!() };
    assert_eq!((shown.message_id.as_str(), shown.recipient_id.as_str()), ("", "7"));

    let template = pb::SendTemplateMessageRequest {
        recipient: Some(psid("7")),
        options: Some(update()),
        template: Some(pb::TemplateMessage {
            content: Some(pb::template_message::Content::PayloadJson(
                r#"{"template_type":"button","text":"t","buttons":[{"type":"postback","title":"a","payload":"b"}]}"#.into(),
            )),
            extras: None,
        }),
        ..Default::default()
    };
    client.send_template_message(template).await.unwrap();

    let bodies = stack.bodies().await;
    assert_eq!(
        bodies[0],
        json!({"recipient": {"id": "7"}, "messaging_type": "UPDATE", "message": {"text": "hello"}})
    );
    assert_eq!(bodies[1]["message"]["attachment"]["payload"]["is_reusable"], true);
    assert_eq!(bodies[2], json!({"recipient": {"id": "7"}, "sender_action": "typing_on"}));
    assert_eq!(bodies[3]["message"]["attachment"]["payload"]["template_type"], "button");
}

#[tokio::test]
async fn bad_requests_name_every_field_in_standard_and_typed_details() {
    let stack = harness::start().await;
    let request = pb::SendTextMessageRequest { text: Some(harness::text("")), ..Default::default() };
    let status = stack.client.clone().send_text_message(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let error = send_error(&status);
    assert_eq!(error.reason(), pb::ErrorReason::InvalidArgument);
    let fields: Vec<_> = error.violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["recipient", "text.text", "options.messaging_type"]);
    let bad_request = status.get_details_bad_request().unwrap();
    assert_eq!(bad_request.field_violations.len(), 3);
    let info = status.get_error_details().error_info().unwrap().clone();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_ARGUMENT", "messenger-connector"));
    assert_eq!(stack.bodies().await.len(), 0, "nothing was sent");
}

#[tokio::test]
async fn errors_stay_small_enough_for_every_client_however_much_is_wrong() {
    let stack = harness::start().await;
    let quick_reply = pb::QuickReply { content_type: 1, ..Default::default() };
    let mut request = text_request("7", "x");
    request.text.as_mut().unwrap().extras =
        Some(pb::MessageExtras { quick_replies: vec![quick_reply; 500], ..Default::default() });
    let status = stack.client.clone().send_text_message(request).await.unwrap_err();
    assert!(status.details().len() <= 4096, "{} bytes of details", status.details().len());
    let error = send_error(&status);
    let shown = error.violations.len() - 1;
    let last = error.violations.last().unwrap();
    assert_eq!(last.description, format!("and {} more", 1001 - shown), "too many, and two for each of 500");
}

#[tokio::test]
async fn validate_only_shows_the_call_and_sends_nothing() {
    let stack = harness::start().await;
    let request = pb::SendTextMessageRequest { validate_only: true, ..text_request("7", "hello") };
    let response = stack.client.clone().send_text_message(request).await.unwrap().into_inner();
    let Some(pb::send_text_message_response::Result::Preview(preview)) = response.result else { panic!() };
    assert_eq!(preview.url, format!("{}/v25.0/1/messages", stack.sandbox_url));
    let body = r#"{"recipient":{"id":"7"},"messaging_type":"UPDATE","message":{"text":"hello"}}"#;
    assert_eq!(preview.body_json, body);
    assert_eq!(stack.bodies().await.len(), 0);
}

#[tokio::test]
async fn a_send_outlives_its_caller() {
    let stack = harness::start().await;
    let mut client = stack.client.clone();
    let mut request = tonic::Request::new(text_request("slow-300.x", "hello"));
    request.set_timeout(std::time::Duration::from_millis(50));
    client.send_text_message(request).await.unwrap_err();
    // The same recipient's next message waits for the first one, so by then that has been answered too.
    client.send_text_message(text_request("slow-300.x", "second")).await.unwrap();
    let texts: Vec<_> = stack.bodies().await.iter().map(|body| body["message"]["text"].clone()).collect();
    assert_eq!(texts, ["hello", "second"]);
}
