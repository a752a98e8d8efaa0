//! `grpc.health.v1`, as far as the client asks: two messages of one field each, so that no crate is needed for them.

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::connection::Connection;

/// The one state in which calls are taken.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl HealthCheckResponse {
    pub(crate) fn is_serving(&self) -> bool {
        self.status == SERVING
    }
}

/// Asks once.
pub(crate) async fn check(
    connection: Connection,
    request: Request<HealthCheckRequest>,
) -> Result<Response<HealthCheckResponse>, Status> {
    let mut client = Grpc::new(connection);
    client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    client.unary(request, PathAndQuery::from_static("/grpc.health.v1.Health/Check"), codec).await
}
