//! What every call passes on its way to its service, whichever service that is: panics, credentials, limits, deadline.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::service::Routes;
use tracing::Instrument;

use super::auth::Auth;
use super::connection::ConnectionUse;
use super::deadline::Deadline;
use super::intake::{BudgetedBody, Intake, over_limit};
use super::observed::{Held, Observer};
use super::status;
use crate::error::{Reason, SendError};
use crate::limits::{PROBE_TIMEOUT, WATCHES_MAX};
use crate::telemetry::metrics::Metrics;

/// Services that anybody may ask: probes have no credentials.
const OPEN_SERVICES: [&str; 1] = ["/grpc.health.v1.Health/"];
/// The one that lasts.
const WATCH_PATH: &str = "/grpc.health.v1.Health/Watch";
/// The call that gets many messages.
const BULK_PATH: &str = "/messenger.v1.MessengerService/SendBulkMessages";

/// The services of one port, behind what every call passes.
#[derive(Clone, Debug)]
pub struct Middleware {
    routes: Routes,
    auth: Arc<Auth>,
    observer: Arc<Observer>,
    /// Room for health watches.
    watches: Arc<Semaphore>,
}

impl Middleware {
    /// Puts itself before the services.
    pub fn new(routes: Routes, auth: Arc<Auth>, metrics: Metrics) -> Self {
        let observer = Arc::new(Observer::new(metrics));
        Self { routes: routes.prepare(), auth, observer, watches: Arc::new(Semaphore::new(WATCHES_MAX)) }
    }

    /// Answers a call. Never fails: errors are answers too. The request may have a [`ConnectionUse`] as its extension.
    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        let call = self.observer.begin(&request, is_open(&request));
        let mut held = Held::default();
        let answer = AssertUnwindSafe(self.admit(request, &mut held));
        let answer = answer.catch_unwind().instrument(call.span()).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => status.into_http(),
            Err(_) => status::status(bug()).into_http(),
        };
        call.follow(response, held)
    }

    async fn admit(&self, request: Request<Body>, held: &mut Held) -> Result<Response<Body>, Status> {
        let mut routes = self.routes.clone();
        let connection = request.extensions().get::<Arc<ConnectionUse>>();
        if is_open(&request) {
            let too_many = || status::status(over_limit("too many health checks are under way"));
            held.connection = connection.map(|of| of.begin_probe().ok_or_else(too_many)).transpose()?;
            if request.uri().path() == WATCH_PATH {
                held.permit = Some(self.watches.clone().try_acquire_owned().map_err(|_| too_many())?);
            }
            let answer = tokio::time::timeout(PROBE_TIMEOUT, routes.call(request)).await;
            return answer.map(infallible).map_err(|_| status::deadline_exceeded());
        }
        let principal =
            self.auth.principal(request.headers(), request.extensions()).map_err(status::status)?;
        held.connection = connection.map(ConnectionUse::begin_call);
        let is_bulk = request.uri().path() == BULK_PATH;
        if !is_bulk {
            held.permit = Some(principal.begin_request().map_err(status::status)?);
        }
        let deadline = Deadline::of_headers(request.headers());
        let intake = if is_bulk { Intake::Stream } else { Intake::Unary };
        let bytes = principal.bytes();
        let mut request = request.map(|body| Body::new(BudgetedBody::new(body, intake, bytes)));
        request.extensions_mut().insert(principal);
        request.extensions_mut().insert(deadline);
        // A stream has answered once it begins, so it has no deadline here.
        let answer = tokio::time::timeout_at(deadline.of_answer().into(), routes.call(request)).await;
        answer.map(infallible).map_err(|_| status::deadline_exceeded())
    }
}

fn is_open(request: &Request<Body>) -> bool {
    OPEN_SERVICES.iter().any(|service| request.uri().path().starts_with(service))
}

/// The error of a call that panicked. The panic itself has been logged by the panic hook.
pub(super) fn bug() -> SendError {
    SendError::new(Reason::Internal, "a bug in messenger-connector: its log tells more")
}

fn infallible(response: Result<Response<Body>, std::convert::Infallible>) -> Response<Body> {
    match response {
        Ok(response) => response,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use prost::Message;
    use tonic::Code;
    use tonic::server::NamedService;

    use super::*;
    use crate::api::auth::{CallerLimits, Credentials};
    use crate::api::pb;

    /// A service with a bug.
    #[derive(Clone)]
    struct Buggy;

    impl NamedService for Buggy {
        const NAME: &'static str = "buggy.Service";
    }

    impl Service<Request<Body>> for Buggy {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            panic!("as a bug would")
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_as_an_internal_error() {
        let limits = CallerLimits { streams: 1, requests_in_flight: 1 };
        let auth = Arc::new(Auth::new(Credentials::None, limits));
        let middleware = Middleware::new(Routes::new(Buggy), auth, Metrics::default());
        // The second call shows that the first one gave its room back.
        for _ in 0..2 {
            let request = Request::post("/buggy.Service/Call").body(Body::empty()).unwrap();
            let response = middleware.call(request).await;
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), Code::Internal);
            let details = tonic_types::pb::Status::decode(status.details()).unwrap().details;
            let error = pb::SendError::decode(details.last().unwrap().value.as_slice()).unwrap();
            assert_eq!(error.reason(), pb::ErrorReason::Internal);
            assert!(!error.message.contains("as a bug would"));
        }
    }
}
