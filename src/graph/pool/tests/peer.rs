//! Peers that speak HTTP over pipes, and lie, hang or leave as a test wants it. The HTTP/2 one is written from RFC 9113,
//! frame by frame.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::graph::connector::{over_http1, over_http2};
use crate::graph::pool::Pool;

const BODY: &[u8] = b"{}";
const PREFACE_LENGTH: usize = 24;
const PIPE_BYTES: usize = 1 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// What becomes of a call. All but the first are told although the call was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Accept,
    /// It is answered, then the connection takes no more calls.
    AcceptAndGoAway,
    /// "This stream was not processed."
    Refuse,
    /// "No stream was processed."
    GoAway,
    /// The stream is reset.
    Reset,
    /// It is never answered; the connection lives.
    Never,
    /// From now on the connection says nothing, but stays open.
    Hang,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    calls: AtomicUsize,
    streams_at_a_time: AtomicUsize,
    /// Numbers of connections that the client has closed.
    closed: watch::Sender<Vec<usize>>,
}

type Behaviour = Arc<dyn Fn(usize) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// A peer, and the pool that calls it.
pub(super) struct Peer {
    pub(super) pool: Arc<Pool>,
    seen: Arc<Seen>,
}

impl Peer {
    /// Speaks HTTP/2, and allows so many streams a connection. `reply` tells what becomes of a call, given its number.
    pub(super) fn http2<F>(streams: usize, reply: impl Fn(usize) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let reply: Behaviour = Arc::new(move |call| Box::pin(reply(call)));
        Self::over_http2(streams, reply, Duration::MAX, Duration::ZERO)
    }

    /// Speaks HTTP/2, and closes connections that were idle for so long. What is written arrives after `way`.
    pub(super) fn http2_that_closes(idle: Duration, way: Duration) -> Self {
        Self::over_http2(100, Arc::new(|_| Box::pin(async { Reply::Accept })), idle, way)
    }

    fn over_http2(streams: usize, reply: Behaviour, idle: Duration, way: Duration) -> Self {
        let seen = Arc::<Seen>::default();
        let peer = seen.clone();
        let open: super::Opener = Box::new(move || {
            let (ours, theirs) = pipe(way);
            let number = peer.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve_http2(theirs, streams, number, reply.clone(), idle, peer.clone()));
            Box::pin(async move { over_http2(TokioIo::new(ours)).await.map_err(|error| error.to_string()) })
        });
        Self { pool: Arc::new(Pool::new(None, open)), seen }
    }

    /// Speaks HTTP/1.1, and closes connections that were idle for so long. What is written arrives after `way`.
    pub(super) fn http1(idle: Duration, way: Duration) -> Self {
        let seen = Arc::<Seen>::default();
        let peer = seen.clone();
        let open: super::Opener = Box::new(move || {
            let (ours, theirs) = pipe(way);
            peer.connections.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve_http1(theirs, idle, peer.clone()));
            Box::pin(async move { over_http1(TokioIo::new(ours)).await.map_err(|error| error.to_string()) })
        });
        Self { pool: Arc::new(Pool::new(Some(false), open)), seen }
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Calls that arrived whole.
    pub(super) fn calls(&self) -> usize {
        self.seen.calls.load(Ordering::Relaxed)
    }

    /// The most streams that one connection had open.
    pub(super) fn streams_at_a_time(&self) -> usize {
        self.seen.streams_at_a_time.load(Ordering::Relaxed)
    }

    /// Waits until the client has closed a connection.
    pub(super) async fn closed(&self, number: usize) {
        let mut closed = self.seen.closed.subscribe();
        closed.wait_for(|closed| closed.contains(&number)).await.unwrap();
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn goaway(last_stream: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), [0; 4]].concat())
}

/// What is written for a reply, or `None` if from now on nothing is.
fn written(reply: Reply, stream: u32) -> Option<Vec<u8>> {
    // `:status: 200` is entry 8 of HPACK's static table.
    let accepted =
        [frame(HEADERS, END_HEADERS, stream, &[0x88]), frame(DATA, END_STREAM, stream, BODY)].concat();
    Some(match reply {
        Reply::Accept => accepted,
        Reply::AcceptAndGoAway => [accepted, goaway(stream)].concat(),
        Reply::Refuse => frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes()),
        Reply::Reset => frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()),
        Reply::GoAway => goaway(0),
        Reply::Never => Vec::new(),
        Reply::Hang => return None,
    })
}

