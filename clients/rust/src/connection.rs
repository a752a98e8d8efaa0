//! Connections to the service: how they are made, who the caller is, and how many there are.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a busy connection is asked whether it still lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to that may take before the connection is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Flow-control window of one stream, in bytes: 80,000 results of 65 bytes a second at 50 ms round trip.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Flow-control window of a connection, in bytes. The HTTP/2 library ends a connection whose unread small frames pass
/// half of it, counting up to 512 bytes for each. Enough for [`CONNECTION_CALLS_MAX`] bulks whose callers do not read:
/// 2 * 100 * (256 KiB / 60) * (512 - 60) = 395 MB. A promise, not an allocation.
const CONNECTION_WINDOW_BYTES: u32 = 400 * 1024 * 1024;

/// Calls and bulks that one connection carries at a time: what most servers and proxies allow. Beyond it calls would
/// wait unseen for others to end, so the next one gets another connection.
const CONNECTION_CALLS_MAX: usize = 100;
/// Connections to one address. Calls beyond 3,200 share them, and may wait for one another.
const CONNECTIONS_MAX: usize = 32;

/// How to connect. The default is right for a service on the same machine.
#[derive(Clone)]
pub struct Options {
    /// The caller's key, sent as `authorization: Bearer KEY`. Default: none.
    pub key: Option<String>,
    /// Encrypts the connection. Default: only if the address begins with `https://`.
    pub tls: Option<Tls>,
    /// How long a unary call may take, all its tries included, and how long the service may take to accept a bulk.
    /// [`MessengerClient::with_timeout`](crate::MessengerClient::with_timeout) is for a single call. Default: 30 s.
    pub timeout: Duration,
    /// How long a bulk whose stream ended early tries to go on without getting any result. Default: 5
    /// minutes. Until the service has taken the start once, `timeout` stands in for it.
    pub reconnect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: None,
            tls: None,
            timeout: Duration::from_secs(30),
            reconnect_timeout: Duration::from_secs(5 * 60),
        }
    }
}

impl fmt::Debug for Options {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key: _, tls, timeout, reconnect_timeout } = self;
        formatter
            .debug_struct("Options")
            .field("tls", tls)
            .field("timeout", timeout)
            .field("reconnect_timeout", reconnect_timeout)
            .finish_non_exhaustive()
    }
}

/// Whom to trust, and who to be, in TLS. The default trusts the system's authorities.
#[derive(Clone, Default)]
pub struct Tls {
    ca: Option<Certificate>,
    identity: Option<Identity>,
}

impl Tls {
    /// Trusts these authorities (PEM) and no others.
    pub fn with_ca(self, pem: impl AsRef<[u8]>) -> Self {
        Self { ca: Some(Certificate::from_pem(pem)), ..self }
    }

    /// Shows a certificate of the client's own: mutual TLS. Both are PEM.
    pub fn with_identity(self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self { identity: Some(Identity::from_pem(certificate, key)), ..self }
    }

    fn config(self) -> ClientTlsConfig {
        let config = match self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(ca),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match self.identity {
            Some(identity) => config.identity(identity),
            None => config,
        }
    }
}

impl fmt::Debug for Tls {
    /// Without certificates and keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// What a call is made on.
pub(crate) type Connection = InterceptedService<Channel, Credentials>;

/// A call's place on its connection. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "held for its count")] Arc<()>);

/// The connections to one address. They are made when calls need them, and made anew when they are lost.
pub(crate) struct Address {
    endpoint: Endpoint,
    credentials: Credentials,
    runtime: Handle,
    connections: Mutex<Vec<(Connection, Arc<()>)>>,
}

impl Address {
    /// No connection is made yet.
    ///
    /// # Errors
    /// What is wrong with the address, the key or a certificate, or that there is no Tokio runtime here.
    pub(crate) fn new(address: &str, options: &Options) -> Result<Self, String> {
        let no_runtime = |_| "connect must be called within a Tokio runtime".to_owned();
        Ok(Self {
            endpoint: endpoint(address.trim(), options.tls.clone())?,
            credentials: Credentials::new(options.key.as_deref())?,
            runtime: Handle::try_current().map_err(no_runtime)?,
            connections: Mutex::default(),
        })
    }

    /// A connection with room for one more call, until the place is dropped.
    pub(crate) fn connection(&self) -> (Connection, Place) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // Counts the one in the list, too.
        let calls_count = |(_, places): &(Connection, Arc<()>)| Arc::strong_count(places) - 1;
        let has_room = |connection: &&(Connection, Arc<()>)| calls_count(connection) < CONNECTION_CALLS_MAX;
        let found = connections.iter().find(has_room).or_else(|| {
            let is_full = connections.len() == CONNECTIONS_MAX;
            connections.iter().min_by_key(|connection| calls_count(connection)).filter(|_| is_full)
        });
        let (connection, places) = match found {
            Some(found) => found.clone(),
            None => {
                let _entered = self.runtime.enter();
                let channel = self.endpoint.connect_lazy();
                let made = (Connection::new(channel, self.credentials.clone()), Arc::default());
                connections.push(made.clone());
                made
            }
        };
        (connection, Place(places))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Address").field(self.endpoint.uri()).finish()
    }
}

fn endpoint(address: &str, tls: Option<Tls>) -> Result<Endpoint, String> {
    let url = match (address.contains("://"), &tls) {
        (true, _) => address.to_owned(),
        (false, Some(_)) => format!("https://{address}"),
        (false, None) => format!("http://{address}"),
    };
    let invalid =
        || format!("the address {address:?} must look like 127.0.0.1:50051 or https://example.com:443");
    let endpoint = Endpoint::from_shared(url).map_err(|_| invalid())?;
    let tls = match (endpoint.uri().scheme_str(), tls) {
        (Some("https"), tls) => Some(tls.unwrap_or_default()),
        (Some("http"), None) => None,
        (Some("http"), Some(_)) => {
            return Err(format!("the address {address:?} says http, the options say TLS"));
        }
        (Some(_) | None, _) => return Err(invalid()),
    };
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls.config()).map_err(|error| format!("tls: {error}"))?,
        None => endpoint,
    };
    let endpoint = endpoint
        .user_agent(concat!("messenger-connector-rust/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint)
}

/// Adds the caller's key to each call.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    authorization: Option<AsciiMetadataValue>,
}

impl Credentials {
    fn new(key: Option<&str>) -> Result<Self, String> {
        let Some(key) = key else { return Ok(Self { authorization: None }) };
        let mut value = AsciiMetadataValue::try_from(format!("Bearer {key}"))
            .map_err(|_| "the key must consist of visible ASCII characters".to_owned())?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value) })
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}
