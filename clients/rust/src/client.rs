//! The client and its unary calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::backoff::{self, IN_PROGRESS_WAIT_MAX};
use crate::connection::{Address, Connection, Options, Place};
use crate::error::MessengerError;
use crate::health;
use crate::v1;
use crate::v1::messenger_service_client::MessengerServiceClient as Stub;

/// Tries of a unary call, the first one included.
const TRIES_MAX: u32 = 4;
/// The longest wait between tries of a unary call.
const UNARY_WAIT_MAX: Duration = Duration::from_secs(5);
/// The longest deadline: longer ones do not fit into what gRPC and clocks can express.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Sends messages through a service. Cheap to clone; clones share connections.
///
/// A call that ends `Unavailable` is made again, up to four times in all. That is safe because every send has an id,
/// which is made up if the request has none. While a message is being sent, because an earlier try whose connection broke
/// or somebody else has begun it, the client asks for its outcome until the deadline.
#[derive(Clone, Debug)]
pub struct MessengerClient {
    /// Never empty.
    addresses: Arc<[Address]>,
    turn: Arc<AtomicUsize>,
    pub(crate) timeout: Duration,
    pub(crate) reconnect_timeout: Duration,
}

impl MessengerClient {
    /// A client of the service at an address such as `127.0.0.1:50051` or `https://messenger.example.com`, or of
    /// several replicas with one ledger, separated by commas: calls take them in turn, and a further try goes to the
    /// next one.
    ///
    /// Connections are made when calls need them, one for every 100 calls at a time, up to 32 to one address. One that
    /// is lost is made anew; a name is then resolved anew.
    ///
    /// # Errors
    /// If an address, the key or a certificate cannot be used, or there is no Tokio runtime here.
    pub fn connect(address: &str, options: Options) -> Result<Self, MessengerError> {
        let invalid = |message| MessengerError::new(Code::InvalidArgument, message);
        let addresses = address.split(',').map(|address| Address::new(address, &options).map_err(invalid));
        Ok(Self {
            addresses: addresses.collect::<Result<_, MessengerError>>()?,
            turn: Arc::default(),
            timeout: options.timeout.min(TIMEOUT_MAX),
            reconnect_timeout: options.reconnect_timeout,
        })
    }

    /// The same client with another deadline.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout: timeout.min(TIMEOUT_MAX), ..self.clone() }
    }

    /// The same client with another time for bulks to go on in:
    /// [`Options::reconnect_timeout`](crate::Options::reconnect_timeout).
    pub fn with_reconnect_timeout(&self, reconnect_timeout: Duration) -> Self {
        Self { reconnect_timeout, ..self.clone() }
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
        self.call(request, async |connection, request| Stub::new(connection).send_text_message(request).await)
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
        self.call(request, async |connection, request| {
            Stub::new(connection).send_media_message(request).await
        })
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
        self.call(request, async |connection, request| {
            Stub::new(connection).send_sender_action(request).await
        })
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
        self.call(request, async |connection, request| {
            Stub::new(connection).send_template_message(request).await
        })
        .await
        .map_err(|error| MessengerError { request_id, ..error })
    }

    /// Counts of one bulk, by state.
    ///
    /// # Errors
    /// If nothing is on record of it, or the service does not answer.
    pub async fn get_bulk(&self, request: v1::GetBulkRequest) -> Result<v1::Bulk, MessengerError> {
        self.call(request, async |connection, request| Stub::new(connection).get_bulk(request).await).await
    }

    /// Recorded results of one bulk, page by page.
    ///
    /// # Errors
    /// If nothing is on record of it, or the service does not answer.
    pub async fn list_bulk_results(
        &self,
        request: v1::ListBulkResultsRequest,
    ) -> Result<v1::ListBulkResultsResponse, MessengerError> {
        self.call(request, async |connection, request| Stub::new(connection).list_bulk_results(request).await)
            .await
    }

    /// The configured pages and how they fare.
    ///
    /// # Errors
    /// If the service does not answer.
    pub async fn list_pages(
        &self,
        request: v1::ListPagesRequest,
    ) -> Result<v1::ListPagesResponse, MessengerError> {
        self.call(request, async |connection, request| Stub::new(connection).list_pages(request).await).await
    }

    /// Whether a service takes calls; `service` is a name of gRPC's health protocol: empty for the whole,
    /// `messenger.v1.MessengerService`, or `readiness` and `liveness`.
    ///
    /// # Errors
    /// If there is no answer, or no such name.
    pub async fn check_health(&self, service: &str) -> Result<bool, MessengerError> {
        let request = health::HealthCheckRequest { service: service.to_owned() };
        Ok(self.call(request, health::check).await?.is_serving())
    }

    /// Makes a unary call, until its deadline: again if the service cannot be reached or says UNAVAILABLE, which is
    /// safe because every send has an id by now.
    async fn call<Req: Clone, Res>(
        &self,
        request: Req,
        method: impl AsyncFn(Connection, Request<Req>) -> Result<Response<Res>, Status>,
    ) -> Result<Res, MessengerError> {
        let deadline = Instant::now() + self.timeout;
        let tries = async {
            let (mut failures, mut waits) = (0, 0);
            loop {
                let mut again = Request::new(request.clone());
                again.set_timeout(deadline.saturating_duration_since(Instant::now()));
                let (connection, place) = self.connection();
                let answered = method(connection, again).await;
                drop(place);
                let error = match answered {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) => MessengerError::from(status),
                };
                let (wait, may_pass) = if error.reason == v1::ErrorReason::RequestInProgress {
                    waits += 1;
                    (backoff::wait(waits - 1, IN_PROGRESS_WAIT_MAX), true)
                } else {
                    failures += 1;
                    let may_pass = error.code == Code::Unavailable && failures < TRIES_MAX;
                    (backoff::wait(failures - 1, UNARY_WAIT_MAX), may_pass)
                };
                let wait = wait.max(error.retry_after.unwrap_or_default());
                if !may_pass || Instant::now() + wait >= deadline {
                    return Err(error);
                }
                tokio::time::sleep(wait).await;
            }
        };
        tokio::time::timeout_at(deadline, tries).await.unwrap_or(Err(MessengerError::deadline_exceeded()))
    }

    /// A connection for one call, to the address whose turn it is. The call holds its place until it ends.
    pub(crate) fn connection(&self) -> (Connection, Place) {
        self.addresses[self.turn.fetch_add(1, Ordering::Relaxed) % self.addresses.len()].connection()
    }
}

/// Names a request, so that no further try of it is taken for another request. Returns the name.
pub(crate) fn fill(id: &mut String) -> String {
    if id.is_empty() {
        *id = Uuid::new_v4().to_string();
    }
    id.clone()
}
