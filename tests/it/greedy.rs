//! What one caller can do to the built binary with requests that are not wrong, only many or large: it costs little
//! memory, and the others are served all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use messenger_connector::api::pb;
use messenger_connector::limits::{ITEMS_PER_FRAME_MAX, TEMPLATE_STEPS_MAX, UNARY_REQUEST_BYTES_MAX};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Client, in_time, item, items_frame, send_error, start_frame, start_sandbox};
use crate::hostile::{BULK_PATH, TEXT_PATH, call, is_well, message, tcp};
use crate::kill::Service;
use crate::random::setting;

const STREAMS: usize = 16;
/// Items that carry one id; `REPEATS=10000000` makes it more.
const REPEATS: usize = 1_000_000;
/// Unary calls that stop short, and the connections that they come by.
const SHORT_CALLS: usize = 2000;
const SHORT_CALLS_CONNECTIONS: usize = 20;

/// A service of its own for each test: the most memory that it had is a test's own then.
async fn start(folder: &tempfile::TempDir) -> (Service, tokio_util::sync::DropGuard) {
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, stop) = start_sandbox(0).await;
    (Service::start_with(&ledger, &sandbox_url, &[]).await, stop)
}

fn framed(request: &impl Message) -> Vec<u8> {
    message(false, request.encoded_len(), &request.encode_to_vec())
}

/// A frame of empty items, as bytes on the wire: two for each.
fn empty_items(count: usize) -> Vec<u8> {
    let frame = pb::SendBulkMessagesRequest {
        frame: Some(pb::send_bulk_messages_request::Frame::Items(pb::BulkItems { items: Vec::new() })),
    };
    assert_eq!(frame.encode_to_vec(), [0x12, 0]);
    let mut bytes = vec![0x12];
    prost::encoding::encode_varint(2 * count as u64, &mut bytes);
    bytes.extend([0x0a, 0].repeat(count));
    message(false, bytes.len(), &bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_tiny_items_cost_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _stop) = start(&folder).await;
    let start = framed(&start_frame("x"));
    for (items, expected) in [(2_000_000, Code::InvalidArgument), (ITEMS_PER_FRAME_MAX, Code::Ok)] {
        let body = [start.clone(), empty_items(items)].concat();
        let calls = (0..STREAMS).map(|_| call(&service.address, BULK_PATH, "identity", body.clone()));
        for status in futures_util::future::join_all(calls).await {
            assert_eq!(status.code(), expected, "{status:?}");
            if expected != Code::Ok {
                assert!(send_error(&status).message.contains("50000"), "{status:?}");
            }
        }
        is_well(&service, &format!("{STREAMS} streams of {items} tiny items in a frame")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_of_an_id_in_flight_take_room_and_get_a_result_each() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _stop) = start(&folder).await;
    let repeats = setting("REPEATS").unwrap_or(REPEATS);
    let mut client = Client::connect(service.address.clone()).await.unwrap();
    let (frames, requests) = mpsc::channel(4);
    frames.send(start_frame("x")).await.unwrap();
    let mut answers = client.send_bulk_messages(ReceiverStream::new(requests)).await.unwrap().into_inner();
    tokio::spawn(async move {
        let frame = items_frame(vec![item("a", "slow-500.1"); 20_000]);
        for _ in 0..repeats / 20_000 {
            frames.send(frame.clone()).await.unwrap();
        }
    });
    let (mut results, mut counts) = (0, None);
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.frame.unwrap() {
            pb::send_bulk_messages_response::Frame::Results(frame) => results += frame.results.len(),
            pb::send_bulk_messages_response::Frame::Summary(summary) => counts = summary.counts,
            pb::send_bulk_messages_response::Frame::Accepted(_) => {}
        }
    }
    assert_eq!((results, counts.unwrap().sent), (repeats, repeats as i64));
    is_well(&service, "repeats of an id").await;
}

/// A call that has sent all but the end of its request, and waits.
fn stop_short(sender: &mut http2::SendRequest<ShortBody>, address: &str, written: Arc<AtomicUsize>) {
    let length = UNARY_REQUEST_BYTES_MAX;
    let (pieces, body) = mpsc::unbounded_channel();
    pieces.send(Bytes::from(message(false, length, &[]))).unwrap();
    let zeros = Bytes::from(vec![0; 16 * 1024]);
    (0..length / zeros.len() - 1).for_each(|_| pieces.send(zeros.clone()).unwrap());
    let frames = tokio_stream::StreamExt::map(UnboundedReceiverStream::new(body), move |piece| {
        written.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::convert::Infallible>(Frame::data(piece))
    });
    let request = Request::post(format!("{address}{TEXT_PATH}")).header("content-type", "application/grpc");
    let response = sender.send_request(request.body(StreamBody::new(Box::pin(frames) as Pieces)).unwrap());
    tokio::spawn(async move {
        let _open = pieces;
        // Refused at once, or told that its deadline has passed.
        drop(response.await);
    });
}

type Pieces = std::pin::Pin<
    Box<dyn tokio_stream::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> + Send>,
>;
type ShortBody = StreamBody<Pieces>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_that_stop_short_of_their_end_stay_small() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _stop) = start(&folder).await;
    let written = Arc::<AtomicUsize>::default();
    let mut senders = Vec::new();
    for _ in 0..SHORT_CALLS_CONNECTIONS {
        let io = TokioIo::new(tcp(&service.address).await);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..SHORT_CALLS / SHORT_CALLS_CONNECTIONS {
            stop_short(&mut sender, &service.address, written.clone());
        }
        senders.push(sender);
    }
    // Until nothing more is taken of them.
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = written.load(Ordering::Relaxed);
        if now > SHORT_CALLS && now == before {
            break;
        }
        before = now;
    }
    is_well(&service, "unary calls that stop short").await;
}

/// A text that takes nearly all the steps that one may.
fn heavy_text() -> String {
    format!("{{{{#repeat times={}}}}}{{{{nobody.has.this}}}}{{{{/repeat}}}}hi", TEMPLATE_STEPS_MAX / 5)
}

/// How long some checks and sends take, one after the other.
async fn rounds(service: &Service, when: &str) -> Duration {
    let started = Instant::now();
    for _ in 0..20 {
        is_well(service, when).await;
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_templates_of_one_caller_stop_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _stop) = start(&folder).await;
    let idle = rounds(&service, "alone").await;
    let channel = Channel::from_shared(service.address.clone()).unwrap();
    let mut greedy = Vec::new();
    for _ in 0..STREAMS {
        let items = (0..200).map(|n| item(&n.to_string(), &n.to_string()));
        let frames = [start_frame(&heavy_text()), items_frame(items.collect())];
        let mut client = Client::new(channel.connect().await.unwrap());
        let answers = client.send_bulk_messages(tokio_stream::iter(frames)).await.unwrap().into_inner();
        greedy.push(answers);
    }
    for answers in &mut greedy {
        // Each of them is at work.
        in_time(answers.message()).await.unwrap().unwrap();
    }
    let pressed = rounds(&service, "beside heavy templates").await;
    assert!(pressed < 5 * idle + Duration::from_millis(500), "{pressed:?} beside them, {idle:?} before");
    // They get done, one after the other.
    let first: Result<_, Status> = in_time(greedy[0].message()).await;
    assert!(first.unwrap().is_some());
}
