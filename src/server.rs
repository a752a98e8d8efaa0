//! Puts the rooms together, serves, and shuts down in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::api::health::Health;
use crate::api::pb;
use crate::api::pb::messenger_service_server::MessengerServiceServer;
use crate::api::service::MessengerService;
use crate::config::ServeOptions;
use crate::dispatch::Dispatcher;
use crate::graph::client::Client;
use crate::ledger::Ledger;
use crate::limits::{
    CONNECTION_STREAMS_MAX, CONNECTION_WINDOW_BYTES, GRPC_MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use crate::pages::Pages;

/// A service that listens, and serves once told to.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: ServeOptions,
    pages: Arc<Pages>,
    graph: Arc<Client>,
    ledger: Ledger,
}

impl Server {
    /// Reads the configuration and listens.
    ///
    /// # Errors
    /// If the configuration is wrong or the address is taken.
    pub async fn bind(options: ServeOptions) -> anyhow::Result<Self> {
        options.check()?;
        let pages = Pages::load(options.pages_source()?)?;
        let graph = Arc::new(Client::new(&options.graph_url)?);
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let ledger = Ledger::open(&options.ledger, options.ledger_options()).await?;
        Ok(Self { listener, options, pages, graph, ledger })
    }

    /// The address it listens on; tells the port if the configuration left it open.
    ///
    /// # Errors
    /// If the operating system cannot tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` completes, then finishes what was started, for at most the drain timeout.
    ///
    /// # Errors
    /// If the transport fails.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let draining = CancellationToken::new();
        let stopped = CancellationToken::new();
        let watch = tokio::spawn(self.pages.clone().watch());
        let dispatcher = Arc::new(Dispatcher::new(
            self.pages.clone(),
            self.graph.clone(),
            self.ledger.clone(),
            draining.clone(),
        ));
        let service = MessengerService {
            pages: self.pages,
            dispatcher: dispatcher.clone(),
            graph: self.graph,
            ledger: self.ledger.clone(),
            bulk_in_flight_max: self.options.bulk_in_flight_max,
            draining: draining.clone(),
        };
        let (mut health, health_service) = Health::new().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let messenger = MessengerServiceServer::new(service)
            .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
        tracing::info!(address = %self.listener.local_addr()?, "grpc listens");
        let serve = transport()
            .add_service(messenger)
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(self.listener).with_nodelay(Some(true)),
                stopped.clone().cancelled_owned(),
            );
        let serve = tokio::spawn(serve);
        let follow = tokio::spawn(follow_readiness(health.clone(), self.ledger.readiness()));
        shutdown.await;
        follow.abort();
        tracing::info!("draining");
        health.set_ready(false).await;
        draining.cancel();
        health.close().await;
        stopped.cancel();
        let deadline = tokio::time::Instant::now() + self.options.drain_timeout();
        // A connection that never says a word would hold the transport for ever.
        match tokio::time::timeout_at(deadline, serve).await {
            Ok(served) => served??,
            Err(_) => tracing::warn!("some connections did not end in time and are cut"),
        }
        // Calls of streams that were cancelled have nobody who waits for them.
        if tokio::time::timeout_at(deadline, dispatcher.finish()).await.is_err() {
            tracing::warn!("some calls did not end in time: their outcomes are unknown");
        }
        watch.abort();
        self.ledger.close().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Ready as long as the ledger takes claims. Graph's health does not count: its failures are answered per message.
async fn follow_readiness(health: Health, mut ledger: watch::Receiver<bool>) {
    loop {
        let is_ready = *ledger.borrow_and_update();
        health.set_ready(is_ready).await;
        if ledger.changed().await.is_err() {
            return;
        }
    }
}

/// HTTP/2 settings. Fixed windows, never adaptive ones: the adaptive kind lets a stream of small frames kill its
/// connection.
fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .max_frame_size(16 * 1024)
        .http2_max_header_list_size(16 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(1024))
}
