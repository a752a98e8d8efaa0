//! What a hostile client can do to the built binary: it costs little memory, and the others are served all the while.

use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use messenger_connector::api::pb;
use messenger_connector::limits::{BULK_ITEMS_SHARED, GRPC_MESSAGE_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    Client, in_time, item, items_frame, receipt, sandbox_json, start_frame, start_sandbox, text_request,
};
use crate::kill::Service;
use crate::random::Random;

/// Most memory that the service may ever have resident.
const MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
const SILENT_CONNECTIONS: usize = 1000;
/// Bulk streams of the reader that never reads: all that one caller may have.
const UNREAD_STREAMS: usize = 100;
/// Items of each of them, as many as a stream may hold, and of a frame.
const UNREAD_ITEMS: usize = 5000;
const FRAME_ITEMS: usize = 500;
const RESETS: u32 = 10_000;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const BULK_PATH: &str = "/messenger.v1.MessengerService/SendBulkMessages";
pub const TEXT_PATH: &str = "/messenger.v1.MessengerService/SendTextMessage";

// Types and flags of HTTP/2 frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// An HTTP/2 frame.
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The start of a call: a header block without compression (RFC 7541).
fn call_headers(stream: u32, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // POST, http, then :path, :authority, content-type and te.
    let block = [
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("localhost"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0x00],
        text("te"),
        text("trailers"),
    ];
    http2_frame(HEADERS, END_HEADERS, stream, &block.concat())
}

/// A connection that has said hello.
async fn raw(address: &str) -> TcpStream {
    let mut connection = tcp(address).await;
    connection.write_all(&[PREFACE, &http2_frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    connection
}

pub async fn tcp(address: &str) -> TcpStream {
    TcpStream::connect(address.trim_start_matches("http://")).await.unwrap()
}

/// The type and flags of the next frame, or `None` at the end.
async fn next_frame(connection: &mut TcpStream) -> Option<(u8, u8)> {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    connection.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4]))
}

/// Waits until the service ends the connection; true if it says so first.
async fn until_cut(connection: &mut TcpStream) -> bool {
    in_time(async {
        let mut is_told = false;
        while let Some((kind, _)) = next_frame(connection).await {
            is_told |= kind == GOAWAY;
        }
        is_told
    })
    .await
}

/// The status of a call with this body, which need not be a message.
pub async fn call(address: &str, path: &str, encoding: &str, body: Vec<u8>) -> Status {
    let io = TokioIo::new(tcp(address).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(Full::new(Bytes::from(body)));
    let response = in_time(sender.send_request(request.unwrap())).await.unwrap();
    let of_headers = Status::from_header_map(response.headers());
    let trailers = in_time(response.into_body().collect()).await.unwrap().trailers().cloned();
    connection.abort();
    of_headers.or_else(|| Status::from_header_map(&trailers?)).expect("a call ends with a status")
}

/// A gRPC message, or what claims to be one.
pub fn message(is_compressed: bool, length: usize, bytes: &[u8]) -> Vec<u8> {
    [&[u8::from(is_compressed)][..], &u32::try_from(length).unwrap().to_be_bytes(), bytes].concat()
}

/// A gzip stream of zeros (RFC 1951, section 3.2.6): one literal, then "the same 258 times" in 13 bits each.
fn gzip_bomb(bytes: usize) -> Vec<u8> {
    let zero = [true, true, false, false, true, true, false, false].map(|bit| !bit);
    let again = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0].map(|bit| bit == 1);
    let mut bits = vec![true, true, false];
    bits.extend(zero);
    while bits.len() < bytes * 8 {
        bits.extend(again);
    }
    let pack = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    header.into_iter().chain(bits.chunks(8).map(pack)).collect()
}

async fn silent_connections(address: &str) -> Vec<TcpStream> {
    let mut silent = Vec::new();
    for number in 0..SILENT_CONNECTIONS {
        let mut connection = tcp(address).await;
        connection.write_all(&PREFACE[..number % PREFACE.len()]).await.unwrap();
        silent.push(connection);
    }
    silent
}

