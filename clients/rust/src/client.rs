//! Connects to the service, and makes its unary calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::error::MessengerError;
use crate::v1;
use crate::v1::messenger_service_client::MessengerServiceClient;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a busy connection is asked whether it still lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long the answer to that may take before the connection is given up.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Flow-control window of one stream, in bytes: 80,000 results of 65 bytes a second at 50 ms round trip.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Flow-control window of a connection, in bytes. The HTTP/2 library ends a connection whose unread small frames pass
/// half of it, counting up to 512 bytes for each. Enough for 100 bulks whose callers do not read:
/// 2 * 100 * (256 KiB / 60) * (512 - 60) = 395 MB. A promise, not an allocation.
const CONNECTION_WINDOW_BYTES: u32 = 400 * 1024 * 1024;

/// Tries of a unary call, the first one included.
const TRIES_MAX: u32 = 4;
/// The longest first wait before another try. It doubles with every failure.
const WAIT_FIRST: Duration = Duration::from_millis(200);
/// The longest wait between tries of a unary call.
const UNARY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The longest deadline: longer ones do not fit into what gRPC and clocks can express.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How to connect. The default is right for a service on the same machine.
#[derive(Clone)]
pub struct Options {
    /// The caller's key, sent as `authorization: Bearer KEY`. Default: none.
    pub key: Option<String>,
    /// Encrypts the connection. Default: only if the address begins with `https://`.
    pub tls: Option<Tls>,
    /// How long a unary call may take, all its tries included, and how long the start of a bulk may take. [`MessengerClient::with_timeout`] is for a single call. Default: 30 s.
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

pub(crate) type Stub = MessengerServiceClient<InterceptedService<Channel, Credentials>>;

/// Sends messages through a service. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct MessengerClient {
    /// One for each address; never empty.
    stubs: Arc<[Stub]>,
    turn: Arc<AtomicUsize>,
    pub(crate) timeout: Duration,
    pub(crate) reconnect_timeout: Duration,
}

