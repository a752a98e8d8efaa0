//! Many callers at a time, to a Graph over TLS that takes its time: over HTTP/2, as Meta's, and over HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use crate::Scale;
use crate::audience::text_request;
use crate::latency::{Latencies, median};
use crate::plot::grouped;
use crate::process::{Http, Setup, Stack, page_id};
use crate::report::{Section, Target, row, table};

const ROUNDS: usize = 3;
const CALLERS: usize = 1200;
const CALLERS_PER_CHANNEL: usize = 60;
const PAGES: usize = 20;
const LATENCY_MS: u64 = 200;
const MESSAGES: u64 = 40_000;
/// Of what goes over HTTP/1.1.
const SHARE_MIN: f64 = 0.85;

/// Measures both.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let versions = [(Http::One, "HTTP/1.1"), (Http::Two, "HTTP/2, 100 calls a connection")];
    let mut rates = <[Vec<f64>; 2]>::default();
    let mut latencies = <[Latencies; 2]>::default();
    for _ in 0..ROUNDS {
        for ((http, _), (rates, latencies)) in versions.iter().zip(rates.iter_mut().zip(&mut latencies)) {
            let setup = Setup { tls: Some(*http), latency_ms: LATENCY_MS, pages: PAGES, ..Setup::default() };
            let stack = Stack::start(setup).await?;
            let start = std::time::Instant::now();
            let messages = scale.count(MESSAGES);
            latencies.merge(send(&stack, messages).await?);
            rates.push(messages as f64 / start.elapsed().as_secs_f64());
        }
    }
    let [http1, http2] = rates.map(median);
    let mut rows = vec![row(["Graph speaks", "messages/s", "p50, ms", "p99, ms"])];
    for (((_, name), rate), latencies) in versions.iter().zip([http1, http2]).zip(&mut latencies) {
        let mut ms = |percentile| format!("{:.0}", latencies.percentile_ms(percentile));
        let (p50, p99) = (ms(50.0), ms(99.0));
        rows.push(vec![(*name).to_owned(), grouped(rate.round()), p50, p99]);
    }
    let share = http2 / http1;
    let text = format!(
        "## Many callers over HTTP/2\n\n{} callers, {PAGES} pages, a sandbox over TLS that takes {LATENCY_MS} ms for every \
         call; medians of {ROUNDS} rounds of {} texts.\n\n{}",
        grouped(CALLERS as f64),
        grouped(scale.count(MESSAGES) as f64),
        table(&rows)
    );
    let target = Target::new(
        format!(
            "{} callers over HTTP/2: at least {SHARE_MIN} of what HTTP/1.1 reaches",
            grouped(CALLERS as f64)
        ),
        format!("{share:.2}"),
        share >= SHARE_MIN,
    );
    Ok(Section { name: "http2", text, targets: vec![target], plots: Vec::new() })
}

async fn send(stack: &Stack, messages: u64) -> anyhow::Result<Latencies> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS / CALLERS_PER_CHANNEL {
        let client = stack.service.client().await?;
        for _ in 0..CALLERS_PER_CHANNEL {
            let (mut client, next) = (client.clone(), next.clone());
            callers.spawn(async move {
                let mut latencies = Latencies::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= messages {
                        return anyhow::Ok(latencies);
                    }
                    let mut request = text_request(number, "");
                    request.page_id = page_id(number as usize % PAGES);
                    let start = std::time::Instant::now();
                    client.send_text_message(request).await?;
                    latencies.add(start.elapsed());
                }
            });
        }
    }
    let mut all = Latencies::default();
    while let Some(latencies) = callers.join_next().await {
        all.merge(latencies??);
    }
    Ok(all)
}