/// Streams whose answers nobody reads. They stay open.
async fn unread_streams(address: &str, sandbox_url: &str) -> Vec<Streaming<pb::SendBulkMessagesResponse>> {
    let endpoint = Channel::from_shared(address.to_owned()).unwrap();
    let channel = endpoint.initial_stream_window_size(65_535).connect().await.unwrap();
    let mut streams = Vec::new();
    for stream in 0..UNREAD_STREAMS {
        let (frames, requests) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            frames.send(start_frame("x")).await.unwrap();
            for first in (0..UNREAD_ITEMS).step_by(FRAME_ITEMS) {
                let items =
                    (first..first + FRAME_ITEMS).map(|n| item(&format!("{n}"), &format!("{stream}-{n}")));
                // Fails once the stream is given up.
                drop(frames.send(items_frame(items.collect())).await);
            }
            frames.closed().await;
        });
        let requests = ReceiverStream::new(requests);
        streams.push(Client::new(channel.clone()).send_bulk_messages(requests).await.unwrap().into_inner());
    }
    // What all streams together may hold; the rest waits at its caller's.
    let wanted = BULK_ITEMS_SHARED as u64;
    let messages =
        async || sandbox_json(sandbox_url, "/sandbox/messages?limit=1").await["total"].as_u64().unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(120), async {
        while messages().await < wanted {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("what came in is sent, whether its results are read or not");
    streams
}

async fn oversize_and_malformed_messages(address: &str) {
    let over = GRPC_MESSAGE_BYTES_MAX + 1;
    for path in [TEXT_PATH, BULK_PATH] {
        for (length, sent) in [(over, 0), (u32::MAX as usize, 1), (over, over)] {
            let too_long = call(address, path, "identity", message(false, length, &vec![0; sent])).await;
            let expected = if path == TEXT_PATH { Code::InvalidArgument } else { Code::OutOfRange };
            assert_eq!(too_long.code(), expected, "{too_long:?}");
        }
        for bytes in [&b"\x0a\xff\xff\xff\xff\x0f"[..], b"\x07", &[0xff; 64]] {
            let malformed = call(address, path, "identity", message(false, bytes.len(), bytes)).await;
            let expected = if path == TEXT_PATH { Code::InvalidArgument } else { Code::Internal };
            assert_eq!(malformed.code(), expected, "{malformed:?}");
        }
        let bomb = gzip_bomb(1024 * 1024);
        let bomb = call(address, path, "gzip", message(true, bomb.len(), &bomb)).await;
        assert_eq!(bomb.code(), Code::Unimplemented, "{bomb:?}");
    }
}

async fn malformed_frames(address: &str) {
    let long = [&[0xff, 0xff, 0xff, DATA, 0], &1_u32.to_be_bytes()[..]].concat();
    let endless = http2_frame(CONTINUATION, 0, 1, &[0; 16 * 1024]).repeat(1000);
    let table = [
        ("a frame of 16 MiB", long),
        ("data of no stream", http2_frame(DATA, 0, 0, b"x")),
        ("data of an idle stream", http2_frame(DATA, 0, 1, b"x")),
        ("headers of no stream", call_headers(0, TEXT_PATH)),
        ("headers of a stream that only the server may open", call_headers(2, TEXT_PATH)),
        ("headers that point nowhere", http2_frame(HEADERS, END_HEADERS, 1, &[0x80, 0xff, 0xff])),
        ("the rest of headers that never began", http2_frame(CONTINUATION, END_HEADERS, 1, &[0x83])),
        ("headers without end", [http2_frame(HEADERS, 0, 1, &[0x83]), endless].concat()),
        ("a reset of an idle stream", http2_frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("settings of five bytes", http2_frame(SETTINGS, 0, 0, &[0; 5])),
        ("a ping of seven bytes", http2_frame(PING, 0, 0, &[0; 7])),
        ("a window larger by nothing", http2_frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
    ];
    for (what, bytes) in table {
        let mut connection = raw(address).await;
        // The service may be gone before all is written.
        let _written = in_time(connection.write_all(&bytes)).await;
        let is_told = until_cut(&mut connection).await;
        // What was not read makes the end a reset, which may overtake the words.
        assert!(is_told || what == "headers without end", "{what}: no GOAWAY");
    }
    let mut random = Random::new(1);
    for _ in 0..200 {
        let mut connection = raw(address).await;
        let noise: Vec<_> = (0..512).flat_map(|_| random.next().to_be_bytes()).collect();
        let _written = in_time(connection.write_all(&noise)).await;
        let _closed = connection.shutdown().await;
        until_cut(&mut connection).await;
    }
}

/// Calls that are reset once they have begun, and then before that, which the service bears from nobody for long.
async fn resets(address: &str) {
    let start = |number: u32| call_headers(2 * number + 1, BULK_PATH);
    let reset = |number: u32| http2_frame(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8]);
    let mut connection = raw(address).await;
    for round in 0..RESETS / 10 {
        let numbers = round * 10..(round + 1) * 10;
        let mut starts: Vec<_> = numbers.clone().flat_map(start).collect();
        starts.extend(http2_frame(PING, 0, 0, &[7; 8]));
        connection.write_all(&starts).await.unwrap();
        while in_time(next_frame(&mut connection)).await.expect("it goes on") != (PING, ACK) {}
        connection.write_all(&numbers.flat_map(reset).collect::<Vec<_>>()).await.unwrap();
    }
    let mut connection = raw(address).await;
    let all = (0..RESETS).flat_map(|number| [start(number), reset(number)].concat());
    let _written = in_time(connection.write_all(&all.collect::<Vec<_>>())).await;
    until_cut(&mut connection).await;
}

/// The service is as well as ever.
pub async fn is_well(service: &Service, after: &str) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_bytes = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    println!("{after}: at most {} MiB resident", peak_bytes / 1024 / 1024);
    assert!(peak_bytes < MEMORY_BYTES_MAX, "{after}: {} MiB", peak_bytes / 1024 / 1024);
    let channel = Channel::from_shared(service.address.clone()).unwrap().connect().await.unwrap();
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert_eq!(health.unwrap().into_inner().status(), ServingStatus::Serving, "{after}");
    let sent = in_time(Client::new(channel).send_text_message(text_request("7", "x"))).await;
    receipt(sent.unwrap().into_inner());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_cost_little_and_harm_nobody() {
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let (sandbox_url, _stop) = start_sandbox(0).await;
    let service = Service::start_with(&ledger, &sandbox_url, &[]).await;
    let address = service.address.as_str();

    let _silent = silent_connections(address).await;
    is_well(&service, "silent connections").await;
    oversize_and_malformed_messages(address).await;
    is_well(&service, "oversize and malformed messages").await;
    malformed_frames(address).await;
    is_well(&service, "malformed frames").await;
    resets(address).await;
    is_well(&service, "resets").await;
    let _unread = unread_streams(address, &sandbox_url).await;
    is_well(&service, "streams that nobody reads").await;
}
