//! How commands reach a running service.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use secrecy::{ExposeSecret, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

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
pub(super) type Client = MessengerServiceClient<InterceptedService<Channel, Bearer>>;

/// Puts the caller's key into every call, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.0 {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// Where the service is, and how the caller proves who it is.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectOptions {
    /// Address of the service; with https:// the connection is encrypted
    #[arg(long, env = "CONNECTOR_ADDRESS", default_value = ADDRESS_DEFAULT, value_name = "URL",
          value_parser = address)]
    pub address: String,

    /// File with the caller's key
    #[arg(long, env = "CONNECTOR_KEY_FILE", value_name = "FILE", conflicts_with = "key")]
    pub key_file: Option<PathBuf>,

    /// The caller's key; prefer the environment variable, because other users of the machine can see options
    #[arg(long, env = "CONNECTOR_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<SecretString>,

    /// PEM file with the authority of the service's certificate [default: those of the system]
    #[arg(long, env = "CONNECTOR_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// PEM file with the caller's own certificate, if the service asks for one
    #[arg(long, env = "CONNECTOR_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate
    #[arg(long, env = "CONNECTOR_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

impl ConnectOptions {
    /// To this address, without TLS and key.
    pub(super) fn to(address: String) -> Self {
        Self { address, ..Self::default() }
    }

    /// The options that differ from the defaults, with a space before each; the key is not among them.
    pub(super) fn shown(&self) -> String {
        let mut shown = String::new();
        if self.address != ADDRESS_DEFAULT {
            shown.push_str(&format!(" --address {}", self.address));
        }
        let files = [
            ("key-file", &self.key_file),
            ("tls-ca", &self.tls_ca),
            ("client-cert", &self.client_cert),
            ("client-key", &self.client_key),
        ];
        for (option, path) in files {
            if let Some(path) = path {
                shown.push_str(&format!(" --{option} {}", path.display()));
            }
        }
        shown
    }

    /// Connects to the service.
    ///
    /// # Errors
    /// If nobody answers, or a file cannot be used.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let bearer = self.bearer()?;
        Ok(Client::new(InterceptedService::new(self.channel().await?, bearer)))
    }

    fn bearer(&self) -> anyhow::Result<Bearer> {
        let key = match (&self.key, &self.key_file) {
            (Some(key), _) => key.clone(),
            (None, Some(path)) => read(path)?.into(),
            (None, None) => return Ok(Bearer(None)),
        };
        let mut authorization: MetadataValue<Ascii> = format!("Bearer {}", key.expose_secret().trim())
            .parse()
            .map_err(|_| anyhow!("the key holds a character that a key cannot have"))?;
        authorization.set_sensitive(true);
        Ok(Bearer(Some(authorization)))
    }

    fn tls(&self) -> anyhow::Result<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.tls_ca {
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }

    fn is_encrypted(&self) -> bool {
        self.address.starts_with("https:")
    }

    /// Connects to the service's address.
    ///
    /// # Errors
    /// If nobody answers, or a file cannot be used.
    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        let mut endpoint = Endpoint::from_shared(self.address.clone())
            .with_context(|| format!("--address {}", self.address))?
            .user_agent(concat!("messenger-connector-cli/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if self.is_encrypted() {
            endpoint = endpoint.tls_config(self.tls()?).context("TLS")?;
        }
        endpoint.connect().await.map_err(|error| {
            let hint = if self.is_encrypted() { " with TLS" } else { "" };
            anyhow!(
                "no service can be reached at {}: {}: is `messenger-connector serve` running there{hint}?",
                self.address,
                root_cause(&error)
            )
        })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
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
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(address),
        Ok(_) | Err(_) => Err("must look like http://127.0.0.1:50051 or https://connector:50051".to_owned()),
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
            ("https://localhost:50051", Some("https://localhost:50051")),
            ("ftp://localhost", None),
            ("http://", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(address(text).ok().as_deref(), expected, "{text}");
        }
    }
}
