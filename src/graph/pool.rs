//! Which connection a call gets: the open connections to a Graph host, and as many more as the calls in flight need.
//!
//! An HTTP/1.1 connection carries one call at a time, an HTTP/2 connection as many as the other side allows. Calls go to
//! the HTTP/2 connection with the fewest in flight. A connection on which a call has timed out gets no more.

mod lease;

use std::cmp::Reverse;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::client::conn::{http1, http2};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::connector::{Body, Connection, Sender};
use super::idle::IdleLimit;
use crate::limits::{GRAPH_CONNECTIONS_MAX, GRAPH_IDLE_MAX, GRAPH_STREAMS_MAX};
use lease::Lease;
pub(super) use lease::{HttpAnswer, NoAnswer};

/// Opens a connection, or tells why there is none.
pub(super) type Opener = Box<dyn Fn() -> BoxFuture<'static, Result<Connection, String>> + Send + Sync>;

/// Connections that are too old to be used again and are kept for what their end teaches.
const IDLE_OLD_MAX: usize = 8;

/// The connections to one host.
pub(super) struct Pool {
    open: Opener,
    state: Mutex<State>,
    /// A connection, or room on one, has come or gone.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Whether the host speaks HTTP/2, as far as is known.
    is_http2: Option<bool>,
    /// HTTP/1.1 connections without a call, the one that was used last at the end.
    idle: Vec<Idle>,
    /// HTTP/2 connections.
    shared: Vec<Shared>,
    /// Connections that are being opened.
    opening: usize,
    /// How often opening one has failed.
    failures: u64,
    /// Calls that have no connection yet.
    waiting: usize,
    idle_limit: IdleLimit,
    next_number: u64,
}

#[derive(Debug)]
struct Idle {
    number: u64,
    sender: http1::SendRequest<Body>,
    since: Instant,
    /// How long it may be idle and still be used, if the other side has said so.
    limit: Option<Duration>,
}

#[derive(Debug)]
struct Shared {
    number: u64,
    sender: http2::SendRequest<Body>,
    /// How many calls the other side allows at a time.
    streams: Arc<AtomicUsize>,
    calls: usize,
    /// When its last call began or ended.
    used: Instant,
    /// True if it gets no more calls.
    is_retired: bool,
}

/// What a call that wants a connection does next.
enum Next {
    Take(Lease),
    /// Opens a connection, and waits.
    Open,
    /// Waits for a connection that is being opened, or for room on one.
    Wait,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that has no connections yet. `is_http2` says whether the host speaks HTTP/2, if that is known before a
    /// connection is open.
    pub(super) fn new(is_http2: Option<bool>, open: Opener) -> Self {
        let state = State {
            is_http2,
            idle: Vec::new(),
            shared: Vec::new(),
            opening: 0,
            failures: 0,
            waiting: 0,
            idle_limit: IdleLimit::new(Instant::now()),
            next_number: 0,
        };
        Self { open, state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets a connection for one call.
    ///
    /// # Errors
    /// If none could be opened; the text says why.
    async fn lease(self: &Arc<Self>) -> Result<Lease, String> {
        let _waiting = Waiting::new(self);
        let mut failures = self.state().failures;
        let mut opened = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let has_failed = opened.is_none() && self.state().failures > failures;
            match self.next(opened.is_none() && !has_failed) {
                Next::Take(lease) => return Ok(lease),
                Next::Open => opened = Some(self.open()),
                Next::Wait if has_failed => return Err("another call found that out".to_owned()),
                Next::Wait => {}
            }
            tokio::select! {
                () = changed => {}
                result = async { Some(opened.as_mut()?.await) }, if opened.is_some() => match result {
                    Some(Ok(Ok(Some(lease)))) => return Ok(lease),
                    Some(Ok(Err(error))) => return Err(error),
                    // An HTTP/2 connection is among the others now. Or the task that opened it is gone.
                    Some(Ok(Ok(None)) | Err(_)) | None => {
                        opened = None;
                        failures = self.state().failures;
                    }
                },
            }
        }
    }

    fn next(self: &Arc<Self>, may_open: bool) -> Next {
        let now = Instant::now();
        let mut state = self.state();
        state.close_idle(now);
        if let Some(lease) = state.take_idle(self, now).or_else(|| state.take_shared(self, now)) {
            return Next::Take(lease);
        }
        if !may_open || !state.wants_another(now) {
            return Next::Wait;
        }
        state.opening += 1;
        Next::Open
    }

    /// Opens a connection in a task of its own: if its caller finds another in the meantime, the next one has this. Gives
    /// an HTTP/1.1 connection to the caller, and an HTTP/2 connection to all.
    fn open(self: &Arc<Self>) -> oneshot::Receiver<Result<Option<Lease>, String>> {
        let (sender, receiver) = oneshot::channel();
        let (opening, connection) = (Opening(self.clone()), (self.open)());
        tokio::spawn(async move {
            let result =
                connection.await.map(|connection| opening.0.add(connection.sender, connection.driver));
            if let Err(error) = &result {
                tracing::debug!(error, "no connection to graph");
                opening.0.state().failures += 1;
            }
            drop(opening);
            // A lease that nobody takes goes back to the others.
            drop(sender.send(result));
        });
        receiver
    }

    fn add(
        self: &Arc<Self>,
        sender: Sender,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Lease> {
        let now = Instant::now();
        let mut state = self.state();
        let number = state.next_number;
        state.next_number += 1;
        state.is_http2 = Some(matches!(sender, Sender::Http2(..)));
        let lease = match sender {
            Sender::Http1(sender) => Some(Lease::http1(self, number, sender, None)),
            Sender::Http2(sender, streams) => {
                state.shared.push(Shared { number, sender, streams, calls: 0, used: now, is_retired: false });
                None
            }
        };
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            driver.await;
            if let Some(pool) = pool.upgrade() {
                pool.note_end(number);
            }
        });
        lease
    }

