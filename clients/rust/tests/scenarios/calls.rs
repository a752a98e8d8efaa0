//! Scenarios of unary calls.

use std::time::{Duration, Instant};

use messenger_connector_client::{MessengerClient, MessengerError, v1};
use tokio::task::JoinHandle;

use crate::contract::message;
use crate::scenario::{Call, CallScenario};
use crate::service::Stack;

/// A receipt or a preview.
type Answer = Result<(Option<v1::Receipt>, Option<v1::Preview>), MessengerError>;

pub(crate) async fn run(scenario: CallScenario) {
    let mut stack = Stack::start(scenario.service).await;
    let client = stack.connect(&scenario.connect);
    let (mut background, mut id_of_error) = (Vec::new(), String::new());
    for mut call in scenario.calls {
        if call.request_id_of_error {
            call.request["request_id"] = id_of_error.clone().into();
        }
        let (answer, started) = (start(&client, &call), Instant::now());
        if call.cancel_when_delivered {
            stack.wait_for_delivered(1).await;
            answer.abort();
            let ended = tokio::time::timeout(Duration::from_secs(1), answer).await.unwrap();
            assert!(ended.unwrap_err().is_cancelled());
        } else if call.background {
            stack.wait_for_delivered(1).await;
            background.push((call, answer));
        } else {
            if let Some(signal) = &call.restart_when_delivered {
                stack.wait_for_delivered(1).await;
                stack.restart(signal).await;
            }
            let answer = answer.await.unwrap();
            let longest = call.within_ms.map_or(Duration::MAX, Duration::from_millis);
            assert!(started.elapsed() <= longest, "{:?}: {answer:?}", started.elapsed());
            id_of_error = answer.as_ref().err().map(|error| error.request_id.clone()).unwrap_or_default();
            check(call, answer);
        }
    }
    for (call, answer) in background {
        check(call, answer.await.unwrap());
    }
    if let Some(delivered) = scenario.delivered {
        assert_eq!(stack.delivered().await, delivered);
    }
}

fn start(client: &MessengerClient, call: &Call) -> JoinHandle<Answer> {
    let client = match call.timeout_ms {
        Some(timeout_ms) => client.with_timeout(Duration::from_millis(timeout_ms)),
        None => client.clone(),
    };
    macro_rules! send {
        ($method:ident) => {{
            let request = message(&format!("{}Request", call.method), &call.request);
            tokio::spawn(async move {
                let response = client.$method(request).await?;
                Ok((response.receipt().cloned(), response.preview().cloned()))
            })
        }};
    }
    match call.method.as_str() {
        "SendTextMessage" => send!(send_text_message),
        "SendMediaMessage" => send!(send_media_message),
        "SendSenderAction" => send!(send_sender_action),
        "SendTemplateMessage" => send!(send_template_message),
        "GetBulk" => {
            let request = message("GetBulkRequest", &call.request);
            tokio::spawn(async move { client.get_bulk(request).await.map(|_| (None, None)) })
        }
        other => panic!("there is no call {other}"),
    }
}

fn check(call: Call, answer: Answer) {
    let (receipt, preview) = match (answer, call.error) {
        (Err(error), Some(expected)) => return expected.check(&error),
        (Err(error), None) => panic!("{error:?}"),
        (Ok(answer), Some(_)) => panic!("it succeeded: {answer:?}"),
        (Ok(answer), None) => answer,
    };
    if let Some(expected) = call.receipt {
        expected.check(&receipt.unwrap());
    }
    if let Some(expected) = call.preview {
        let preview = preview.unwrap();
        assert!(preview.url.ends_with(&expected.url_end), "{preview:?}");
        assert!(preview.body_json.contains(&expected.body_contains), "{preview:?}");
    }
}
