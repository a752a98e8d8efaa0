//! A raw HTTP/1.1 client, which also shows how an answer breaks off.

use std::io;

use messenger_connector::sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Running {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<io::Result<()>>,
}

pub(crate) async fn start(options: Options) -> Running {
    let listen = ([127, 0, 0, 1], 0).into();
    let sandbox = Sandbox::bind(Options { listen, ..options }).await.unwrap();
    let address = sandbox.local_addr();
    assert_eq!(sandbox.url(), format!("http://{address}"));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(sandbox.serve(async {
        let _stopped = stopped.await;
    }));
    Running { address, stop, task }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn error(&self) -> (i64, Option<i64>) {
        let error = &self.json()["error"];
        (error["code"].as_i64().unwrap_or_default(), error["error_subcode"].as_i64())
    }

    pub(crate) fn usage(&self, page: &str) -> Value {
        let usage: Value = serde_json::from_str(self.header("x-business-use-case-usage").unwrap()).unwrap();
        usage[page][0].clone()
    }
}

impl Running {
    /// One request on a connection of its own.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        call_on(&mut stream, method, path, headers, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        let headers = "Content-Type: application/json\r\nAuthorization: Bearer token-1001\r\n";
        self.call("POST", path, headers, &body.to_string()).await
    }

    pub(crate) async fn send_to(&self, recipient: &str) -> io::Result<Answer> {
        self.post("/v25.0/1001/messages", &text_to(recipient)).await
    }

    pub(crate) async fn send_as(&self, token: &str) -> Answer {
        let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
        self.call("POST", "/v25.0/me/messages", &headers, &text_to("1").to_string()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, "", "").await.unwrap().json()
    }

    pub(crate) async fn kept(&self) -> u64 {
        self.get("/sandbox/messages").await["total"].as_u64().unwrap()
    }
}

pub(crate) fn text_to(recipient: &str) -> Value {
    json!({"recipient": {"id": recipient}, "messaging_type": "UPDATE", "message": {"text": "Hello"}})
}

pub(crate) fn item_to(recipient: &str) -> Value {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("messaging_type", "UPDATE")
        .append_pair("recipient", &json!({"id": recipient}).to_string())
        .append_pair("message", r#"{"text":"Hello & good-bye"}"#)
        .finish();
    json!({"method": "POST", "relative_url": "1001/messages", "body": body})
}

pub(crate) async fn call_on(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<Answer> {
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: graph\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    loop {
        if let Some(answer) = parse(&read) {
            return Ok(answer);
        }
        if stream.read_buf(&mut read).await? == 0 {
            let text = String::from_utf8_lossy(&read).into_owned();
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
    }
}

pub(crate) fn parse(read: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(read).ok()?;
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let answer = Answer { status, head: head.to_owned(), text: rest.to_owned() };
    let length: usize = answer.header("content-length")?.parse().ok()?;
    (rest.len() >= length).then_some(answer)
}
