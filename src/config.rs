//! Options of `serve`. Each one's environment variable is its name with the prefix `CONNECTOR_`, unless there is a
//! standard one.

mod lifecycle;
mod security;
mod telemetry;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use secrecy::SecretString;

pub use lifecycle::LifecycleOptions;
pub use security::SecurityOptions;
pub use telemetry::{AdminListen, TelemetryOptions};

use crate::callers::Callers;
use crate::graph::address::Address;
use crate::ledger;
use crate::limits::BULK_IN_FLIGHT_DEFAULT;
use crate::pages::{
    GRAPH_VERSION_DEFAULT, MEDIA_RATE_PER_SECOND_DEFAULT, PAGE_ID_ME, Page, RATE_PER_SECOND_DEFAULT, Source,
};
use crate::telemetry::metrics::Metrics;

/// Options of the service.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// Address to listen on for gRPC; without credentials a loopback one
    #[arg(long, env = "CONNECTOR_LISTEN", default_value = "127.0.0.1:50051", value_parser = address)]
    pub listen: SocketAddr,

    /// Graph host; `messenger-connector sandbox` stands in for Meta's
    #[arg(
        long,
        env = "CONNECTOR_GRAPH_URL",
        default_value = "https://graph.facebook.com",
        value_name = "URL"
    )]
    pub graph_url: String,

    /// PEM file of authorities to trust, beside the system's, for a Graph host over TLS
    #[arg(long, env = "CONNECTOR_GRAPH_TLS_CA", value_name = "FILE")]
    pub graph_tls_ca: Option<PathBuf>,

    /// TOML file of pages; watched, so that a rotated token is live without a restart
    #[arg(long, env = "CONNECTOR_PAGES", value_name = "FILE")]
    pub pages: Option<PathBuf>,

    /// Access token of the only page, if there is no file of pages; prefer the environment variable, because
    /// other users of the machine can see options
    #[arg(long, env = "PAGE_ACCESS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub page_access_token: Option<SecretString>,

    /// Id of the only page
    #[arg(long, env = "CONNECTOR_PAGE_ID", default_value = PAGE_ID_ME, value_name = "ID")]
    pub page_id: String,

    /// Graph version that calls of the only page ask for
    #[arg(long, env = "CONNECTOR_GRAPH_VERSION", default_value = GRAPH_VERSION_DEFAULT, value_name = "VERSION")]
    pub graph_version: String,

    /// File with the app secret of the only page; makes calls carry an appsecret_proof
    #[arg(long, env = "CONNECTOR_APP_SECRET_FILE", value_name = "FILE")]
    pub app_secret_file: Option<PathBuf>,

    /// Messages per second of the only page, 0 for no limit; Meta allows 300, and stops updating the page's inbox above 40
    #[arg(long, env = "CONNECTOR_RATE_PER_SECOND", default_value_t = RATE_PER_SECOND_DEFAULT, value_name = "MESSAGES")]
    pub rate_per_second: u32,

    /// Audio and video messages per second of the only page, 0 for no limit; Meta allows 10
    #[arg(long, env = "CONNECTOR_MEDIA_RATE_PER_SECOND", default_value_t = MEDIA_RATE_PER_SECOND_DEFAULT,
          value_name = "MESSAGES")]
    pub media_rate_per_second: u32,

    /// Items that one bulk stream may have in flight; bounds its memory to about 2 KiB each
    #[arg(long, env = "CONNECTOR_BULK_IN_FLIGHT_MAX", default_value_t = BULK_IN_FLIGHT_DEFAULT, value_name = "ITEMS",
          value_parser = in_flight_max)]
    pub bulk_in_flight_max: usize,

    /// Ledger of what was sent: `sqlite://PATH` for a file of this process's own, or `postgres://...` for one that
    /// replicas share
    #[arg(
        long,
        env = "CONNECTOR_LEDGER",
        default_value = "sqlite://messenger-connector.db",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub ledger: String,

    /// Days that the ledger keeps an outcome, and so the time in which an id is not sent again
    #[arg(long, env = "CONNECTOR_LEDGER_RETENTION_DAYS", default_value_t = 7, value_name = "DAYS",
          value_parser = clap::value_parser!(u16).range(1..=365))]
    pub ledger_retention_days: u16,

    /// Take the ledger although its records are of a Graph at another address: say so if both addresses lead to the same
    /// Graph, such as a proxy to it
    #[arg(long, env = "CONNECTOR_LEDGER_ADOPT")]
    pub ledger_adopt: bool,

    /// Who may call, and TLS.
    #[command(flatten)]
    pub security: SecurityOptions,

    /// Probes, connections and shutdown.
    #[command(flatten)]
    pub lifecycle: LifecycleOptions,

    /// Metrics and traces.
    #[command(flatten)]
    pub telemetry: TelemetryOptions,
}

