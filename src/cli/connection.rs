//! How commands reach a running service.

use std::error::Error;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tonic::transport::{Channel, Endpoint};

use crate::api::pb::messenger_service_client::MessengerServiceClient;

/// Where the service is, unless it is named otherwise.
const ADDRESS_DEFAULT: &str = "http://127.0.0.1:50051";
/// How long to wait for a connection to the service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a busy connection is asked whether it still lives; no server of gRPC's family minds this pace.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer may take before the connection is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Flow-control window of one stream, in bytes.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Flow-control window of the connection, in bytes. The HTTP/2 library ends a connection whose unread small frames
/// pass half of it, counting 512 bytes for each: a stream window full of 60-byte results counts 2 MB.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// A client of the service.
pub(super) type Client = MessengerServiceClient<Channel>;

/// Where the service is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectOptions {
    /// Address of the service
    #[arg(long, env = "CONNECTOR_ADDRESS", default_value = ADDRESS_DEFAULT, value_name = "URL",
          value_parser = address)]
    pub address: String,
}

impl ConnectOptions {
    /// The option that names the service, with a space before it; empty for the default.
    pub(super) fn shown(&self) -> String {
        if self.address == ADDRESS_DEFAULT { String::new() } else { format!(" --address {}", self.address) }
    }

    /// Connects to the service.
    ///
    /// # Errors
    /// If nobody answers.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(self.channel().await?))
    }

    /// Connects to the service's address.
    ///
    /// # Errors
    /// If nobody answers.
    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(self.address.clone())
            .with_context(|| format!("--address {}", self.address))?
            .user_agent(concat!("messenger-connector-cli/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        endpoint.connect().await.map_err(|error| {
            anyhow!(
                "no service can be reached at {}: {}: is `messenger-connector serve` running there?",
                self.address,
                root_cause(&error)
            )
        })
    }
}

/// The innermost cause: transports wrap "connection refused" in words that tell nothing.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().to_lowercase()
}

/// An address of the service; one without a scheme is taken as http.
fn address(text: &str) -> Result<String, String> {
    let address = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match url::Url::parse(&address) {
        Ok(url) if url.scheme() == "http" && url.has_host() => Ok(address),
        Ok(url) if url.scheme() == "https" => {
            Err("https is not supported by this version: reach the service over http".to_owned())
        }
        Ok(_) | Err(_) => Err("must look like http://127.0.0.1:50051".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("http://127.0.0.1:50051", Some("http://127.0.0.1:50051")),
            ("localhost:50051", Some("http://localhost:50051")),
            ("[::1]:50051", Some("http://[::1]:50051")),
            ("https://localhost:50051", None),
            ("ftp://localhost", None),
            ("http://", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        }
    }
}
