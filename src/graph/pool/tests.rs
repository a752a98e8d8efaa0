//! The pool in virtual time, against peers over pipes.

mod peer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::Full;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::limits::{GRAPH_CALL_TIMEOUT, GRAPH_PING_INTERVAL, GRAPH_PING_TIMEOUT};
use peer::{Peer, Reply};

fn call() -> http::Request<Body> {
    http::Request::post("https://graph.example/v1/1/messages").body(Full::from(Bytes::from("{}"))).unwrap()
}

async fn send(pool: &Arc<Pool>) -> Result<u16, NoAnswer> {
    pool.exchange(call(), GRAPH_CALL_TIMEOUT).await.map(|answer| answer.status)
}

/// Sends so many calls at a time.
async fn send_all(pool: &Arc<Pool>, calls: usize) -> Vec<Result<u16, NoAnswer>> {
    join_all((0..calls).map(|_| send(pool))).await
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_get_as_many_connections_as_they_need() {
    for streams in [1, 7, 100, 1000] {
        let calls = 12 * streams.min(GRAPH_STREAMS_MAX);
        // Nobody is answered until all have come.
        let all = Arc::new(Barrier::new(calls));
        let peer = Peer::http2(streams, move |_| {
            let all = all.clone();
            async move {
                all.wait().await;
                Reply::Accept
            }
        });
        for round in 1..=3 {
            let answers = timeout(Duration::from_secs(20), send_all(&peer.pool, calls)).await;
            let answers = answers.unwrap_or_else(|_| panic!("{streams} streams: round {round} hangs"));
            assert!(answers.iter().all(|answer| *answer == Ok(200)), "{streams}: {answers:?}");
            assert_eq!(peer.connections(), 12, "{streams} streams, round {round}");
        }
        assert!(peer.streams_at_a_time() <= streams, "{} of {streams}", peer.streams_at_a_time());
        assert_eq!(peer.calls(), 3 * calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_has_a_bound_of_connections() {
    let peer = Peer::http2(2, |_| async {
        sleep(Duration::from_secs(1)).await;
        Reply::Accept
    });
    let calls = 2 * GRAPH_CONNECTIONS_MAX + 50;
    let began = Instant::now();
    let answers = send_all(&peer.pool, calls).await;
    assert_eq!(answers.iter().find(|answer| **answer != Ok(200)), None);
    assert_eq!((peer.connections(), began.elapsed().as_secs()), (GRAPH_CONNECTIONS_MAX, 2));
}

#[tokio::test(start_paused = true)]
async fn one_attempt_is_one_attempt_whatever_the_peer_says_of_it() {
    for lie in [Reply::Refuse, Reply::GoAway, Reply::Reset] {
        let peer = Peer::http2(100, move |_| async move { lie });
        for sent in 1..=5 {
            assert_eq!(send(&peer.pool).await, Err(NoAnswer::Broken), "{lie:?}");
            assert_eq!(peer.calls(), sent, "{lie:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_goes_away_is_replaced() {
    let peer = Peer::http2(100, |call| async move {
        if call % 10 == 9 { Reply::AcceptAndGoAway } else { Reply::Accept }
    });
    for _ in 0..100 {
        assert_eq!(send(&peer.pool).await, Ok(200));
    }
    assert_eq!((peer.calls(), peer.connections()), (100, 10));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_hangs_costs_what_its_pings_take() {
    let hung = Arc::new(AtomicUsize::new(usize::MAX));
    let after = hung.clone();
    let peer = Peer::http2(100, move |call| {
        let is_hung = call >= after.load(Ordering::Relaxed);
        async move { if is_hung { Reply::Hang } else { Reply::Accept } }
    });
    assert_eq!(send(&peer.pool).await, Ok(200));
    let began = Instant::now();
    hung.store(peer.calls(), Ordering::Relaxed);
    assert_eq!(send(&peer.pool).await, Err(NoAnswer::Broken));
    hung.store(usize::MAX, Ordering::Relaxed);
    let cost = began.elapsed();
    assert!(cost <= GRAPH_PING_INTERVAL + GRAPH_PING_TIMEOUT + Duration::from_secs(1), "{cost:?}");
    for _ in 0..10 {
        assert_eq!(send(&peer.pool).await, Ok(200), "on another connection");
    }
    assert_eq!(peer.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_a_call_timed_out_gets_no_more_calls() {
    let peer = Peer::http2(100, |call| async move { if call == 0 { Reply::Never } else { Reply::Accept } });
    assert_eq!(send(&peer.pool).await, Err(NoAnswer::Timeout));
    assert_eq!(send(&peer.pool).await, Ok(200));
    assert_eq!(peer.connections(), 2);
    let is_open = timeout(GRAPH_CALL_TIMEOUT, peer.closed(0)).await.is_err();
    assert!(!is_open, "the first connection stays open for nobody");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_connection_that_cannot_be_made_is_told_at_once() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let open: Opener = Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            sleep(Duration::from_secs(5)).await;
            Err("nobody there".to_owned())
        })
    });
    let pool = Arc::new(Pool::new(None, open));
    let began = Instant::now();
    let answers = send_all(&pool, 1000).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(NoAnswer::NotConnected(_)))), "{answers:?}");
    assert_eq!((began.elapsed().as_secs(), attempts.load(Ordering::Relaxed)), (5, 10));
    let state = pool.state();
    assert_eq!((state.waiting, state.opening), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_the_peer_closes_when_idle_is_not_used_near_its_end() {
    let (idle, way) = (Duration::from_secs(1), Duration::from_millis(25));
    let peers = [Peer::http1(idle, way), Peer::http2_that_closes(idle, way)];
    for (version, peer) in ["HTTP/1.1", "HTTP/2"].into_iter().zip(peers) {
        let mut random = fastrand::Rng::with_seed(1);
        let calls = 3000;
        let mut broken = 0;
        for _ in 0..calls {
            match send(&peer.pool).await {
                Ok(status) => assert_eq!(status, 200),
                Err(NoAnswer::Broken) => broken += 1,
                Err(other) => panic!("{version}: {other:?}"),
            }
            sleep(Duration::from_millis(random.u64(0..2000))).await;
        }
        assert!(broken <= 2, "{version}: {broken} of {calls} met the end of their connection");
        let (seen, connections) = (peer.calls(), peer.connections());
        assert!(seen <= calls && seen >= calls - broken, "{version}: {seen} of {calls}");
        assert!(connections < calls * 9 / 10, "{version}: {connections} connections are hardly used again");
    }
}