fn in_flight_max(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(items @ 1..=1_000_000) => Ok(items),
        _ => Err("must be a whole number from 1 to 1000000".to_owned()),
    }
}

/// An address to listen on. A name is looked up.
fn address(text: &str) -> Result<SocketAddr, String> {
    let unusable = |why: &str| format!("{why}: give an address and a port, such as 127.0.0.1:50051");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| unusable("it has no port"))?;
    if port.parse::<u16>().is_err() {
        return Err(unusable("its port is no number from 0 to 65535"));
    }
    if host.is_empty() {
        return Err(unusable("it has no host (0.0.0.0 is all of them)"));
    }
    let found: Vec<_> = text.to_socket_addrs().map_err(|_| unusable("there is no such host"))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| unusable("there is no such host"))
}

impl ServeOptions {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// If the address can be reached from other machines and nobody would have to show credentials.
    pub fn check(&self) -> anyhow::Result<()> {
        self.security.check(self.listen)?;
        self.telemetry.check()?;
        ensure!(
            self.pages.is_none() || self.page_access_token.is_none(),
            "--pages and PAGE_ACCESS_TOKEN exclude each other: unset the variable to send for the pages of the file"
        );
        Address::parse(&self.graph_url).map(drop).context("--graph-url")
    }

    /// Where the pages come from.
    ///
    /// # Errors
    /// If neither a token nor a file is given, or the token has a wrong form.
    pub fn pages_source(&self) -> anyhow::Result<Source> {
        if let Some(path) = &self.pages {
            return Ok(Source::File(path.clone()));
        }
        let token = self.page_access_token.clone().context(
            "no page is configured: set PAGE_ACCESS_TOKEN in the environment for one page, or give --pages FILE \
             for many",
        )?;
        let page = Page::single(&self.page_id, token, self.app_secret_file.as_deref(), &self.graph_version)?;
        let (rate_per_second, media_rate_per_second) = (self.rate_per_second, self.media_rate_per_second);
        Ok(Source::Single(Box::new(Page { rate_per_second, media_rate_per_second, ..page })))
    }

    /// Who may call, if that is configured.
    ///
    /// # Errors
    /// Names what is wrong in the file.
    pub fn callers(&self) -> anyhow::Result<Option<Callers>> {
        let security = &self.security;
        let load = |path| Callers::load(path, security.tls_client_ca.is_some());
        security.callers.as_deref().map(load).transpose()
    }

    /// How the ledger keeps time, which Graph its records are of, and whom it tells of its writes.
    pub fn ledger_options(&self, metrics: Metrics) -> ledger::Options {
        let retention = Duration::from_secs(u64::from(self.ledger_retention_days) * 24 * 60 * 60);
        let graph = url::Url::parse(&self.graph_url).ok();
        let origin =
            graph.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
        let adopts_origin = self.ledger_adopt;
        ledger::Options { retention, origin, adopts_origin, metrics, ..ledger::Options::default() }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        serve: ServeOptions,
    }

    #[test]
    fn names_are_looked_up_and_what_is_no_address_is_told_with_the_way_out() {
        assert_eq!(address("localhost:50051").unwrap().to_string(), "127.0.0.1:50051");
        assert_eq!(address("[::1]:0").unwrap().to_string(), "[::1]:0");
        for text in ["50051", ":50051", "localhost", "localhost:70000", "localhost:", "no such host:1", ""] {
            let error = address(text).unwrap_err();
            assert!(
                error.ends_with("give an address and a port, such as 127.0.0.1:50051"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_file_of_pages_beside_a_token_is_refused_in_one_line() {
        let both = ["test", "--pages", "pages.toml", "--page-access-token", "t"];
        let error = Arguments::parse_from(both).serve.check().unwrap_err().to_string();
        assert!(error.contains("exclude each other") && !error.contains('\n'), "{error}");
    }
}
