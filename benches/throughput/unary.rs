//! Callers of unary calls: as fast as they are answered, or at a steady pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::audience::text_request;
use crate::latency::Latencies;
use crate::process::Client;

/// Whether calls carry an idempotency key, and so are on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    With,
    Without,
}

impl Id {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::With => "with `request_id`",
            Self::Without => "without `request_id`",
        }
    }

    fn of(self, name: &str, number: u64) -> String {
        match self {
            Self::With => format!("{name}-{number}"),
            Self::Without => String::new(),
        }
    }
}

/// Sends one text.
///
/// # Errors
/// If it is not sent.
pub(crate) async fn send_one(
    client: &mut Client,
    name: &str,
    number: u64,
    id: Id,
) -> anyhow::Result<Duration> {
    let request = text_request(number, &id.of(name, number));
    let start = Instant::now();
    let response = client.send_text_message(request).await?;
    let latency = start.elapsed();
    ensure!(response.into_inner().result.is_some(), "a send was answered without a receipt");
    Ok(latency)
}

/// Sends this many texts with `callers` calls in flight.
///
/// # Errors
/// If one is not sent.
pub(crate) async fn send_many(
    client: &Client,
    name: &str,
    messages: u64,
    callers: usize,
    id: Id,
) -> anyhow::Result<Latencies> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (mut client, next, name) = (client.clone(), next.clone(), name.to_owned());
        tasks.spawn(async move {
            let mut latencies = Latencies::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    return anyhow::Ok(latencies);
                }
                latencies.add(send_one(&mut client, &name, number, id).await?);
            }
        });
    }
    let mut all = Latencies::default();
    while let Some(latencies) = tasks.join_next().await {
        all.merge(latencies??);
    }
    Ok(all)
}

/// Sends a text every `pause` for a while, whether or not the last one was answered; every second one with an id.
/// Answers how long those with an id took, and those without.
///
/// # Errors
/// If one is not sent.
pub(crate) async fn send_steadily(
    client: &Client,
    name: &str,
    pause: Duration,
    duration: Duration,
) -> anyhow::Result<[Latencies; 2]> {
    let mut tasks = JoinSet::new();
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    for number in 0.. {
        ticks.tick().await;
        if start.elapsed() >= duration {
            break;
        }
        let id = if number % 2 == 0 { Id::With } else { Id::Without };
        let (mut client, name) = (client.clone(), name.to_owned());
        tasks.spawn(async move { anyhow::Ok((id, send_one(&mut client, &name, number, id).await?)) });
    }
    let mut latencies = <[Latencies; 2]>::default();
    let [with, without] = &mut latencies;
    while let Some(sent) = tasks.join_next().await {
        let (id, latency) = sent??;
        match id {
            Id::With => with.add(latency),
            Id::Without => without.add(latency),
        }
    }
    Ok(latencies)
}
