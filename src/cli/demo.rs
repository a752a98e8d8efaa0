//! `demo`: sandbox, service and a bulk in one process, and a look at whether all three agree.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::bulk::{self, Finished, Plan, ResultsFile};
use super::connection::ConnectOptions;
use super::{print, shutdown};
use crate::config::{LifecycleOptions, SecurityOptions, ServeOptions, TelemetryOptions};
use crate::limits::BULK_IN_FLIGHT_DEFAULT;
use crate::pages::{GRAPH_VERSION_DEFAULT, PAGE_ID_ME};
use crate::sandbox::{self, Sandbox};
use crate::server::Server;

/// The text of the demo; the sample audience has its variable.
const TEXT: &str = "Hello {{first_name}}, the sale has begun.";
/// First names of the sample audience.
const FIRST_NAMES: [&str; 12] =
    ["Ann", "Bela", "Chloé", "Dmitri", "Elif", "Farid", "Grace", "Hana", "Ivo", "Jürgen", "Keiko", "Luis"];
/// Id of the first sample recipient: as long as Meta's, and no magic one.
const RECIPIENT_FIRST: u64 = 1_254_477_700_000_001;
/// Messages that the sandbox keeps; its counts go on.
const SANDBOX_KEEP: usize = 1000;

/// What `demo --help` ends with.
pub const EXAMPLES: &str = "\
Needs no Meta account and no network: the messages go to a sandbox on a free loopback port.
The exit code is 0 if every message was sent and the sandbox counts the same.";

/// Options of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Messages to send
    #[arg(long, env = "CONNECTOR_MESSAGES", default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub messages: u64,
    /// File for the results [default: one in a new temporary folder]
    #[arg(long, env = "CONNECTOR_RESULTS", value_name = "FILE")]
    pub results: Option<PathBuf>,
}

/// What the sandbox counted.
#[derive(Debug, Deserialize)]
struct SandboxState {
    plain_calls: u64,
    batch_calls: u64,
    delivered: u64,
    duplicates: u64,
}

/// Runs the demo.
///
/// # Errors
/// If something cannot be started, or a file cannot be written.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal()?;
    let folder = make_folder()?;
    let audience = folder.join("audience.csv");
    write_audience(&audience, options.messages)
        .with_context(|| format!("cannot write {}", audience.display()))?;
    let results =
        ResultsFile { path: options.results.unwrap_or_else(|| folder.join("results.csv")), overwrite: false };
    let plan = Plan::text(audience, TEXT, results);
    let end = CancellationToken::new();
    let sandbox = Sandbox::bind(sandbox::Options {
        listen: any_port(),
        keep: SANDBOX_KEEP,
        ..sandbox::Options::default()
    })
    .await?;
    let graph_url = sandbox.url();
    tokio::spawn(sandbox.serve(end.clone().cancelled_owned()));
    let server = Server::bind(serve_options(&graph_url, &folder)).await?;
    let connect = ConnectOptions::to(format!("http://{}", server.local_addr()?));
    let drain = CancellationToken::new();
    let service = tokio::spawn(server.serve(drain.clone().cancelled_owned()));
    eprintln!("sandbox: {graph_url}, service: {}, audience: {}", connect.address, plan.audience_name());
    let finished = bulk::send_plan(&connect.client()?, &plan, stop).await?;
    drain.cancel();
    service.await??;
    let state = sandbox_state(&graph_url).await?;
    end.cancel();
    eprint!("{}", finished.text(&plan.results.path));
    let is_good = finished.is_success() && agrees(&finished, &state);
    print(&summary(&finished, &state, &plan))?;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// The service as its defaults have it, but on the sandbox, on a free port, with its ledger in the folder, and as
/// fast as it can.
pub(super) fn serve_options(graph_url: &str, folder: &Path) -> ServeOptions {
    ServeOptions {
        listen: any_port(),
        graph_url: graph_url.to_owned(),
        graph_tls_ca: None,
        pages: None,
        page_access_token: Some("demo".into()),
        page_id: PAGE_ID_ME.to_owned(),
        graph_version: GRAPH_VERSION_DEFAULT.to_owned(),
        app_secret_file: None,
        rate_per_second: 0,
        media_rate_per_second: 0,
        bulk_in_flight_max: BULK_IN_FLIGHT_DEFAULT,
        ledger: format!("sqlite://{}", folder.join("ledger.db").display()),
        ledger_retention_days: 7,
        ledger_adopt: false,
        security: SecurityOptions::default(),
        lifecycle: LifecycleOptions {
            health_listen: None,
            connection_age_max_ms: 0,
            drain_delay_ms: 0,
            drain_timeout_ms: 10_000,
        },
        telemetry: TelemetryOptions::none(),
    }
}

/// A new folder for the audience and its results. It stays: people want to look into it.
fn make_folder() -> anyhow::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("messenger-connector-demo-{}-{}", now.as_millis(), std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
    Ok(folder)
}

fn write_audience(path: &Path, messages: u64) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    file.write_all(b"recipient,first_name\n")?;
    for (number, first_name) in (0..messages).zip(FIRST_NAMES.into_iter().cycle()) {
        let recipient = RECIPIENT_FIRST + number;
        writeln!(file, "{recipient},{first_name}")?;
    }
    file.flush()
}

/// What the sandbox itself says that it got.
async fn sandbox_state(graph_url: &str) -> anyhow::Result<SandboxState> {
    let answer = reqwest::get(format!("{graph_url}/sandbox/state")).await?.bytes().await?;
    serde_json::from_slice(&answer).context("cannot read the sandbox's state")
}

/// True if the sandbox got what the results say, and nothing twice.
fn agrees(finished: &Finished, state: &SandboxState) -> bool {
    u64::try_from(finished.progress.counts.sent) == Ok(state.delivered) && state.duplicates == 0
}

fn summary(finished: &Finished, state: &SandboxState, plan: &Plan) -> String {
    let SandboxState { plain_calls, batch_calls, delivered, duplicates } = state;
    let calls = plain_calls + batch_calls;
    let verdict = if agrees(finished, state) { "as the results say" } else { "NOT what the results say" };
    let audience = plan.audience_name();
    format!(
        "the sandbox got {delivered} messages in {calls} Graph calls, {duplicates} twice: {verdict}

What to try next, the first two in terminals of their own:
  messenger-connector sandbox
  PAGE_ACCESS_TOKEN=any messenger-connector serve --graph-url http://127.0.0.1:8080
  messenger-connector send text 'Hello' --to 1254477777772919 --messaging-type update
  messenger-connector send text 'Hello' --to fail-551 --messaging-type update
  messenger-connector bulk {audience} --text '{TEXT}' --messaging-type update \\
      --bulk-id sale
  messenger-connector bulk status sale
  messenger-connector sandbox --help     (recipients that fail on purpose)
"
    )
}
