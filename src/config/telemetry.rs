//! Options about what the service tells of itself.

use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, ensure};

/// Options about metrics and traces.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Metrics and traces")]
pub struct TelemetryOptions {
    /// Address of a port that shows /metrics to Prometheus, and /livez and /readyz to probes, without credentials; `none`
    /// for no such port
    #[arg(long, env = "CONNECTOR_ADMIN_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    pub admin_listen: AdminListen,

    /// Collector that gets traces and metrics over OTLP, gRPC kind, such as http://collector:4317 [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// Where the admin port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// There is none.
    None,
    /// There.
    At(SocketAddr),
}

impl AdminListen {
    /// The address, if there is one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for AdminListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        super::address(text).map(Self::At).map_err(|why| format!("{why}, or none"))
    }
}

impl TelemetryOptions {
    /// Nothing is told.
    pub fn none() -> Self {
        Self { admin_listen: AdminListen::None, otlp_endpoint: None }
    }

    /// The collector, if there is one. An empty variable is none.
    pub fn collector(&self) -> Option<&str> {
        self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty())
    }

    /// Checks what clap cannot.
    ///
    /// # Errors
    /// If the collector's address is none.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(endpoint) = self.collector() else { return Ok(()) };
        let advice = "--otlp-endpoint must look like http://collector:4317";
        let url = url::Url::parse(endpoint).context(advice)?;
        ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "{advice}");
        Ok(())
    }
}