    /// A connection has ended. If it was idle, the other side has ended it.
    fn note_end(&self, number: u64) {
        let now = Instant::now();
        let mut state = self.state();
        let State { idle, shared, idle_limit, .. } = &mut *state;
        if let Some(place) = idle.iter().position(|idle| idle.number == number) {
            idle_limit.note_close(now.saturating_duration_since(idle.remove(place).since), now);
        }
        if let Some(place) = shared.iter().position(|shared| shared.number == number) {
            let shared = shared.swap_remove(place);
            if shared.calls == 0 {
                idle_limit.note_close(now.saturating_duration_since(shared.used), now);
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    /// The HTTP/1.1 connection that was used last, if it may still be used. Older ones stay: that the other side closes
    /// them tells how long it keeps them.
    fn take_idle(&mut self, pool: &Arc<Pool>, now: Instant) -> Option<Lease> {
        let limit = self.idle_limit.get(now);
        let place = self.idle.iter().rposition(|idle| !idle.sender.is_closed())?;
        let last = &self.idle[place];
        let age = now.saturating_duration_since(last.since);
        if age >= last.limit.unwrap_or(limit).min(limit) {
            return None;
        }
        let Idle { number, sender, .. } = self.idle.remove(place);
        Some(Lease::http1(pool, number, sender, Some(age)))
    }

    /// The HTTP/2 connection with the fewest calls. Of several, the one that was used last, so that the others can go.
    fn take_shared(&mut self, pool: &Arc<Pool>, now: Instant) -> Option<Lease> {
        let limit = self.idle_limit.get(now);
        let has_room =
            |shared: &&mut Shared| shared.is_usable(now, limit) && shared.calls < shared.streams_max();
        let with_room = self.shared.iter_mut().filter(has_room);
        let shared = with_room.min_by_key(|shared| (shared.calls, Reverse(shared.used)))?;
        let age = (shared.calls == 0).then(|| now.saturating_duration_since(shared.used));
        shared.calls += 1;
        shared.used = now;
        Some(Lease::http2(pool, shared.number, shared.sender.clone(), age))
    }

    /// Whether to open a connection, given that there is none for a call. Until it is known what the host speaks, one
    /// connection finds out for all.
    fn wants_another(&mut self, now: Instant) -> bool {
        if self.is_http2 == Some(false) {
            return true;
        }
        let limit = self.idle_limit.get(now);
        let usable: Vec<_> = self.shared.iter().filter(|shared| shared.is_usable(now, limit)).collect();
        let streams =
            usable.iter().map(|shared| shared.streams_max()).max().unwrap_or(GRAPH_STREAMS_MAX).max(1);
        self.waiting > self.opening * streams && usable.len() + self.opening < GRAPH_CONNECTIONS_MAX
    }

    /// A call on an HTTP/2 connection is over.
    fn release(&mut self, number: u64, now: Instant) {
        if let Some(shared) = self.shared.iter_mut().find(|shared| shared.number == number) {
            shared.calls -= 1;
            shared.used = now;
        }
    }

    /// Closes connections that have been idle for long, and those that were only kept for their last calls. A few that are
    /// too old to be used stay for what their end teaches.
    fn close_idle(&mut self, now: Instant) {
        let limit = self.idle_limit.get(now);
        let mut old = 0;
        let mut stays = |since: Instant| {
            let age = now.saturating_duration_since(since);
            old += usize::from(age >= limit);
            age < limit || (age < GRAPH_IDLE_MAX && old <= IDLE_OLD_MAX)
        };
        self.idle.retain(|idle| stays(idle.since));
        self.shared.retain(|shared| shared.calls > 0 || (!shared.is_retired && stays(shared.used)));
    }
}

impl Shared {
    fn is_usable(&self, now: Instant, idle_limit: Duration) -> bool {
        let is_fresh = self.calls > 0 || now.saturating_duration_since(self.used) < idle_limit;
        is_fresh && !self.is_retired && !self.sender.is_closed()
    }

    /// How many calls it may carry at a time.
    fn streams_max(&self) -> usize {
        self.streams.load(Ordering::Relaxed).min(GRAPH_STREAMS_MAX)
    }
}

/// Counts a call as waiting while it lives.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.state().waiting += 1;
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Counts a connection as being opened while it lives.
struct Opening(Arc<Pool>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.state().opening -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
