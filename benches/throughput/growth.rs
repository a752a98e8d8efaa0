//! How the cost of a message and the memory grow with the audience, and with the number of pages.

use tokio::task::JoinSet;

use crate::Scale;
use crate::audience::Kind;
use crate::bulk::Bulk;
use crate::kinds::CPU_US_MAX;
use crate::latency::median;
use crate::meter::{Cost, Meter};
use crate::plot::{Words, grouped, growth};
use crate::process::{Setup, Stack, page_id};
use crate::report::{Section, Target, row, table};

const ROUNDS: usize = 3;
/// Sizes of an audience, and how many such audiences are sent one after the other in a round: a small one alone would
/// be over before it could be measured.
const AUDIENCES: [(u64, u64); 4] = [(1000, 40), (10_000, 5), (100_000, 1), (1_000_000, 1)];
const PAGES: [usize; 4] = [1, 10, 100, 1000];
/// Messages of all pages together.
const PAGES_MESSAGES: u64 = 200_000;
const WARM_UP_MESSAGES: u64 = 2000;
/// Streams that the callers open on one connection.
const CONNECTION_STREAMS: usize = 100;

const PEAK_MIB_MAX: f64 = 64.0;
const GROWTH_PERCENT_MAX: f64 = 10.0;

/// What one size costs.
struct Point {
    size: f64,
    /// Of the service, per message.
    cpu_us: f64,
    rate: f64,
    peak_mib: f64,
}

impl Point {
    fn new(size: u64, rounds: &[(Cost, u64)]) -> Self {
        let middle = |of: fn(&(Cost, u64)) -> f64| median(rounds.iter().map(of).collect());
        Self {
            size: size as f64,
            cpu_us: middle(|(cost, _)| cost.service_us),
            rate: middle(|(cost, _)| cost.messages_per_second),
            peak_mib: rounds.iter().map(|(_, peak)| *peak).max().unwrap_or_default() as f64 / 1_048_576.0,
        }
    }
}

/// Measures both.
///
/// # Errors
/// If a message is not sent.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let (mut audiences, mut pages) = (Vec::new(), Vec::new());
    for (size, times) in AUDIENCES {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(measure_audience(scale.count(size), times).await?);
        }
        audiences.push(Point::new(size, &rounds));
    }
    for count in PAGES {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(measure_pages(count, scale.count(PAGES_MESSAGES)).await?);
        }
        pages.push(Point::new(count as u64, &rounds));
    }
    section(&audiences, &pages)
}

async fn measure_audience(size: u64, times: u64) -> anyhow::Result<(Cost, u64)> {
    let stack = Stack::start(Setup::default()).await?;
    let mut client = stack.service.client().await?;
    Bulk::new(Kind::Text, "warm-up", 0..WARM_UP_MESSAGES).send(&mut client).await?;
    let meter = Meter::start(&stack)?;
    for time in 0..times {
        Bulk::new(Kind::Text, format!("sale-{time}"), 0..size).send(&mut client).await?;
    }
    Ok((meter.read(size * times)?, stack.service.peak_bytes()?))
}

/// One stream for each page, all at once.
async fn measure_pages(pages: usize, messages: u64) -> anyhow::Result<(Cost, u64)> {
    let stack = Stack::start(Setup { pages, ..Setup::default() }).await?;
    let mut clients = Vec::new();
    for _ in 0..pages.div_ceil(CONNECTION_STREAMS) {
        clients.push(stack.service.client().await?);
    }
    let bulks = |bulk_id: &'static str, size: u64| {
        let clients = &clients;
        async move {
            let mut streams = JoinSet::new();
            for (page, mut client) in (0..pages).zip(clients.iter().cloned().cycle()) {
                let bulk = Bulk { page_id: page_id(page), ..Bulk::new(Kind::Text, bulk_id, 0..size) };
                streams.spawn(async move { bulk.send(&mut client).await });
            }
            while let Some(stream) = streams.join_next().await {
                stream??;
            }
            anyhow::Ok(())
        }
    };
    bulks("warm-up", WARM_UP_MESSAGES.div_ceil(pages as u64)).await?;
    let size = messages / pages as u64;
    let meter = Meter::start(&stack)?;
    bulks("sale", size).await?;
    Ok((meter.read(size * pages as u64)?, stack.service.peak_bytes()?))
}

fn section(audiences: &[Point], pages: &[Point]) -> anyhow::Result<Section> {
    let rows = |name: &str, points: &[Point]| {
        let head = row([name, "CPU, µs per message", "messages/s", "peak, MiB"]);
        let rows = points.iter().map(|point| {
            let (size, rate) = (grouped(point.size), grouped(point.rate.round()));
            vec![size, format!("{:.1}", point.cpu_us), rate, format!("{:.0}", point.peak_mib)]
        });
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    };
    let text = format!(
        "## Growth\n\nA text to audiences of different sizes, on one page; CPU and peak memory of the service, medians \
         of {ROUNDS} rounds, each with a service of its own.\n\n{}\n\
         ![CPU per message by size of the audience](growth-items.svg)\n\n\
         {} texts over different numbers of pages, with a stream for each page, all at once.\n\n{}\n\
         ![CPU per message by number of pages](growth-pages.svg)\n",
        rows("items", audiences),
        grouped(PAGES_MESSAGES as f64),
        rows("pages", pages)
    );
    let points = |points: &[Point]| points.iter().map(|point| (point.size, point.cpu_us)).collect::<Vec<_>>();
    let y = "CPU of the service, µs per message";
    let items = Words { title: "Cost of a message by size of the audience", x: "items of the bulk", y };
    let by_page = Words { title: "Cost of a message by number of pages", x: "pages that send at once", y };
    let plots = vec![
        ("growth-items.svg", growth(items, &points(audiences), CPU_US_MAX)?),
        ("growth-pages.svg", growth(by_page, &points(pages), CPU_US_MAX)?),
    ];
    Ok(Section { name: "growth", text, targets: targets(audiences), plots })
}

fn targets(audiences: &[Point]) -> Vec<Target> {
    let at = |size: f64| audiences.iter().find(|point| point.size == size);
    let (Some(middle), Some(large)) = (at(1e4), at(1e6)) else { return Vec::new() };
    let growth = (large.cpu_us / middle.cpu_us - 1.0) * 100.0;
    vec![
        Target::new(
            format!("1,000,000 items in one stream: at most {PEAK_MIB_MAX:.0} MiB peak memory"),
            format!("{:.1} MiB", large.peak_mib),
            large.peak_mib <= PEAK_MIB_MAX,
        ),
        Target::new(
            format!("CPU per message at 1,000,000 items: within {GROWTH_PERCENT_MAX:.0} % of that at 10,000"),
            format!("{growth:+.0} %"),
            growth <= GROWTH_PERCENT_MAX,
        ),
    ]
}
