//! Faults that recipients, tokens, rates and scripts ask for.

use std::io;
use std::time::Duration;

use messenger_connector::sandbox::Options;
use serde_json::{Value, json};

use super::client::*;

#[tokio::test]
async fn recipients_script_refusals() {
    let sandbox = start(Options::default()).await;
    let cases = [
        ("fail-551.a", 400, (551, None)),
        ("fail-10-2018278", 403, (10, Some(2018278))),
        ("throttle-1.a", 429, (80006, None)),
        ("throttle-always", 429, (80006, None)),
        ("transient-1", 400, (4200, None)),
        ("error-200", 200, (100, Some(2018001))),
    ];
    for (recipient, status, error) in cases {
        let answer = sandbox.send_to(recipient).await.unwrap();
        assert_eq!((answer.status, answer.error()), (status, error), "{recipient}");
    }
    let throttled = sandbox.send_to("throttle-1-7").await.unwrap();
    assert_eq!(throttled.usage("1001")["estimated_time_to_regain_access"], 7);
    assert_eq!(throttled.usage("1001")["call_count"], 100);
    assert_eq!(sandbox.kept().await, 0);
    for recipient in ["throttle-1.a", "transient-1", "throttle-1-7"] {
        assert_eq!(sandbox.send_to(recipient).await.unwrap().status, 200, "{recipient}");
    }
    let state = sandbox.get("/sandbox/state").await;
    let counts =
        ["delivered", "refused", "throttled", "plain_calls"].map(|name| state[name].as_u64().unwrap());
    assert_eq!(counts, [3, 4, 3, 10]);
}

