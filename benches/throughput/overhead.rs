//! What the service adds to one call, and what 100 ms of upstream latency leave of a bulk's speed.

use crate::Scale;
use crate::audience::Kind;
use crate::baseline::Baseline;
use crate::bulk::Bulk;
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::plot::grouped;
use crate::process::{Setup, Stack};
use crate::report::{Section, Target, row, table};
use crate::unary::{Id, send_one};

/// Direct calls and calls of the service take turns, so that a busy moment of the machine hits all alike.
const TURNS: u64 = 20;
const CALLS_PER_TURN: u64 = 250;
const WITHOUT_ID_MS_MAX: f64 = 0.3;
const WITH_ID_MS_MAX: f64 = 2.0;

const UPSTREAM_LATENCY_MS: u64 = 100;
const UPSTREAM_MESSAGES: u64 = 100_000;
const UPSTREAM_RATE_MIN: f64 = 5000.0;

/// Measures what the service adds to a Graph call, one call at a time.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure_unary(scale: Scale) -> anyhow::Result<Section> {
    let stack = Stack::start(Setup::default()).await?;
    let mut client = stack.service.client().await?;
    let baseline = Baseline::new(Kind::Text.preview(&mut client).await?)?;
    let mut latencies = <[Latencies; 3]>::default();
    let [direct, without, with] = &mut latencies;
    let calls = scale.count(CALLS_PER_TURN);
    for turn in 0..=TURNS {
        // The first turn warms up.
        let is_counted = turn > 0;
        for number in turn * calls..(turn + 1) * calls {
            let sent = baseline.send_one(number).await?;
            if is_counted {
                direct.add(sent);
            }
        }
        for (id, latencies) in [(Id::Without, &mut *without), (Id::With, &mut *with)] {
            for number in turn * calls..(turn + 1) * calls {
                let sent = send_one(&mut client, "order", number, id).await?;
                if is_counted {
                    latencies.add(sent);
                }
            }
        }
    }
    Ok(unary_section(direct, [(Id::Without, without, WITHOUT_ID_MS_MAX), (Id::With, with, WITH_ID_MS_MAX)]))
}

fn unary_section(direct: &mut Latencies, through: [(Id, &mut Latencies, f64); 2]) -> Section {
    let ms = |ms: f64| format!("{ms:.2}");
    let base = direct.percentile_ms(50.0);
    let mut rows = vec![
        row(["", "p50, ms", "p99, ms", "added at p50, ms"]),
        vec!["direct to the sandbox".to_owned(), ms(base), ms(direct.percentile_ms(99.0)), String::new()],
    ];
    let mut targets = Vec::new();
    for (id, latencies, limit) in through {
        let (p50, p99) = (latencies.percentile_ms(50.0), latencies.percentile_ms(99.0));
        let added = p50 - base;
        rows.push(vec![format!("through the service, {}", id.name()), ms(p50), ms(p99), ms(added)]);
        targets.push(Target::new(
            format!("unary {}: adds at most {limit} ms at p50", id.name()),
            format!("{added:.2} ms"),
            added <= limit,
        ));
    }
    let text = format!(
        "## What the service adds to a call\n\n{} texts each, one at a time; direct calls and calls of the service take \
         turns. An id costs two flushes of the disk: the claim before the call, and the outcome after it.\n\n{}",
        grouped((TURNS * CALLS_PER_TURN) as f64),
        table(&rows)
    );
    Section { name: "overhead", text, targets, plots: Vec::new() }
}

/// Measures a bulk to a Graph that takes its time.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure_upstream_latency(scale: Scale) -> anyhow::Result<Section> {
    let messages = scale.count(UPSTREAM_MESSAGES);
    let stack = Stack::start(Setup { latency_ms: UPSTREAM_LATENCY_MS, ..Setup::default() }).await?;
    let mut client = stack.service.client().await?;
    let meter = Meter::start(&stack)?;
    Bulk::new(Kind::Text, "sale", 0..messages).send(&mut client).await?;
    let cost = meter.read(messages)?;
    let rate = grouped(cost.messages_per_second.round());
    let text = format!(
        "## Upstream latency\n\nA bulk of {} texts on one page, to a sandbox that takes {UPSTREAM_LATENCY_MS} ms for every \
         call: {rate} messages per second, {:.1} µs CPU of the service each.\n",
        grouped(messages as f64),
        cost.service_us
    );
    let target = Target::new(
        format!(
            "{UPSTREAM_LATENCY_MS} ms upstream latency: at least {} messages/s on one page",
            grouped(UPSTREAM_RATE_MIN)
        ),
        format!("{rate} messages/s"),
        cost.messages_per_second >= UPSTREAM_RATE_MIN,
    );
    Ok(Section { name: "upstream latency", text, targets: vec![target], plots: Vec::new() })
}
