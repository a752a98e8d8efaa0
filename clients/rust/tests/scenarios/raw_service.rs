//! A service over bare HTTP/2 whose calls a test answers: for what no real service does when it is asked to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use messenger_connector_client::v1;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Where the details of a status keep the contract's error.
const SEND_ERROR_TYPE_URL: &str = "type.googleapis.com/messenger.v1.SendError";

/// One call.
pub(crate) struct Call {
    /// Which one it is, over all connections, from 0.
    pub(crate) number: usize,
    pub(crate) requests: Requests,
    response: SendResponse<Bytes>,
    hang_up: Arc<Notify>,
}

/// Messages of a caller.
pub(crate) struct Requests {
    stream: RecvStream,
    bytes: BytesMut,
}

/// Serves calls, at most `streams_max` at a time on one connection. Returns the address.
pub(crate) async fn serve<F>(streams_max: u32, answer: impl Fn(Call) -> F + Clone + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let calls_count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (answer, calls_count) = (answer.clone(), calls_count.clone());
            tokio::spawn(async move {
                let handshake =
                    h2::server::Builder::new().max_concurrent_streams(streams_max).handshake(socket);
                let (mut connection, hang_up) = (handshake.await.unwrap(), Arc::new(Notify::new()));
                loop {
                    tokio::select! {
                        accepted = connection.accept() => {
                            let Some(Ok((request, response))) = accepted else { return };
                            let number = calls_count.fetch_add(1, Ordering::SeqCst);
                            let requests = Requests { stream: request.into_body(), bytes: BytesMut::new() };
                            let hang_up = hang_up.clone();
                            tokio::spawn(answer(Call { number, requests, response, hang_up }));
                        }
                        () = hang_up.notified() => return,
                    }
                }
            });
        }
    });
    address
}

impl Call {
    /// Begins the answer.
    pub(crate) fn begin(mut self) -> (Requests, Answers) {
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        (self.requests, Answers(self.response.send_response(head, false).unwrap()))
    }

    /// Answers with one message.
    pub(crate) fn succeed(self, message: &impl Message) {
        let (_, mut answers) = self.begin();
        answers.send(message);
        answers.end();
    }

    /// Answers with an error of the service's own.
    pub(crate) fn fail(self, code: u32, error: &v1::SendError) {
        let detail =
            prost_types::Any { type_url: SEND_ERROR_TYPE_URL.to_owned(), value: error.encode_to_vec() };
        let message = error.message.clone();
        let status =
            tonic_types::pb::Status { code: i32::try_from(code).unwrap(), message, details: vec![detail] };
        let (_, mut answers) = self.begin();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", code.to_string().parse().unwrap());
        let details = tonic::metadata::BinaryMetadataValue::from_bytes(&status.encode_to_vec());
        let encoded = String::from_utf8(details.as_encoded_bytes().to_vec()).unwrap();
        trailers.insert("grpc-status-details-bin", encoded.parse().unwrap());
        answers.0.send_trailers(trailers).unwrap();
    }

    /// Breaks the connection.
    pub(crate) fn hang_up(self) {
        self.hang_up.notify_one();
    }
}

impl Requests {
    /// The next message; `None` after the half-close, and when the caller has left.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(head) = self.bytes.get(1..5) {
                let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
                if self.bytes.len() >= 5 + length {
                    self.bytes.advance(5);
                    return Some(M::decode(self.bytes.split_to(length)).unwrap());
                }
            }
            self.bytes.extend_from_slice(&self.stream.data().await?.ok()?);
        }
    }
}

/// What a caller gets.
pub(crate) struct Answers(SendStream<Bytes>);

impl Answers {
    pub(crate) fn send(&mut self, message: &impl Message) {
        let message = message.encode_to_vec();
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.len()).unwrap());
        bytes.extend_from_slice(&message);
        self.0.send_data(bytes.freeze(), false).unwrap();
    }

    /// Ends the call with OK.
    pub(crate) fn end(mut self) {
        let trailers = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
        self.0.send_trailers(trailers.into_iter().collect()).unwrap();
    }
}
