//! Calls that go well, and the state they leave.

use messenger_connector::sandbox::Options;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::client::*;

#[tokio::test]
async fn a_send_is_answered_and_kept() {
    let sandbox = start(Options::default()).await;
    let answer = sandbox.send_to("1254477777772919").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["recipient_id"], "1254477777772919");
    assert_eq!(answer.header("facebook-api-version"), Some("v25.0"));
    assert_eq!(answer.header("content-type"), Some("application/json; charset=UTF-8"));
    assert!(answer.header("x-fb-trace-id").is_some() && answer.header("x-fb-request-id").is_some());
    let usage = json!({"type": "messenger", "call_count": 1, "total_cputime": 1, "total_time": 1, "estimated_time_to_regain_access": 0});
    assert_eq!(answer.usage("1001"), usage);

    let form = "recipient=%7B%22id%22%3A%222%22%7D&message=%7B%22text%22%3A%22Hi%22%7D&appsecret_proof=p";
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    let answer = sandbox.call("POST", "/v18.0/me/messages?access_token=t-77", headers, form).await.unwrap();
    assert_eq!(answer.header("facebook-api-version"), Some("v21.0"));

    let list = sandbox.get("/sandbox/messages?limit=1&offset=1").await;
    assert_eq!(list["total"], 2);
    let message = &list["messages"][0];
    assert_eq!(message["message_id"], answer.json()["message_id"]);
    assert_eq!(message["body"], json!({"recipient": {"id": "2"}, "message": {"text": "Hi"}}));
    assert_eq!(
        (&message["page_id"], &message["version"], &message["authorization"]),
        (&json!("77"), &json!("v21.0"), &json!("query"))
    );
    assert_eq!((&message["in_batch"], &message["appsecret_proof"]), (&json!(false), &json!(true)));
    assert_eq!(sandbox.get("/sandbox/messages?recipient=2").await["total"], 1);
    assert_eq!(sandbox.get("/sandbox/rate?page=77").await["most_in_one_second"], 1);
}

