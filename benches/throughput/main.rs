//! What a message costs: throughput, CPU, latency and memory of the built service, and of a bare HTTP client beside it.
//!
//! `make bench` measures everything and writes it into `docs/performance.md`. A part alone:
//!
//! ```text
//! cargo bench --bench throughput -- growth pace
//! ```
//!
//! Sandbox and service are processes of their own, the callers are in this one: `bulk`, `unary` and `baseline`.
//! What is measured with them is in `kinds`, `growth`, `overhead`, `priority`, `pace` and `replicas`; `profile` tells
//! where the CPU time goes.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

mod audience;
mod baseline;
mod bulk;
// The tests' certificates, which panic if one cannot be made.
#[path = "../../tests/it/certificates.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod certificates;
mod deliveries;
mod growth;
mod http2;
mod kinds;
mod latency;
mod meter;
mod overhead;
mod pace;
mod plot;
// The tests' throwaway server: it panics if there is none, and has more than is needed here.
#[path = "../../tests/it/postgres.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod postgres;
mod priority;
mod process;
mod profile;
mod replicas;
mod report;
mod unary;

use report::Section;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");

/// Measures what messages cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure [default: all of it but the profile]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Write what was measured into docs/performance.md
    #[arg(long)]
    write: bool,
    /// Fail if a promise is not met
    #[arg(long)]
    strict: bool,
    /// Send and wait a tenth as much: shows whether it works, not what it costs
    #[arg(long, conflicts_with = "write")]
    quick: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Messages per second, CPU and latency by kind of message, beside the raw baseline
    Throughput,
    /// Cost of a message by size of the audience and number of pages
    Growth,
    /// A bulk to a Graph that takes 100 ms for every call
    UpstreamLatency,
    /// Many callers, to a Graph over TLS that speaks HTTP/2, and to one that speaks HTTP/1.1
    Http2,
    /// What the service adds to one call
    Overhead,
    /// Unary sends while a bulk saturates the page
    Priority,
    /// Whether a page's rate is held
    Pace,
    /// Two services on one Postgres
    Replicas,
    /// Where the service's CPU time goes, by room; needs `perf`, and is measured only if it is named
    Profile,
}

/// How much is sent, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    divisor: u32,
}

impl Scale {
    fn count(self, messages: u64) -> u64 {
        (messages / u64::from(self.divisor)).max(1)
    }

    fn time(self, duration: Duration) -> Duration {
        duration / self.divisor
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let all = arguments.parts.is_empty();
    let all_parts = || Part::value_variants().iter().copied().filter(|part| *part != Part::Profile).collect();
    let parts = if all { all_parts() } else { arguments.parts };
    let scale = Scale { divisor: if arguments.quick { 10 } else { 1 } };
    let load = report::load();
    let mut sections: Vec<Section> = Vec::new();
    for part in parts {
        eprintln!("measuring {part:?} ...");
        let section = match part {
            Part::Throughput => kinds::measure(scale).await?,
            Part::Growth => growth::measure(scale).await?,
            Part::UpstreamLatency => overhead::measure_upstream_latency(scale).await?,
            Part::Http2 => http2::measure(scale).await?,
            Part::Overhead => overhead::measure_unary(scale).await?,
            Part::Priority => priority::measure(scale).await?,
            Part::Pace => pace::measure(scale).await?,
            Part::Replicas => replicas::measure(scale).await?,
            Part::Profile => profile::measure(scale).await?,
        };
        println!("{}", section.text);
        sections.push(section);
    }
    let promises = report::targets(&sections, &load);
    if !sections.iter().all(|section| section.targets.is_empty()) {
        println!("{}", promises.text);
    }
    let is_missed = sections.iter().flat_map(|section| &section.targets).any(|target| !target.is_met);
    if arguments.write {
        // The table of promises is of one run.
        sections.extend(all.then_some(promises));
        report::write(&sections, Path::new(DOCUMENT))?;
    }
    Ok(if arguments.strict && is_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
