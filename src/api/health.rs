//! grpc.health.v1: liveness and readiness apart.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::pb::messenger_service_server::SERVICE_NAME;

/// Alive: the process answers.
pub const LIVENESS: &str = "liveness";
/// Ready: the service takes calls.
pub const READINESS: &str = "readiness";
/// Every name that tells readiness: the overall one, the service's, and the one for probes.
const READINESS_NAMES: [&str; 3] = ["", SERVICE_NAME, READINESS];

/// Tells callers whether the service is alive and ready.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Alive, and not yet ready.
    pub async fn new() -> (Self, HealthServer<HealthService>) {
        let reporter = HealthReporter::new();
        let server = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let health = Self { reporter };
        health.set_ready(false).await;
        health.reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
        (health, server)
    }

    /// Changes readiness.
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in READINESS_NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Ends every watch.
    pub async fn close(&mut self) {
        for name in READINESS_NAMES.into_iter().chain([LIVENESS]) {
            self.reporter.clear_service_status(name).await;
        }
    }
}
