//! Options about how long connections and shutdowns last.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::DRAIN_TIMEOUT_DEFAULT;

const DRAIN_TIMEOUT_DEFAULT_MS: u64 = DRAIN_TIMEOUT_DEFAULT.as_millis() as u64;

/// Options about probes, connections and shutdown.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Probes, connections and shutdown")]
pub struct LifecycleOptions {
    /// Address of a second port that answers health checks only, without TLS: for probes that cannot do TLS
    #[arg(long, env = "CONNECTOR_HEALTH_LISTEN", value_name = "ADDRESS", value_parser = super::address)]
    pub health_listen: Option<SocketAddr>,

    /// How long a connection lasts before its client is asked to open a new one, so that load spreads to new replicas;
    /// varied by 10 %, 0 for ever; open streams go on
    #[arg(long, env = "CONNECTOR_CONNECTION_AGE_MAX_MS", default_value_t = 1_800_000, value_name = "MS")]
    pub connection_age_max_ms: u64,

    /// How long a shutdown goes on taking calls while it already says that it is not ready, so that clients and
    /// balancers get to know
    #[arg(long, env = "CONNECTOR_DRAIN_DELAY_MS", default_value_t = 5000, value_name = "MS")]
    pub drain_delay_ms: u64,

    /// How long a shutdown may wait after that for calls and streams to end; what is still being sent then is told as
    /// unknown. A media message takes up to 90 seconds
    #[arg(long, env = "CONNECTOR_DRAIN_TIMEOUT_MS", default_value_t = DRAIN_TIMEOUT_DEFAULT_MS, value_name = "MS")]
    pub drain_timeout_ms: u64,
}

impl LifecycleOptions {
    /// How long a connection lasts, `None` for ever.
    pub fn connection_age_max(&self) -> Option<Duration> {
        (self.connection_age_max_ms > 0).then(|| Duration::from_millis(self.connection_age_max_ms))
    }

    /// How long a shutdown goes on as before.
    pub fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }

    /// How long a shutdown may wait after that.
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}
