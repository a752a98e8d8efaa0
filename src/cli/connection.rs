//! How commands reach a running service.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use messenger_connector_client::{MessengerClient, Options, Tls};
use secrecy::{ExposeSecret, SecretString};

/// Where the service is, unless it is named otherwise.
const ADDRESS_DEFAULT: &str = "127.0.0.1:50051";

/// Where the service is, and how the caller proves who it is.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectOptions {
    /// Address of the service, or of several replicas with one ledger, separated by commas; with https:// or a
    /// certificate the connection is encrypted
    #[arg(long, env = "CONNECTOR_ADDRESS", default_value = ADDRESS_DEFAULT, value_name = "URL",
          value_parser = addresses)]
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

    /// A client of the service. Its first call connects.
    ///
    /// # Errors
    /// If an option or a file that it names cannot be used.
    pub(super) fn client(&self) -> anyhow::Result<MessengerClient> {
        let options = Options { key: self.key()?, tls: self.tls()?, ..Options::default() };
        MessengerClient::connect(&self.address, options).map_err(|error| anyhow!(error.message))
    }

    fn key(&self) -> anyhow::Result<Option<String>> {
        let key = match (&self.key, &self.key_file) {
            (Some(key), _) => Some(key.expose_secret().to_owned()),
            (None, Some(path)) => Some(read(path)?),
            (None, None) => None,
        };
        Ok(key.map(|key| key.trim().to_owned()))
    }

    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let mut tls = None;
        if let Some(path) = &self.tls_ca {
            tls = Some(Tls::default().with_ca(read(path)?));
        }
        if let (Some(certificate), Some(key)) = (&self.client_cert, &self.client_key) {
            tls = Some(tls.unwrap_or_default().with_identity(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Addresses as the client takes them.
fn addresses(text: &str) -> Result<String, String> {
    let is_good = |address: &str| {
        let address = address.trim();
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        url::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    };
    if text.split(',').all(is_good) {
        return Ok(text.to_owned());
    }
    Err("must look like 127.0.0.1:50051 or https://connector:50051".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let cases = [
            ("http://127.0.0.1:50051", true),
            ("localhost:50051", true),
            ("[::1]:50051", true),
            ("https://localhost:50051", true),
            ("a:1, b:2,https://c:3", true),
            ("ftp://localhost", false),
            ("a:1,,b:2", false),
            ("http://", false),
            ("", false),
        ];
        for (text, is_good) in cases {
            assert_eq!(addresses(text).is_ok(), is_good, "{text}");
        }
    }
}
