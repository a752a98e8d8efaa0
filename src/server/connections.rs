//! The connections of one port: how many there may be, and which goes when there are too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::api::connection::{ConnectionUse, Standing};

/// The connections that a port serves.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    served: Mutex<Served>,
    /// Told when a connection has ended.
    ended: Notify,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) all: usize,
    /// From one address.
    pub(super) of_peer: usize,
}

#[derive(Debug, Default)]
struct Served {
    by_number: HashMap<u64, Connection>,
    last_number: u64,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    usage: Arc<ConnectionUse>,
    given_up: CancellationToken,
}

/// A place among the connections, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    /// What the connection is used for.
    pub(super) usage: Arc<ConnectionUse>,
    /// Cancelled when another one gets the place.
    pub(super) given_up: CancellationToken,
}

/// There is no place, and no connection that could be given up for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The peer has as many as one may.
    Peer,
    /// The port has.
    Port,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, served: Mutex::default(), ended: Notify::new() }
    }

    /// A place for a new connection. If there are too many, one that has no call under way is given up: first those over
    /// which no caller ever came, then those that were idle for longest.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Result<Place, Full> {
        let mut served = self.served();
        if served.of_peer(peer) >= self.limits.of_peer {
            served.give_up(|connection| connection.peer == peer).ok_or(Full::Peer)?;
        } else if served.by_number.len() >= self.limits.all {
            served.give_up(|_| true).ok_or(Full::Port)?;
        }
        served.last_number += 1;
        let number = served.last_number;
        let (usage, given_up) = (Arc::new(ConnectionUse::new(now)), CancellationToken::new());
        let connection = Connection { peer, usage: usage.clone(), given_up: given_up.clone() };
        served.by_number.insert(number, connection);
        Ok(Place { connections: self.clone(), number, usage, given_up })
    }

    /// Returns when a connection has ended since this was called, or a little later.
    pub(super) async fn one_has_ended(&self) {
        self.ended.notified().await;
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    fn of_peer(&self, peer: IpAddr) -> usize {
        self.by_number.values().filter(|connection| connection.peer == peer).count()
    }

    /// Gives up one of these connections, if one is idle.
    fn give_up(&mut self, may_go: impl Fn(&Connection) -> bool) -> Option<()> {
        let candidates = self.by_number.iter().filter(|(_, connection)| may_go(connection));
        let idle = candidates.filter_map(|(number, connection)| match connection.usage.standing() {
            Standing::Active => None,
            Standing::Idle { since, has_caller } => Some((has_caller, since, *number)),
        });
        let (_, _, number) = idle.min()?;
        self.by_number.remove(&number)?.given_up.cancel();
        Some(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.served().by_number.remove(&self.number);
        self.connections.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEERS: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

    fn connections(all: usize, of_peer: usize) -> Arc<Connections> {
        Arc::new(Connections::new(Limits { all, of_peer }))
    }

    #[test]
    fn the_oldest_connection_without_a_call_goes_first() {
        let (connections, start) = (connections(3, 3), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let second = connections.admit(PEERS[0], at(2)).unwrap();
        let first = connections.admit(PEERS[1], at(1)).unwrap();
        let third = connections.admit(PEERS[0], at(3)).unwrap();
        let fourth = connections.admit(PEERS[0], at(4)).unwrap();
        assert!(first.given_up.is_cancelled() && !second.given_up.is_cancelled());
        // One that has been given up has no place any more, and frees none when it ends.
        drop(first);
        let fifth = connections.admit(PEERS[0], at(5)).unwrap();
        let is_given_up = [&second, &third, &fourth, &fifth].map(|place| place.given_up.is_cancelled());
        assert_eq!(is_given_up, [true, false, false, false]);
        drop(third);
        let _sixth = connections.admit(PEERS[0], at(6)).unwrap();
        assert!(!fourth.given_up.is_cancelled(), "there was a place");
    }

    #[test]
    fn a_peer_has_a_limit_of_its_own_and_its_own_connections_go() {
        let (connections, now) = (connections(3, 2), Instant::now());
        let other = connections.admit(PEERS[1], now).unwrap();
        let first = connections.admit(PEERS[0], now).unwrap();
        let second = connections.admit(PEERS[0], now).unwrap();
        let third = connections.admit(PEERS[0], now).unwrap();
        assert!(!other.given_up.is_cancelled() && !third.given_up.is_cancelled());
        assert!(first.given_up.is_cancelled() != second.given_up.is_cancelled());
    }

    #[test]
    fn connections_with_calls_stay_and_callers_go_after_strangers() {
        let (connections, now) = (connections(2, 2), Instant::now());
        let caller = connections.admit(PEERS[0], now).unwrap();
        let call = caller.usage.begin_call();
        let stranger = connections.admit(PEERS[0], now).unwrap();
        drop(call);
        let newer = connections.admit(PEERS[1], now).unwrap();
        assert!(stranger.given_up.is_cancelled() && !caller.given_up.is_cancelled());
        let _calls = (caller.usage.begin_call(), newer.usage.begin_probe());
        assert_eq!(connections.admit(PEERS[0], now).unwrap_err(), Full::Port);
        let _third = connections.admit(PEERS[1], now).unwrap_err();
        drop(newer);
        let last = connections.admit(PEERS[0], now).unwrap();
        let _call = last.usage.begin_call();
        assert_eq!(connections.admit(PEERS[0], now).unwrap_err(), Full::Peer);
    }
}
