//! How long a unary send takes while a bulk saturates the same page.

use std::time::Duration;

use crate::Scale;
use crate::audience::Kind;
use crate::bulk::Bulk;
use crate::latency::Latencies;
use crate::process::{Client, Setup, Stack};
use crate::report::{Section, Target, row, table};
use crate::unary::{Id, send_steadily};

/// Between two unary sends.
const PAUSE: Duration = Duration::from_millis(50);
const DURATION: Duration = Duration::from_secs(30);
/// How long the bulk runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// More than a bulk sends meanwhile.
const BULK_MESSAGES: u64 = 100_000_000;
const PAGE_RATE: u32 = 300;
const FACTOR_MAX: f64 = 3.0;

/// Measures it on a page at its default rate and on one without a limit.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let mut rows = vec![row(["", "p50, ms", "p99, ms", "idle p50, ms", "idle p99, ms", "p99 / idle p99"])];
    let mut targets = Vec::new();
    for rate in [PAGE_RATE, 0] {
        let stack = Stack::start(Setup { rate, ..Setup::default() }).await?;
        let client = stack.service.client().await?;
        // The bulk has a connection of its own, as another caller would.
        let bulk_client = stack.service.client().await?;
        let page = if rate == 0 { "no limit".to_owned() } else { format!("{rate}/s") };
        let duration = scale.time(DURATION);
        send_steadily(&client, "warm-up", PAUSE, scale.time(WARM_UP)).await?;
        let idle = send_steadily(&client, "idle", PAUSE, duration).await?;
        let busy = under_bulk(&client, bulk_client, duration, scale.time(WARM_UP)).await?;
        for ((id, mut idle), mut busy) in [Id::With, Id::Without].into_iter().zip(idle).zip(busy) {
            let [p50, p99] = percentiles(&mut busy);
            let [idle_p50, idle_p99] = percentiles(&mut idle);
            let (factor, name) = (p99 / idle_p99, id.name());
            let cells = [p50, p99, idle_p50, idle_p99].map(|ms| format!("{ms:.1}"));
            let factor_cell = [format!("{factor:.1}")];
            let name_cell = [format!("page at {page}, {name}")];
            rows.push(name_cell.into_iter().chain(cells).chain(factor_cell).collect());
            targets.push(Target::new(
                format!("unary {name} beside a bulk, page at {page}: p99 at most {FACTOR_MAX:.0} times the idle one"),
                format!("{factor:.1} times"),
                factor <= FACTOR_MAX,
            ));
        }
    }
    let text = format!(
        "## Unary sends beside a bulk\n\n{} unary texts a second for {} seconds, every second one with an id, first alone and \
         then while a bulk sends as fast as it may on the same page.\n\n{}",
        1000 / PAUSE.as_millis(),
        DURATION.as_secs(),
        table(&rows)
    );
    Ok(Section { name: "priority", text, targets, plots: Vec::new() })
}

async fn under_bulk(
    client: &Client,
    mut bulk_client: Client,
    duration: Duration,
    warm_up: Duration,
) -> anyhow::Result<[Latencies; 2]> {
    let bulk = Bulk::new(Kind::Text, "sale", 0..BULK_MESSAGES);
    let measured = async {
        send_steadily(client, "warm-up-busy", PAUSE, warm_up).await?;
        send_steadily(client, "busy", PAUSE, duration).await
    };
    // The bulk is cancelled when enough has been measured.
    tokio::select! {
        ended = bulk.send(&mut bulk_client) => {
            ended?;
            anyhow::bail!("the bulk ended before the measurement")
        }
        measured = measured => measured,
    }
}

fn percentiles(latencies: &mut Latencies) -> [f64; 2] {
    [50.0, 99.0].map(|percent| latencies.percentile_ms(percent))
}