#[tokio::test]
async fn answers_without_a_person_or_a_message() {
    let sandbox = start(Options::default()).await;
    let path = "/1001/messages";
    let text = json!({"text": "Hi"});
    let by_ref = sandbox.post(path, &json!({"recipient": {"user_ref": "r"}, "message": text})).await.unwrap();
    assert!(by_ref.json()["recipient_id"].is_null() && by_ref.json()["message_id"].is_string());
    let typing = json!({"recipient": {"id": "1"}, "sender_action": "typing_on"});
    assert_eq!(sandbox.post(path, &typing).await.unwrap().text, r#"{"recipient_id":"1"}"#);
    let reply = json!({"recipient": {"comment_id": "c"}, "message": text});
    assert_eq!(sandbox.post(path, &reply).await.unwrap().status, 200);
    assert_eq!(sandbox.post(path, &reply).await.unwrap().error().0, 10900);
    let probe = sandbox.call("GET", "/v25.0/me?access_token=t-5", "", "").await.unwrap();
    assert_eq!(probe.json()["id"], "5");
}

#[tokio::test]
async fn batches() {
    let sandbox = start(Options::default()).await;
    let items = [item_to("1"), item_to("null-in-batch"), item_to("fail-551"), item_to("1")];
    let answer = sandbox.post("/v25.0/", &json!({"batch": items})).await.unwrap();
    let entries = answer.json();
    assert_eq!((answer.status, entries.as_array().unwrap().len()), (200, 4));
    assert!(entries[1].is_null());
    let body: Value = serde_json::from_str(entries[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["recipient_id"], "1");
    assert_eq!(entries[2]["code"], 400);
    let names: Vec<_> =
        entries[2]["headers"].as_array().unwrap().iter().map(|header| &header["name"]).collect();
    assert_eq!(names, ["Content-Type", "Facebook-API-Version", "X-Business-Use-Case-Usage"]);
    let kept = sandbox.get("/sandbox/messages?recipient=1").await["messages"][0].clone();
    assert_eq!(
        (&kept["in_batch"], &kept["body"]["message"]["text"]),
        (&json!(true), &json!("Hello & good-bye"))
    );
    let state = sandbox.get("/sandbox/state").await;
    let counts = ["batch_calls", "batch_items", "delivered", "duplicates", "same_recipient_batches"];
    assert_eq!(counts.map(|name| state[name].as_u64().unwrap()), [1, 4, 3, 1, 1]);
}

#[tokio::test]
async fn batches_as_forms_and_wrong_batches() {
    let sandbox = start(Options::default()).await;
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("access_token", "t-1001")
        .append_pair("include_headers", "false")
        .append_pair("batch", &json!([item_to("5")]).to_string())
        .finish();
    let answer = sandbox.call("POST", "/", "", &form).await.unwrap();
    assert!(answer.json()[0]["headers"].is_null() && answer.json()[0]["code"] == 200, "{answer:?}");
    let answer = sandbox.post("/v25.0/", &json!({"batch": vec![item_to("1"); 51]})).await.unwrap();
    assert_eq!((answer.status, answer.json()["error"]["type"].clone()), (400, json!("GraphBatchException")));
    let expired = json!({"batch": [item_to("1")], "access_token": "expired-1"});
    let answer = sandbox
        .call("POST", "/v25.0/", "Content-Type: application/json\r\n", &expired.to_string())
        .await
        .unwrap();
    assert_eq!(answer.error(), (190, Some(463)));
}

#[tokio::test]
async fn media_are_saved_and_fetched() {
    let sandbox = start(Options::default()).await;
    let image = |payload: Value| json!({"attachment": {"type": "image", "payload": payload}});
    let uploads = "/v25.0/1001/message_attachments";
    let by_url = |url: &str| image(json!({"url": url, "is_reusable": true}));
    let upload = json!({"message": by_url("https://a.example/1.png")});
    let id = sandbox.post(uploads, &upload).await.unwrap().json()["attachment_id"].clone();
    let with_id = json!({"recipient": {"id": "1"}, "message": image(json!({"attachment_id": id}))});
    assert_eq!(sandbox.post("/v25.0/1001/messages", &with_id).await.unwrap().status, 200);
    assert_eq!(sandbox.post("/v25.0/1002/messages", &with_id).await.unwrap().error(), (100, Some(2018074)));
    let send = json!({"recipient": {"id": "1"}, "message": by_url("https://unfetchable.example/1")});
    assert_eq!(sandbox.post("/v25.0/1001/messages", &send).await.unwrap().error(), (100, Some(2018008)));
    let saved = sandbox.post("/v25.0/1001/messages", &send).await.unwrap().json();
    let with_id =
        json!({"recipient": {"id": "1"}, "message": image(json!({"attachment_id": saved["attachment_id"]}))});
    assert_eq!(sandbox.post("/v25.0/1001/messages", &with_id).await.unwrap().status, 200);
    let multipart = "Content-Type: multipart/form-data; boundary=x\r\nAuthorization: Bearer t\r\n";
    assert_eq!(sandbox.call("POST", uploads, multipart, "").await.unwrap().error(), (100, None));
}

#[tokio::test]
async fn light_mode_answers_everything_and_keeps_nothing() {
    let sandbox = start(Options { light: true, ..Options::default() }).await;
    let alone = sandbox.send_to("fail-551").await.unwrap().json();
    assert!(alone["message_id"].is_string() && alone["recipient_id"] == "fail-551", "{alone}");
    let batch = json!({"batch": [item_to("fail-551"), item_to("2")]});
    let entries = sandbox.post("/v25.0/", &batch).await.unwrap().json();
    let receipts: Vec<Value> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_str(entry["body"].as_str().unwrap()).unwrap())
        .collect();
    let ids = |name: &str| receipts.iter().map(|receipt| receipt[name].clone()).collect::<Vec<_>>();
    assert_eq!(ids("recipient_id"), ["fail-551", "2"]);
    let ids = ids("message_id");
    assert!(ids.len() == 2 && ids[0].is_string() && ids[0] != ids[1], "{ids:?}");
    let state = sandbox.get("/sandbox/state").await;
    assert_eq!((&state["delivered"], &state["batch_items"]), (&json!(3), &json!(2)));
    assert_eq!(sandbox.kept().await, 0);
}

#[tokio::test]
async fn connections_live_on_until_the_sandbox_stops() {
    let sandbox = start(Options { keep: 1, ..Options::default() }).await;
    let mut stream = TcpStream::connect(sandbox.address).await.unwrap();
    let headers = "Content-Type: application/json\r\nAuthorization: Bearer t\r\n";
    for number in 0..3 {
        let body = text_to(&number.to_string()).to_string();
        assert_eq!(call_on(&mut stream, "POST", "/1001/messages", headers, &body).await.unwrap().status, 200);
    }
    let state = sandbox.get("/sandbox/state").await;
    assert_eq!((&state["delivered"], &state["connections"]), (&json!(3), &json!(2)));
    assert_eq!(sandbox.kept().await, 1);
    sandbox.stop.send(()).unwrap();
    sandbox.task.await.unwrap().unwrap();
    assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(sandbox.address).await.is_err());
}
