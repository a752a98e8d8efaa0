//! Whether a page's rate is held: never exceeded, and not wasted.

use std::time::Duration;

use serde_json::Value;

use crate::Scale;
use crate::audience::Kind;
use crate::bulk::Bulk;
use crate::deliveries::Deliveries;
use crate::plot::{Words, grouped, over_time};
use crate::process::{Setup, Stack};
use crate::report::{Section, Target};

const RATE: u32 = 300;
const DURATION: Duration = Duration::from_secs(60);
/// How long the bulk runs before the minute begins.
const WARM_UP_MS: u64 = 2000;
/// More than a bulk sends meanwhile.
const BULK_MESSAGES: u64 = 1_000_000;
const TOLERANCE_PERCENT: f64 = 1.0;

/// Measures a bulk at 300 messages a second, against a sandbox that refuses what goes beyond that in any window of one
/// second.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let duration = scale.time(DURATION);
    let setup = Setup { is_light: false, sandbox_rate: RATE, rate: RATE, ..Setup::default() };
    let stack = Stack::start(setup).await?;
    let mut client = stack.service.client().await?;
    let warm_up = Duration::from_millis(WARM_UP_MS);
    // Cancelled when enough has been measured.
    tokio::select! {
        ended = Bulk::new(Kind::Text, "sale", 0..BULK_MESSAGES).send(&mut client) => drop(ended?),
        () = tokio::time::sleep(warm_up + duration + Duration::from_millis(500)) => {}
    }
    let deliveries = Deliveries::of(&stack).await?;
    let state = stack.sandbox_json("/sandbox/state").await?;
    let throttled = state.get("throttled").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let start_ms = deliveries.first_ms()? + WARM_UP_MS;
    let end_ms = start_ms + u64::try_from(duration.as_millis())?;
    let seconds = duration.as_secs_f64();
    let total = deliveries.between(start_ms, end_ms) as f64;
    let expected = f64::from(RATE) * seconds;
    let off_percent = (total / expected - 1.0) * 100.0;
    let most = deliveries.most_in_one_second;
    let text = format!(
        "## Pace\n\nA bulk on a page at {RATE} messages a second, for {seconds:.0} seconds, to a sandbox that refuses what passes \
         {RATE} in any window of one second: {} delivered of {} ({off_percent:+.2} %), at most {most} in one second, {throttled} \
         refused.\n\n![Messages in each second](pace.svg)\n",
        grouped(total),
        grouped(expected)
    );
    let words = Words { title: "Messages in each second", x: "seconds", y: "messages in one second" };
    let plot = over_time(words, &deliveries.by_second(start_ms, end_ms), f64::from(RATE))?;
    let targets = vec![
        Target::new(
            format!("{RATE}/s for {seconds:.0} s: within {TOLERANCE_PERCENT:.0} %"),
            format!("{off_percent:+.2} %"),
            off_percent.abs() <= TOLERANCE_PERCENT,
        ),
        Target::new(
            format!("{RATE}/s: never more in any second"),
            format!("{most} at most, {throttled} refused"),
            most <= u64::from(RATE) && throttled == 0,
        ),
    ];
    Ok(Section { name: "pace", text, targets, plots: vec![("pace.svg", plot)] })
}
