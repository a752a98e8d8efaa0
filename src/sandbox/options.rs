//! What a sandbox can be told at its start.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

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

    /// PEM file of certificates, its own first; with it the sandbox speaks TLS, and HTTP/2 to those
    /// who can, as Graph does
    #[arg(long, env = "CONNECTOR_SANDBOX_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file of the certificate's private key
    #[arg(long, env = "CONNECTOR_SANDBOX_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Calls that one HTTP/2 connection may have open
    #[arg(long, env = "CONNECTOR_SANDBOX_HTTP2_STREAMS", default_value_t = DEFAULT_HTTP2_STREAMS)]
    pub http2_streams: u32,

    /// Speaks HTTP/1.1 only, also over TLS
    #[arg(long, env = "CONNECTOR_SANDBOX_HTTP1_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub http1_only: bool,
}

const DEFAULT_KEEP: usize = 100_000;
/// What most servers allow.
const DEFAULT_HTTP2_STREAMS: u32 = 100;

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
            tls_cert: None,
            tls_key: None,
            http2_streams: DEFAULT_HTTP2_STREAMS,
            http1_only: false,
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
            .field("tls_cert", &self.tls_cert)
            .field("tls_key", &self.tls_key)
            .field("http2_streams", &self.http2_streams)
            .field("http1_only", &self.http1_only)
            .finish()
    }
}
