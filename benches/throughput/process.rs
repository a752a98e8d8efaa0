//! The processes under test: a sandbox, and services in front of it.

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use messenger_connector::api::pb::messenger_service_client::MessengerServiceClient;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::certificates::{Files, shown};

/// The release build of the command.
const BINARY: &str = env!("CARGO_BIN_EXE_messenger-connector");
/// Where the pages have their token from.
const TOKEN_VARIABLE: &str = "BENCH_PAGE_TOKEN";
/// The clients' windows: the same as those of the command `bulk`.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for a whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

pub(crate) type Client = MessengerServiceClient<Channel>;

/// A running command that listens; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl Process {
    /// Starts the command on a free port and waits until it listens. Nothing of the environment reaches it.
    async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(BINARY)
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .env_clear()
            .env(TOKEN_VARIABLE, "made-up")
            .kill_on_drop(true)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {BINARY}"))?;
        let mut log = BufReader::new(child.stdout.take().context("the log is piped")?).lines();
        let mut said = String::new();
        while let Some(line) = log.next_line().await? {
            let Some(url) = address(&line) else {
                writeln!(said, "{line}")?;
                continue;
            };
            // It may complain later, and must not wait for a reader then.
            tokio::spawn(async move {
                while let Ok(Some(line)) = log.next_line().await {
                    if line.contains("WARN") || line.contains("ERROR") {
                        eprintln!("{line}");
                    }
                }
            });
            return Ok(Self { child, url });
        }
        bail!("{arguments:?} ended before it listened:\n{said}")
    }

    /// CPU time that its threads have used, kernel included, to the nanosecond. The time of threads that have ended is
    /// not in it: those of the service live as long as it does.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.id()?.to_string())
    }

    /// The most memory that it has had resident, in bytes.
    pub(crate) fn peak_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")).context("VmHWM")?;
        Ok(kibibytes.trim().parse::<u64>()? * 1024)
    }

    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the process has ended")
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// A new connection to a service.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let channel = Endpoint::from_shared(self.url.clone())?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect()
            .await?;
        Ok(Client::new(channel))
    }
}

/// CPU time of this process.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while it is looked at.
        let Ok(times) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += times.split(' ').next().context("schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The address in the line of a log that tells where the command listens.
fn address(line: &str) -> Option<String> {
    if let Some((_, address)) = line.split_once("grpc listens address=") {
        return Some(format!("http://{address}"));
    }
    let (_, advice) = line.split_once("sandbox listens: ")?;
    advice.split_once("--graph-url ").map(|(_, url)| url.to_owned())
}

/// What a stack is like, where it is not as the benchmarks want it by default: a sandbox that costs little and knows
/// no limits, one page, no limit on its rate, and a SQLite file.
pub(crate) struct Setup {
    /// Whether the sandbox only counts. Otherwise it checks every message, and enforces `sandbox_rate`.
    pub(crate) is_light: bool,
    /// How long the sandbox takes for every call.
    pub(crate) latency_ms: u64,
    /// Messages that the sandbox takes of a page in any second; 0 for no limit.
    pub(crate) sandbox_rate: u32,
    /// Messages per second of each page; 0 for no limit.
    pub(crate) rate: u32,
    pub(crate) pages: usize,
    /// A database in place of the file.
    pub(crate) ledger: Option<String>,
    /// The version of HTTP that the sandbox speaks over TLS, if it speaks TLS.
    pub(crate) tls: Option<Http>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2, 100 calls on a connection.
    Two,
}

impl Default for Setup {
    fn default() -> Self {
        Self { is_light: true, latency_ms: 0, sandbox_rate: 0, rate: 0, pages: 1, ledger: None, tls: None }
    }
}

/// A sandbox and a service in front of it.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) service: Process,
    pub(crate) sandbox: Process,
    ledger: String,
    pages: String,
    /// Holds the ledger and the file of pages: on the disk, because a folder in memory would make flushes free.
    _folder: TempDir,
}

impl Stack {
    pub(crate) async fn start(setup: Setup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let latency = setup.latency_ms.to_string();
        let rate = setup.sandbox_rate.to_string();
        let mut sandbox =
            vec!["sandbox", "--latency-ms", &latency, "--rate-per-second", &rate, "--keep", "1000"];
        sandbox.extend(setup.is_light.then_some("--light"));
        let files = setup.tls.map(|_| Files::new());
        let tls = files.as_ref().map(Files::arguments).unwrap_or_default();
        sandbox.extend(tls.iter().map(String::as_str));
        sandbox.extend((setup.tls == Some(Http::One)).then_some("--http1-only"));
        let sandbox = Process::start(&sandbox).await?;
        let pages = folder.path().join("pages.toml");
        std::fs::write(&pages, pages_file(&setup)?)?;
        let file = || format!("sqlite://{}", folder.path().join("ledger.db").display());
        let ledger = setup.ledger.unwrap_or_else(file);
        let pages = pages.display().to_string();
        let authority = files.as_ref().map(|files| shown(&files.path("ca.pem")));
        let service = serve(&sandbox, &ledger, &pages, authority.as_deref()).await?;
        Ok(Self { service, sandbox, ledger, pages, _folder: folder })
    }

    /// Starts another service beside the first, with the same pages and the same ledger.
    pub(crate) async fn replica(&self) -> anyhow::Result<Process> {
        serve(&self.sandbox, &self.ledger, &self.pages, None).await
    }

    /// A JSON answer of the sandbox, such as of `/sandbox/state`.
    pub(crate) async fn sandbox_json(&self, path: &str) -> anyhow::Result<Value> {
        let answer = reqwest::get(format!("{}{path}", self.sandbox.url)).await?.bytes().await?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

async fn serve(
    sandbox: &Process,
    ledger: &str,
    pages: &str,
    authority: Option<&str>,
) -> anyhow::Result<Process> {
    let trust: Vec<_> = authority.iter().flat_map(|file| ["--graph-tls-ca", file]).collect();
    let stack = ["serve", "--graph-url", &sandbox.url, "--ledger", ledger, "--pages", pages];
    // A stream for each of a thousand pages is one caller's here.
    let limits = ["--admin-listen", "127.0.0.1:0", "--caller-streams-max", "2000"];
    Process::start(&[&stack[..], &limits, &trust].concat()).await
}

/// The id of the n-th page.
pub(crate) fn page_id(number: usize) -> String {
    format!("{}", 106_540_452_000 + number)
}

fn pages_file(setup: &Setup) -> anyhow::Result<String> {
    let mut file = String::new();
    for number in 0..setup.pages {
        let (id, rate) = (page_id(number), setup.rate);
        writeln!(
            file,
            "[[page]]\nid = \"{id}\"\naccess_token_env = \"{TOKEN_VARIABLE}\"\nrate_per_second = {rate}\n\
             media_rate_per_second = 0"
        )?;
    }
    Ok(file)
}
