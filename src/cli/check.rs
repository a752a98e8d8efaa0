//! `check`: reads the configuration of `serve` and asks Graph about each page's token.

use std::process::ExitCode;

use futures_util::{StreamExt, stream};
use messenger_connector_client::MessengerError;

use super::{failure, print};
use crate::api::status;
use crate::config::ServeOptions;
use crate::graph::client::Client;
use crate::graph::response::Refusal;
use crate::pages::{PAGE_ID_ME, Page, Pages};
use crate::telemetry::metrics::Metrics;

/// Tokens that are probed at a time.
const PROBES_IN_FLIGHT_MAX: usize = 8;

/// What `check --help` ends with.
pub const EXAMPLES: &str = "\
Takes the options and the environment of `serve`, starts nothing and sends nothing.
The exit code is 0 if every page's token works, 1 if not.";

/// Checks the configuration and prints a line per page.
///
/// # Errors
/// If the configuration is wrong.
pub async fn run(options: ServeOptions) -> anyhow::Result<ExitCode> {
    options.check()?;
    let pages = Pages::load(options.pages_source()?)?.list();
    options.callers()?;
    let graph = Client::new(&options.graph_url, options.graph_tls_ca.as_deref(), Metrics::default())?;
    print(&format!("configuration: ok (pages: {}, graph: {})\n", pages.len(), options.graph_url))?;
    let mut is_good = true;
    let mut probes = stream::iter(&pages).map(|page| probe(&graph, page)).buffered(PROBES_IN_FLIGHT_MAX);
    let mut shown = pages.iter();
    while let (Some(problem), Some(page)) = (probes.next().await, shown.next()) {
        is_good &= problem.is_ok();
        let (Ok(text) | Err(text)) = &problem;
        let word = if problem.is_ok() { "ok" } else { "FAILED" };
        print(&format!("{}: {word}: {text}\n", describe(page)))?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the page's token is good for, or why it is not.
async fn probe(graph: &Client, page: &Page) -> Result<String, String> {
    let described =
        |refusal: Refusal| failure::describe(&MessengerError::from(status::status(refusal.error)));
    let probed = graph.probe(page).await.map_err(described)?;
    if page.id != PAGE_ID_ME && page.id != probed.id {
        return Err(format!("the token is of another page: {} {}", probed.id, probed.name));
    }
    Ok(format!("token of page {} {}", probed.id, probed.name))
}

fn describe(page: &Page) -> String {
    let rate = |per_second: u32| match per_second {
        0 => "unlimited".to_owned(),
        per_second => format!("{per_second}/s"),
    };
    let title = if page.title.is_empty() { String::new() } else { format!(" \"{}\"", page.title) };
    format!(
        "page {}{title}, {}, {}, audio and video {}",
        page.id,
        page.graph_version,
        rate(page.rate_per_second),
        rate(page.media_rate_per_second)
    )
}