#[tokio::test]
async fn recipients_script_answers_after_the_delivery() {
    let sandbox = start(Options::default()).await;
    let cases = [
        ("null-in-batch", 500, r#""code":2,"#),
        ("maybe-1357046", 500, r#""error_subcode":1357046"#),
        ("html-502", 502, "<html>"),
        ("server-500", 500, "Internal"),
        ("html-200", 200, "<html>"),
        ("empty-200", 200, ""),
        ("no-id", 200, r#"{"recipient_id":"no-id"}"#),
        ("slow-30", 200, "message_id"),
    ];
    for (recipient, status, text) in cases {
        let answer = sandbox.send_to(recipient).await.unwrap();
        assert_eq!(answer.status, status, "{recipient}");
        assert!(answer.text.contains(text) && answer.text.is_empty() == text.is_empty(), "{answer:?}");
        assert_eq!(
            sandbox.get(&format!("/sandbox/messages?recipient={recipient}")).await["total"],
            1,
            "{recipient}"
        );
    }
    sandbox.send_to("server-500").await.unwrap();
    assert_eq!(sandbox.get("/sandbox/state").await["duplicates"], 1);
}

#[tokio::test]
async fn recipients_script_the_connection() {
    let sandbox = start(Options::default()).await;
    let before = sandbox.send_to("reset-before.x").await.unwrap_err();
    assert_eq!((before.kind(), sandbox.kept().await), (io::ErrorKind::ConnectionReset, 0));
    let after = sandbox.send_to("reset-after.x").await.unwrap_err();
    assert_eq!((after.kind(), sandbox.kept().await), (io::ErrorKind::ConnectionReset, 1));
    let torn = sandbox.send_to("reset-in-body").await.unwrap_err();
    assert_eq!(torn.kind(), io::ErrorKind::UnexpectedEof);
    assert!(torn.to_string().starts_with("HTTP/1.1 200 OK"), "{torn}");
    assert!(torn.to_string().ends_with(r#"{"recipient_id":"reset-in-body","mes"#), "{torn}");
    let stalled = tokio::time::timeout(Duration::from_millis(50), sandbox.send_to("stall")).await;
    assert!(stalled.is_err(), "answered: {stalled:?}");
    assert_eq!(sandbox.kept().await, 3);
    let batch = json!({"batch": [item_to("1"), item_to("reset-after")]});
    sandbox.post("/v25.0/", &batch).await.unwrap_err();
    assert_eq!(sandbox.kept().await, 5);
    let only_one_open = async { while sandbox.get("/sandbox/state").await["open_connections"] != 1 {} };
    tokio::time::timeout(Duration::from_secs(5), only_one_open).await.unwrap();
}

#[tokio::test]
async fn tokens_and_proofs() {
    let sandbox = start(Options::default()).await;
    let cases = [
        ("expired-1", (190, Some(463))),
        ("revoked-1", (190, Some(460))),
        ("restricted-1", (10, Some(1893063))),
        ("blocked-1", (368, None)),
        ("noperm-1", (200, None)),
        ("", (104, None)),
    ];
    for (token, error) in cases {
        assert_eq!(sandbox.send_as(token).await.error(), error, "{token}");
    }
    let probe = |token: &str| format!("/v25.0/me?access_token={token}");
    assert_eq!(sandbox.call("GET", &probe("expired-1"), "", "").await.unwrap().error().0, 190);
    assert_eq!(sandbox.call("GET", &probe("blocked-1"), "", "").await.unwrap().status, 200);

    let secret = Some("12345678".to_owned());
    let strict =
        start(Options { access_token: secret.clone(), app_secret: secret, ..Options::default() }).await;
    assert_eq!(strict.send_as("other").await.error(), (190, None));
    assert_eq!(strict.send_as("12345678").await.json()["error"]["type"], "GraphMethodException");
    let proof = "e220691b3e23647fc17c4b282bb469ac77fbadb8f5c77898294e42de95add560";
    let path = format!("/v25.0/1001/messages?appsecret_proof={proof}");
    let headers = "Content-Type: application/json\r\nAuthorization: Bearer 12345678\r\n";
    let wrong = path.replace("e220", "e221");
    let answer = strict.call("POST", &wrong, headers, &text_to("1").to_string()).await.unwrap();
    assert_eq!(answer.json()["error"]["type"], "GraphMethodException");
    let answer = strict.call("POST", &path, headers, &text_to("1").to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown = strict.call("GET", "/sandbox/messages", "", "").await.unwrap().text;
    assert!(!shown.contains("12345678") && !shown.contains(proof), "{shown}");
}

#[tokio::test]
async fn the_rate_counts_batch_items_one_by_one() {
    let sandbox = start(Options { rate_per_second: 3, ..Options::default() }).await;
    let items: Vec<Value> = (1..=5).map(|number| item_to(&number.to_string())).collect();
    let entries = sandbox.post("/v25.0/", &json!({"batch": items})).await.unwrap().json();
    let codes: Vec<_> =
        entries.as_array().unwrap().iter().map(|entry| entry["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 200, 200, 429, 429]);
    assert_eq!(sandbox.post("/v25.0/1002/messages", &text_to("1")).await.unwrap().status, 200);
    assert_eq!(sandbox.get("/sandbox/state").await["pages"]["1001"]["throttled"], 2);
}

#[tokio::test]
async fn faults_are_scripted_and_forgotten() {
    let sandbox = start(Options::default()).await;
    let cases = [
        (json!({"token_invalid": true}), (190, None)),
        (
            json!({"token_invalid": null, "throttle_all": true, "regain_minutes": 4, "usage_percent": 80}),
            (80006, None),
        ),
        (json!({"throttle_all": false, "fail_all": {"code": 1200, "subcode": 5}}), (1200, Some(5))),
    ];
    for (faults, error) in cases {
        assert_eq!(sandbox.post("/sandbox/faults", &faults).await.unwrap().status, 200);
        assert_eq!(sandbox.send_to("1").await.unwrap().error(), error, "{faults}");
    }
    assert_eq!(sandbox.send_to("1").await.unwrap().usage("1001")["call_count"], 80);
    assert_eq!(sandbox.post("/sandbox/faults", &json!({"latency": 1})).await.unwrap().status, 400);
    sandbox.post("/sandbox/reset", &json!({})).await.unwrap();
    assert_eq!(sandbox.get("/sandbox/state").await["refused"], 0);
    assert_eq!(sandbox.send_to("1").await.unwrap().status, 200);
    sandbox.post("/sandbox/faults", &json!({"stall_all": true})).await.unwrap();
    let stalled = tokio::time::timeout(Duration::from_millis(50), sandbox.send_to("1")).await;
    assert!(stalled.is_err(), "answered: {stalled:?}");
}
