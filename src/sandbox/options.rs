//! What a sandbox can be told at its start.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::version::GraphVersion;

/// Settings of a sandbox. Every flag is also an environment variable with the prefix
/// `CONNECTOR_SANDBOX_`.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, env = "CONNECTOR_SANDBOX_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Milliseconds added to the answer of every Graph call
    #[arg(long, env = "CONNECTOR_SANDBOX_LATENCY_MS", default_value_t = 0)]
    pub latency_ms: u64,

    /// Sends one page may make in any window of one second; what goes over is answered with error
    /// 80006; 0 = unlimited
    #[arg(long, env = "CONNECTOR_SANDBOX_RATE_PER_SECOND", default_value_t = 0)]
    pub rate_per_second: u32,

    /// How many received messages are kept for `GET /sandbox/messages`; the oldest are dropped
    /// first, counts go on
    #[arg(long, env = "CONNECTOR_SANDBOX_KEEP", default_value_t = DEFAULT_KEEP)]
    pub keep: usize,

    /// Cheap mode for benchmarks: every call is answered with ids; no validation, no magic ids, no
    /// rate, nothing kept but counters
    #[arg(
        long,
        env = "CONNECTOR_SANDBOX_LIGHT",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub light: bool,

    /// The only page access token that is valid; without it every token is, the magic ones excepted
    #[arg(long, env = "CONNECTOR_SANDBOX_ACCESS_TOKEN", hide_env_values = true)]
    pub access_token: Option<String>,

    /// App secret; when set, every call must carry the matching `appsecret_proof`
    #[arg(long, env = "CONNECTOR_SANDBOX_APP_SECRET", hide_env_values = true)]
    pub app_secret: Option<String>,

    /// Graph version that serves every call (`vN.N`); default: the one asked for, or for a version
    /// Meta has retired the oldest live one
    #[arg(long, env = "CONNECTOR_SANDBOX_GRAPH_VERSION")]
    pub graph_version: Option<GraphVersion>,
}

const DEFAULT_KEEP: usize = 100_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            latency_ms: 0,
            rate_per_second: 0,
            keep: DEFAULT_KEEP,
            light: false,
            access_token: None,
            app_secret: None,
            graph_version: None,
        }
    }
}

/// Says whether the secrets are set, never what they are.
impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("listen", &self.listen)
            .field("latency_ms", &self.latency_ms)
            .field("rate_per_second", &self.rate_per_second)
            .field("keep", &self.keep)
            .field("light", &self.light)
            .field("access_token", &self.access_token.is_some())
            .field("app_secret", &self.app_secret.is_some())
            .field("graph_version", &self.graph_version)
            .finish()
    }
}
