//! Two services on one Postgres: whether they share a page's rate, and how soon one takes the place of the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Scale;
use crate::audience::Kind;
use crate::bulk::Bulk;
use crate::deliveries::Deliveries;
use crate::plot::{Words, over_time};
use crate::postgres;
use crate::process::{Process, Setup, Stack};
use crate::report::{Section, Target};

const RATE: u32 = 300;
/// How long both send, after a warm-up, until one is killed.
const TOGETHER: Duration = Duration::from_secs(20);
/// How long the other one is watched then.
const ALONE: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(5);
/// More than a bulk sends meanwhile.
const BULK_MESSAGES: u64 = 1_000_000;
const TOLERANCE_PERCENT: f64 = 2.0;
const TAKE_OVER_MAX: Duration = Duration::from_secs(5);

/// Measures both.
///
/// # Errors
/// If there is no Postgres, or the service that lives does not send.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let ledger = Some(postgres::new_database().await.to_string());
    let stack = Stack::start(Setup { rate: RATE, ledger, ..Setup::default() }).await?;
    let mut doomed = stack.replica().await?;
    let lives = tokio::spawn(saturate(&stack.service, "lives", 0).await?);
    let dies = tokio::spawn(saturate(&doomed, "dies", BULK_MESSAGES).await?);
    tokio::time::sleep(scale.time(WARM_UP)).await;
    let start_ms = now_ms();
    tokio::time::sleep(scale.time(TOGETHER)).await;
    let killed_ms = now_ms();
    doomed.kill().await?;
    tokio::time::sleep(scale.time(ALONE)).await;
    let end_ms = now_ms();
    anyhow::ensure!(!lives.is_finished(), "the bulk of the living service ended: {:?}", lives.await?);
    lives.abort();
    dies.abort();
    let deliveries = Deliveries::of(&stack).await?;
    report(&deliveries, [start_ms, killed_ms, end_ms].map(|at| deliveries.bucket_of(at)))
}

/// Sends a bulk as fast as the service takes it.
async fn saturate(
    service: &Process,
    bulk_id: &str,
    first: u64,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let mut client = service.client().await?;
    let bulk = Bulk::new(Kind::Text, bulk_id, first..first + BULK_MESSAGES);
    Ok(async move { bulk.send(&mut client).await.map(drop) })
}

fn report(deliveries: &Deliveries, [start_ms, killed_ms, end_ms]: [u64; 3]) -> anyhow::Result<Section> {
    let together = deliveries.between(start_ms, killed_ms) as f64 * 1000.0 / (killed_ms - start_ms) as f64;
    let off_percent = (together / f64::from(RATE) - 1.0) * 100.0;
    let whole = f64::from(RATE) * (1.0 - TOLERANCE_PERCENT / 100.0);
    let after_kill = deliveries.by_second(killed_ms, end_ms);
    let take_over = after_kill.iter().find(|(_, messages)| *messages >= whole).map(|(at, _)| *at);
    let take_over_text = take_over.map_or("not within the measurement".to_owned(), |at| format!("{at:.1} s"));
    let text = format!(
        "## Two replicas\n\nTwo services on one Postgres, each with a bulk on the same page at {RATE} messages a second: together \
         {together:.0} a second ({off_percent:+.1} %). Then one is killed; the other has the whole rate after: \
         {take_over_text}.\n\n![Messages in each second](replicas.svg)\n"
    );
    let killed_at = (killed_ms - start_ms) as f64 / 1000.0;
    let x = format!("seconds; one service is killed at {killed_at:.0}");
    let words =
        Words { title: "Messages in each second of two replicas", x: &x, y: "messages in one second" };
    let plot = over_time(words, &deliveries.by_second(start_ms, end_ms), f64::from(RATE))?;
    let targets = vec![
        Target::new(
            format!("two replicas on a page at {RATE}/s: together within {TOLERANCE_PERCENT:.0} %"),
            format!("{off_percent:+.1} %"),
            off_percent.abs() <= TOLERANCE_PERCENT,
        ),
        Target::new(
            format!("one replica dies: the other has the whole rate within {} s", TAKE_OVER_MAX.as_secs()),
            take_over_text,
            take_over.is_some_and(|at| at <= TAKE_OVER_MAX.as_secs_f64()),
        ),
    ];
    Ok(Section { name: "replicas", text, targets, plots: vec![("replicas.svg", plot)] })
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
