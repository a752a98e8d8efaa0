//! Throughput by kind of message, and of the raw baseline that posts the same bodies.

use crate::Scale;
use crate::audience::Kind;
use crate::baseline::Baseline;
use crate::bulk::Bulk;
use crate::latency::{Latencies, median};
use crate::meter::{Cost, Meter};
use crate::plot::{Bar, Words, bars, grouped};
use crate::process::{Setup, Stack};
use crate::report::{Section, Target, row, table};
use crate::unary::{Id, send_many};

const ROUNDS: usize = 3;
const BULK_MESSAGES: u64 = 200_000;
const SINGLE_MESSAGES: u64 = 40_000;
const WARM_UP_MESSAGES: u64 = 2000;
/// Calls that the baseline and the unary callers have in flight.
const CALLERS: usize = 64;

/// The bulk's promises.
const RATIO_MIN: f64 = 3.0;
pub(crate) const CPU_US_MAX: f64 = 12.0;

/// What the rounds of one measurement found.
#[derive(Default)]
struct Rounds {
    costs: Vec<Cost>,
    latencies: Latencies,
    /// Of the service.
    peak_bytes: u64,
}

impl Rounds {
    fn add(&mut self, cost: Cost, latencies: Latencies, peak_bytes: u64) {
        self.costs.push(cost);
        self.latencies.merge(latencies);
        self.peak_bytes = self.peak_bytes.max(peak_bytes);
    }

    fn middle(&self, of: fn(&Cost) -> f64) -> f64 {
        median(self.costs.iter().map(of).collect())
    }

    fn rate(&self) -> f64 {
        self.middle(|cost| cost.messages_per_second)
    }
}

/// Measures them all.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let (mut bulks, mut baselines) = (<[Rounds; 3]>::default(), <[Rounds; 3]>::default());
    let mut unary = <[Rounds; 2]>::default();
    let ids = [Id::Without, Id::With];
    for _ in 0..ROUNDS {
        for ((kind, bulk), baseline) in Kind::ALL.into_iter().zip(&mut bulks).zip(&mut baselines) {
            measure_bulk(kind, scale.count(BULK_MESSAGES), bulk).await?;
            measure_baseline(kind, scale.count(SINGLE_MESSAGES), baseline).await?;
        }
        for (id, unary) in ids.into_iter().zip(&mut unary) {
            measure_unary(id, scale.count(SINGLE_MESSAGES), unary).await?;
        }
    }
    let mut report = Report::default();
    for ((kind, bulk), baseline) in Kind::ALL.into_iter().zip(bulks).zip(baselines) {
        report.add_kind(kind, bulk, baseline);
    }
    for (id, unary) in ids.into_iter().zip(unary) {
        report.add(format!("unary, text, {}", id.name()), unary, true, None);
    }
    report.section()
}

async fn measure_bulk(kind: Kind, messages: u64, rounds: &mut Rounds) -> anyhow::Result<()> {
    let stack = Stack::start(Setup::default()).await?;
    let mut client = stack.service.client().await?;
    Bulk::new(kind, "warm-up", 0..WARM_UP_MESSAGES).send(&mut client).await?;
    let meter = Meter::start(&stack)?;
    let latencies = Bulk::new(kind, "sale", 0..messages).send(&mut client).await?;
    rounds.add(meter.read(messages)?, latencies, stack.service.peak_bytes()?);
    Ok(())
}

async fn measure_baseline(kind: Kind, messages: u64, rounds: &mut Rounds) -> anyhow::Result<()> {
    let stack = Stack::start(Setup::default()).await?;
    let baseline = Baseline::new(kind.preview(&mut stack.service.client().await?).await?)?;
    baseline.send_many(WARM_UP_MESSAGES, CALLERS).await?;
    let meter = Meter::start(&stack)?;
    let latencies = baseline.send_many(messages, CALLERS).await?;
    rounds.add(meter.read(messages)?, latencies, 0);
    Ok(())
}

async fn measure_unary(id: Id, messages: u64, rounds: &mut Rounds) -> anyhow::Result<()> {
    let stack = Stack::start(Setup::default()).await?;
    let client = stack.service.client().await?;
    send_many(&client, "warm-up", WARM_UP_MESSAGES, CALLERS, id).await?;
    let meter = Meter::start(&stack)?;
    let latencies = send_many(&client, "order", messages, CALLERS, id).await?;
    rounds.add(meter.read(messages)?, latencies, stack.service.peak_bytes()?);
    Ok(())
}

#[derive(Default)]
struct Report {
    rows: Vec<Vec<String>>,
    bars: Vec<Bar>,
    targets: Vec<Target>,
}

impl Report {
    fn add_kind(&mut self, kind: Kind, bulk: Rounds, baseline: Rounds) {
        let (name, ratio, cpu_us) =
            (kind.name(), bulk.rate() / baseline.rate(), bulk.middle(|cost| cost.service_us));
        self.targets.push(Target::new(
            format!("bulk, {name}: at least {RATIO_MIN:.0} times the raw baseline"),
            format!("{ratio:.1} times"),
            ratio >= RATIO_MIN,
        ));
        self.targets.push(Target::new(
            format!("bulk, {name}: at most {CPU_US_MAX:.0} µs CPU of the service per message"),
            format!("{cpu_us:.1} µs"),
            cpu_us <= CPU_US_MAX,
        ));
        self.add(format!("bulk, {name}"), bulk, true, Some(ratio));
        self.add(format!("raw baseline, {name}"), baseline, false, None);
    }

    fn add(&mut self, name: String, mut rounds: Rounds, is_ours: bool, ratio: Option<f64>) {
        let cpu = |us: f64| format!("{us:.1}");
        self.rows.push(vec![
            name.clone(),
            grouped(rounds.rate().round()),
            ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default(),
            if is_ours { cpu(rounds.middle(|cost| cost.service_us)) } else { String::new() },
            cpu(rounds.middle(|cost| cost.sandbox_us)),
            cpu(rounds.middle(|cost| cost.callers_us)),
            format!("{:.1}", rounds.latencies.percentile_ms(50.0)),
            format!("{:.1}", rounds.latencies.percentile_ms(99.0)),
            if is_ours { format!("{:.0}", rounds.peak_bytes as f64 / 1_048_576.0) } else { String::new() },
        ]);
        self.bars.push(Bar { label: name.replace('`', ""), value: rounds.rate().round(), is_ours });
    }

    fn section(self) -> anyhow::Result<Section> {
        let head = row([
            "",
            "messages/s",
            "× raw",
            "service, µs",
            "sandbox, µs",
            "callers, µs",
            "p50, ms",
            "p99, ms",
            "peak, MiB",
        ]);
        let rows: Vec<_> = std::iter::once(head).chain(self.rows).collect();
        let text = format!(
            "## Throughput\n\nMedians of {ROUNDS} rounds. A bulk has {} messages, each on record; its latency is from \
             handing an item over, with up to 5,000 in flight, to its result. The raw baseline is a bare HTTP client that posts \
             the same bodies to the same sandbox, one message a call; it and the unary callers have {CALLERS} calls in \
             flight. The columns in µs are CPU time per message of each process; peak memory is the service's.\n\n{}\n\
             ![Messages per second by kind](throughput.svg)\n",
            grouped(BULK_MESSAGES as f64),
            table(&rows)
        );
        let words = Words { title: "Throughput by kind of message", x: "messages per second", y: "" };
        let plots = vec![("throughput.svg", bars(words, &self.bars)?)];
        Ok(Section { name: "throughput", text, targets: self.targets, plots })
    }
}
