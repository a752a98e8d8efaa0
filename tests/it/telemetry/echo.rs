//! A Graph that refuses everything, and quotes all that it was sent in its error.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Default)]
pub struct Echo(Arc<Mutex<Vec<String>>>);

impl Echo {
    /// Starts one, and returns it with its address.
    pub async fn start() -> (Self, String) {
        let (echo, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answering = echo.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answering.clone().answer(stream));
            }
        });
        (echo, address)
    }

    /// The calls that it got: head and body.
    pub fn calls(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn answer(self, mut stream: TcpStream) {
        let mut call = Vec::new();
        let is_whole = |call: &[u8]| {
            let text = String::from_utf8_lossy(call).to_lowercase();
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length =
                head.split("content-length: ").nth(1).map_or("0", |rest| rest.lines().next().unwrap());
            (body.len() >= length.parse().unwrap()).then_some(())
        };
        while is_whole(&call).is_none() {
            if stream.read_buf(&mut call).await.unwrap() == 0 {
                return;
            }
        }
        let call = String::from_utf8(call).unwrap();
        let error = serde_json::json!({"code": 551, "type": call, "message": call, "fbtrace_id": call,
            "error_user_title": call, "error_user_msg": call});
        self.0.lock().unwrap().push(call);
        let body = serde_json::json!({ "error": error }).to_string();
        let head = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\nfacebook-api-version: v1.0\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    }
}