impl MessengerClient {
    /// A client of the service at an address such as `127.0.0.1:50051` or `https://messenger.example.com`, or of
    /// several replicas with one ledger, separated by commas: calls take them in turn, and a further try goes to the
    /// next one.
    ///
    /// The connection is made by the first call, and made anew when it is lost; a name is then resolved anew.
    ///
    /// # Errors
    /// If an address, the key or a certificate cannot be used, or there is no Tokio runtime here.
    pub fn connect(address: &str, options: Options) -> Result<Self, MessengerError> {
        let invalid = |message: String| MessengerError::new(Code::InvalidArgument, message);
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(invalid("connect must be called within a Tokio runtime".to_owned()));
        }
        let authorization = match &options.key {
            Some(key) => {
                let mut value = AsciiMetadataValue::try_from(format!("Bearer {key}"))
                    .map_err(|_| invalid("the key must consist of visible ASCII characters".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let stub = |address: &str| {
            let channel = endpoint(address.trim(), options.tls.clone()).map_err(invalid)?.connect_lazy();
            let credentials = Credentials { authorization: authorization.clone() };
            Ok(MessengerServiceClient::with_interceptor(channel, credentials))
        };
        Ok(Self {
            stubs: address.split(',').map(stub).collect::<Result<_, MessengerError>>()?,
            turn: Arc::default(),
            timeout: options.timeout.min(TIMEOUT_MAX),
            reconnect_timeout: options.reconnect_timeout,
        })
    }

    /// The same client with another deadline.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: timeout.min(TIMEOUT_MAX), ..self.clone() }
    }

    /// Sends one text.
    ///
    /// # Errors
    /// If it was not sent, or nobody knows.
    pub async fn send_text_message(
        &self,
        mut request: v1::SendTextMessageRequest,
    ) -> Result<v1::SendTextMessageResponse, MessengerError> {
        let request_id = fill(&mut request.request_id);
        self.call(request, async |mut stub, request| stub.send_text_message(request).await)
            .await
            .map_err(|error| MessengerError { request_id, ..error })
    }

    /// Sends one image, sound, video or file.
    ///
    /// # Errors
    /// If it was not sent, or nobody knows.
    pub async fn send_media_message(
        &self,
        mut request: v1::SendMediaMessageRequest,
    ) -> Result<v1::SendMediaMessageResponse, MessengerError> {
        let request_id = fill(&mut request.request_id);
        self.call(request, async |mut stub, request| stub.send_media_message(request).await)
            .await
            .map_err(|error| MessengerError { request_id, ..error })
    }

    /// Shows or removes the typing indicator, or marks the last message as seen.
    ///
    /// # Errors
    /// If it was not sent, or nobody knows.
    pub async fn send_sender_action(
        &self,
        mut request: v1::SendSenderActionRequest,
    ) -> Result<v1::SendSenderActionResponse, MessengerError> {
        let request_id = fill(&mut request.request_id);
        self.call(request, async |mut stub, request| stub.send_sender_action(request).await)
            .await
            .map_err(|error| MessengerError { request_id, ..error })
    }

    /// Sends one structured message.
    ///
    /// # Errors
    /// If it was not sent, or nobody knows.
    pub async fn send_template_message(
        &self,
        mut request: v1::SendTemplateMessageRequest,
    ) -> Result<v1::SendTemplateMessageResponse, MessengerError> {
        let request_id = fill(&mut request.request_id);
        self.call(request, async |mut stub, request| stub.send_template_message(request).await)
            .await
            .map_err(|error| MessengerError { request_id, ..error })
    }

    /// Counts of one bulk, by state.
    ///
    /// # Errors
    /// If nothing is on record of it, or the service does not answer.
    pub async fn get_bulk(&self, request: v1::GetBulkRequest) -> Result<v1::Bulk, MessengerError> {
        self.call(request, async |mut stub, request| stub.get_bulk(request).await).await
    }

    /// Recorded results of one bulk, page by page.
    ///
    /// # Errors
    /// If nothing is on record of it, or the service does not answer.
    pub async fn list_bulk_results(
        &self,
        request: v1::ListBulkResultsRequest,
    ) -> Result<v1::ListBulkResultsResponse, MessengerError> {
        self.call(request, async |mut stub, request| stub.list_bulk_results(request).await).await
    }

    /// The configured pages and how they fare.
    ///
    /// # Errors
    /// If the service does not answer.
    pub async fn list_pages(
        &self,
        request: v1::ListPagesRequest,
    ) -> Result<v1::ListPagesResponse, MessengerError> {
        self.call(request, async |mut stub, request| stub.list_pages(request).await).await
    }

    /// Makes a unary call, again while nothing was sent, until its deadline.
    async fn call<Req: Clone, Res>(
        &self,
        request: Req,
        method: impl AsyncFn(Stub, Request<Req>) -> Result<Response<Res>, Status>,
    ) -> Result<Res, MessengerError> {
        let deadline = Instant::now() + self.timeout;
        let tries = async {
            let mut failures = 0;
            loop {
                let mut again = Request::new(request.clone());
                again.set_timeout(deadline.saturating_duration_since(Instant::now()));
                let error = match method(self.stub(), again).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) => MessengerError::from(status),
                };
                let wait = backoff(failures, UNARY_WAIT_MAX).max(error.retry_after.unwrap_or_default());
                failures += 1;
                let is_last = failures == TRIES_MAX || Instant::now() + wait >= deadline;
                if error.code != Code::Unavailable || is_last {
                    return Err(error);
                }
                tokio::time::sleep(wait).await;
            }
        };
        tokio::time::timeout_at(deadline, tries).await.unwrap_or(Err(MessengerError::deadline_exceeded()))
    }

    /// The stub whose turn it is.
    pub(crate) fn stub(&self) -> Stub {
        self.stubs[self.turn.fetch_add(1, Ordering::Relaxed) % self.stubs.len()].clone()
    }
}

/// Names a request, so that no further try of it is taken for another request. Returns the name.
pub(crate) fn fill(id: &mut String) -> String {
    if id.is_empty() {
        *id = Uuid::new_v4().to_string();
    }
    id.clone()
}

/// How long to wait after so many earlier failures: a random part of a time that doubles, so that many clients of a
/// service that comes back do not come all at once.
pub(crate) fn backoff(failures: u32, longest: Duration) -> Duration {
    WAIT_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(longest).mul_f64(fastrand::f64())
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

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}
