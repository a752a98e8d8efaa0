//! grpc.health.v1: liveness and readiness apart. Watches end when the service does, so that they do not hold it.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::pb::messenger_service_server::SERVICE_NAME;
use super::status;
use crate::limits::PROBE_BYTES_MAX;

/// Alive: the process answers.
pub const LIVENESS: &str = "liveness";
/// Ready: the service takes calls.
pub const READINESS: &str = "readiness";

/// Tells callers whether the service is alive and ready.
#[derive(Clone, Debug)]
pub struct Health {
    liveness: watch::Sender<ServingStatus>,
    readiness: watch::Sender<ServingStatus>,
    closing: CancellationToken,
}

impl Default for Health {
    /// Alive, and not yet ready.
    fn default() -> Self {
        Self {
            liveness: watch::Sender::new(ServingStatus::Serving),
            readiness: watch::Sender::new(ServingStatus::NotServing),
            closing: CancellationToken::new(),
        }
    }
}

impl Health {
    /// The service that answers for it.
    pub fn service(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
            .max_decoding_message_size(PROBE_BYTES_MAX)
            .max_encoding_message_size(PROBE_BYTES_MAX)
    }

    /// Changes readiness.
    pub fn set_ready(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.readiness.send_if_modified(|current| std::mem::replace(current, status) != status);
    }

    /// Whether the service takes calls.
    pub fn is_ready(&self) -> bool {
        *self.readiness.borrow() == ServingStatus::Serving
    }

    /// Ends every watch, after its last change.
    pub fn close(&self) {
        self.closing.cancel();
    }

    fn status(&self, service: &str) -> Option<watch::Receiver<ServingStatus>> {
        match service {
            LIVENESS => Some(self.liveness.subscribe()),
            "" | SERVICE_NAME | READINESS => Some(self.readiness.subscribe()),
            _ => None,
        }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.status(&request.get_ref().service).ok_or_else(status::unknown_health_name)?;
        let status = *status.borrow();
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // The protocol wants an unknown name watched too.
        let unknown = || watch::channel(ServingStatus::ServiceUnknown).1;
        let mut status = self.status(&request.get_ref().service).unwrap_or_else(unknown);
        status.mark_changed();
        let closing = self.closing.clone();
        let changes = stream::unfold((status, closing), |(mut status, closing)| async {
            tokio::select! {
                biased;
                Ok(()) = status.changed() => {}
                () = closing.cancelled() => return None,
            }
            let now = *status.borrow_and_update();
            Some((Ok(HealthCheckResponse { status: now.into() }), (status, closing)))
        });
        Ok(Response::new(changes.boxed()))
    }
}
