//! Options about who may call, and about TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::ensure;

use crate::limits::{CALLER_REQUESTS_IN_FLIGHT_DEFAULT, CALLER_STREAMS_DEFAULT};

/// Options about callers and TLS.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Callers and TLS")]
pub struct SecurityOptions {
    /// TOML file of callers: their keys, certificates and pages; watched, so that a new key is live and a removed one
    /// dead without a restart
    #[arg(long, env = "CONNECTOR_CALLERS", value_name = "FILE")]
    pub callers: Option<PathBuf>,

    /// Take calls from other machines without asking for credentials
    #[arg(long, env = "CONNECTOR_INSECURE_NO_AUTH", value_parser = clap::builder::BoolishValueParser::new())]
    pub insecure_no_auth: bool,

    /// PEM file with the certificate chain to serve TLS with; watched, so that a renewed one is live without a restart
    #[arg(long, env = "CONNECTOR_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of the certificate
    #[arg(long, env = "CONNECTOR_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities whose client certificates are credentials; without --callers each of them may use
    /// every page
    #[arg(long, env = "CONNECTOR_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Bulk streams that one caller may have open
    #[arg(long, env = "CONNECTOR_CALLER_STREAMS_MAX", default_value_t = CALLER_STREAMS_DEFAULT, value_name = "STREAMS",
          value_parser = count)]
    pub caller_streams_max: usize,

    /// Unary calls that one caller may have in flight
    #[arg(long, env = "CONNECTOR_CALLER_REQUESTS_IN_FLIGHT_MAX", default_value_t = CALLER_REQUESTS_IN_FLIGHT_DEFAULT,
          value_name = "CALLS", value_parser = count)]
    pub caller_requests_in_flight_max: usize,
}

impl Default for SecurityOptions {
    fn default() -> Self {
        Self {
            callers: None,
            insecure_no_auth: false,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            caller_streams_max: CALLER_STREAMS_DEFAULT,
            caller_requests_in_flight_max: CALLER_REQUESTS_IN_FLIGHT_DEFAULT,
        }
    }
}

impl SecurityOptions {
    /// Checks that nobody else's machine can call without credentials.
    ///
    /// # Errors
    /// If `listen` can be reached from other machines and no credentials are configured.
    pub(super) fn check(&self, listen: SocketAddr) -> anyhow::Result<()> {
        ensure!(
            listen.ip().is_loopback() || self.has_credentials() || self.insecure_no_auth,
            "--listen {listen} can be reached from other machines, and no credentials are configured: give --callers \
             or --tls-client-ca, listen on 127.0.0.1, or say --insecure-no-auth if the network keeps strangers out"
        );
        ensure!(
            !(self.has_credentials() && self.insecure_no_auth),
            "--insecure-no-auth contradicts --callers and --tls-client-ca: leave one out"
        );
        if !listen.ip().is_loopback() && self.callers.is_some() && self.tls_cert.is_none() {
            tracing::warn!(
                "keys cross the network unencrypted, unless something in front of this port serves TLS"
            );
        }
        Ok(())
    }

    /// True if callers must prove who they are.
    pub fn has_credentials(&self) -> bool {
        self.callers.is_some() || self.tls_client_ca.is_some()
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1_000_000) => Ok(count),
        _ => Err("must be a whole number from 1 to 1000000".to_owned()),
    }
}
