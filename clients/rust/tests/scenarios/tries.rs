//! Scenarios of tries: one call, to a service that answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use messenger_connector_client::{Code, MessengerClient, Options, v1};
use uuid::Uuid;

use crate::contract::message;
use crate::raw_service::{self, Call};
use crate::scenario::{TryAnswer, TryScenario};

pub(crate) async fn run(scenario: TryScenario) {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let (seen, answers) = (ids.clone(), Arc::new(scenario.answers));
    let address = raw_service::serve(100, move |mut call: Call| {
        let (seen, answers) = (seen.clone(), answers.clone());
        async move {
            let request: v1::SendTextMessageRequest = call.requests.next().await.unwrap();
            seen.lock().unwrap().push(request.request_id);
            answer(call, &answers);
        }
    });
    let mut client = MessengerClient::connect(&address.await, Options::default()).unwrap();
    if let Some(timeout_ms) = scenario.timeout_ms {
        client = client.with_timeout(Duration::from_millis(timeout_ms));
    }
    let started = Instant::now();
    let answered = client.send_text_message(v1::SendTextMessageRequest::default()).await;
    let longest = scenario.within_ms.map_or(Duration::MAX, Duration::from_millis);
    assert!(started.elapsed() <= longest, "{:?}: {answered:?}", started.elapsed());

    let ids = std::mem::take(&mut *ids.lock().unwrap());
    match (answered, scenario.error) {
        (Err(error), Some(expected)) => {
            expected.check(&error);
            assert_eq!(error.request_id, ids[0]);
        }
        (Ok(response), None) => scenario.receipt.unwrap().check(response.receipt().unwrap()),
        (answered, _) => panic!("{answered:?}"),
    }
    if let Some(tries) = scenario.tries {
        assert_eq!(ids.len(), tries);
    }
    assert!(Uuid::parse_str(&ids[0]).is_ok() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// The answer to a try; all after the last one get that. A status without a reason is what a broken connection makes.
fn answer(call: Call, answers: &[TryAnswer]) {
    let answer = &answers[call.number.min(answers.len() - 1)];
    if let Some(receipt) = &answer.receipt {
        let receipt = v1::send_text_message_response::Result::Receipt(message("Receipt", receipt));
        call.succeed(&v1::SendTextMessageResponse { result: Some(receipt) });
    } else if let Some(reason) = &answer.reason {
        let reason = v1::ErrorReason::from_str_name(reason).unwrap().into();
        let code = match answer.code.as_deref() {
            Some("ABORTED") => Code::Aborted,
            Some("UNKNOWN") => Code::Unknown,
            other => panic!("there is no such code here yet: {other:?}"),
        };
        let error = v1::SendError { reason, message: "told to".to_owned(), ..Default::default() };
        call.fail(code as u32, &error);
    } else {
        assert_eq!(answer.code.as_deref(), Some("UNAVAILABLE"));
        call.hang_up();
    }
}