async fn serve_http2(
    pipe: DuplexStream,
    streams: usize,
    number: usize,
    reply: Behaviour,
    idle: Duration,
    seen: Arc<Seen>,
) {
    let (reader, writer) = split(pipe);
    let (frames, queue) = mpsc::unbounded_channel();
    tokio::spawn(write_http2(writer, queue));
    let mut limit = vec![0, 3];
    limit.extend((streams as u32).to_be_bytes());
    drop(frames.send(Some(frame(SETTINGS, 0, 0, &limit))));
    drop(frames.send(Some(frame(WINDOW_UPDATE, 0, 0, &0x7f00_0000_u32.to_be_bytes()))));
    // An end is the client's: what else ends a pipe here is the test's.
    drop(read_http2(reader, frames, reply, idle, &seen).await);
    seen.closed.send_modify(|closed| closed.push(number));
}

/// Writes what it is told. Told nothing more, it keeps the connection open and silent.
async fn write_http2(
    mut writer: WriteHalf<DuplexStream>,
    mut queue: mpsc::UnboundedReceiver<Option<Vec<u8>>>,
) {
    let mut is_silent = false;
    while let Some(frame) = queue.recv().await {
        is_silent |= frame.is_none();
        if let Some(frame) = frame.filter(|_| !is_silent)
            && writer.write_all(&frame).await.is_err()
        {
            return;
        }
    }
}

async fn read_http2(
    mut reader: ReadHalf<DuplexStream>,
    frames: mpsc::UnboundedSender<Option<Vec<u8>>>,
    reply: Behaviour,
    idle: Duration,
    seen: &Arc<Seen>,
) -> std::io::Result<()> {
    reader.read_exact(&mut [0; PREFACE_LENGTH]).await?;
    let open = Arc::new(std::sync::Mutex::new(HashMap::<u32, ()>::new()));
    loop {
        let mut head = [0; 9];
        timeout(idle, reader.read_exact(&mut head)).await??;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => drop(frames.send(Some(frame(SETTINGS, ACK, 0, &[])))),
            PING if flags & ACK == 0 => drop(frames.send(Some(frame(PING, ACK, 0, &payload)))),
            RST_STREAM => drop(open.lock().unwrap().remove(&stream)),
            HEADERS => {
                let mut open = open.lock().unwrap();
                open.insert(stream, ());
                seen.streams_at_a_time.fetch_max(open.len(), Ordering::Relaxed);
            }
            DATA if flags & END_STREAM != 0 => {
                let reply = reply(seen.calls.fetch_add(1, Ordering::Relaxed));
                let (frames, open) = (frames.clone(), open.clone());
                tokio::spawn(async move {
                    let reply = reply.await;
                    if reply != Reply::Never {
                        open.lock().unwrap().remove(&stream);
                    }
                    drop(frames.send(written(reply, stream)));
                });
            }
            _ => {}
        }
    }
}

/// Two ends of a connection, so far apart.
fn pipe(way: Duration) -> (DuplexStream, DuplexStream) {
    let (ours, near) = duplex(PIPE_BYTES);
    if way.is_zero() {
        return (ours, near);
    }
    let (far, theirs) = duplex(PIPE_BYTES);
    let ((near_reader, near_writer), (far_reader, far_writer)) = (split(near), split(far));
    tokio::spawn(carry(near_reader, far_writer, way));
    tokio::spawn(carry(far_reader, near_writer, way));
    (ours, theirs)
}

/// Carries what is written, and the end, with a delay.
async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, way: Duration) {
    let mut buffer = vec![0; 4096];
    while let Ok(count) = from.read(&mut buffer).await {
        sleep(way).await;
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}

async fn serve_http1(mut pipe: DuplexStream, idle: Duration, seen: Arc<Seen>) {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match timeout(idle, pipe.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => request.extend(&buffer[..count]),
            _ => return,
        }
        if request.ends_with(b"\r\n\r\n{}") {
            request.clear();
            seen.calls.fetch_add(1, Ordering::Relaxed);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            if pipe.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}
