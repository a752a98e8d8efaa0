//! Puts the rooms together, serves, and shuts down in order.
//!
//! `listener` accepts connections, `connections` bounds them, `connection` serves one, `tls` reads certificates, `admin` answers Prometheus and
//! probes, `identity` learns whose the token is, `drain` ends it all.

mod admin;
mod connection;
mod connections;
mod drain;
mod identity;
mod listener;
mod tls;

use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::Routes;

use crate::api::auth::{Auth, CallerLimits, Credentials};
use crate::api::bulk::room::SharedRoom;
use crate::api::context::{Context as CallContext, Drain};
use crate::api::health::Health;
use crate::api::heavy::HeavyWork;
use crate::api::middleware::Middleware;
use crate::api::pb;
use crate::api::service::MessengerService;
use crate::api::wire::messenger_service_server::MessengerServiceServer;
use crate::callers::Callers;
use crate::config::ServeOptions;
use crate::dispatch::Dispatcher;
use crate::graph::client::Client;
use crate::ledger::Ledger;
use crate::limits::{GRPC_MESSAGE_BYTES_MAX, PAGE_ID_TIMEOUT};
use crate::pages::Pages;
use crate::supervised::Lifeline;
use crate::telemetry::metrics::Metrics;

use admin::Admin;
use connection::Port;
use drain::Running;
use identity::Identity;
use listener::Listening;
use tls::Tls;

/// A service that listens, and serves once told to.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    health_listener: Option<TcpListener>,
    admin_listener: Option<TcpListener>,
    options: ServeOptions,
    pages: Arc<Pages>,
    callers: Option<Arc<Callers>>,
    tls: Option<Arc<Tls>>,
    graph: Arc<Client>,
    ledger: Ledger,
    metrics: Metrics,
    /// What the service is told by if a part of it dies.
    lifeline: Lifeline,
}

impl Server {
    /// Reads the configuration and listens.
    ///
    /// # Errors
    /// If the configuration is wrong or an address is taken.
    pub async fn bind(options: ServeOptions) -> anyhow::Result<Self> {
        options.check()?;
        let pages = Pages::load(options.pages_source()?)?;
        let callers = options.callers()?.map(Arc::new);
        let tls = tls::load(&options.security)?;
        let admin_listen = options.telemetry.admin_listen.address();
        let metrics = Metrics::new(admin_listen.is_some(), options.telemetry.collector())?;
        let graph =
            Arc::new(Client::new(&options.graph_url, options.graph_tls_ca.as_deref(), metrics.clone())?);
        let listener = listen("--listen", options.listen).await?;
        let health_listener = match options.lifecycle.health_listen {
            Some(address) => Some(listen("--health-listen", address).await?),
            None => None,
        };
        let admin_listener = match admin_listen {
            Some(address) => Some(
                listen("--admin-listen", address)
                    .await
                    .context("several services need an address each, or none")?,
            ),
            None => None,
        };
        let ledger = Ledger::open(&options.ledger, options.ledger_options(metrics.clone())).await?;
        Ok(Self {
            listener,
            health_listener,
            admin_listener,
            options,
            pages,
            callers,
            tls,
            graph,
            ledger,
            metrics,
            lifeline: Lifeline::default(),
        })
    }

    /// The address it listens on; tells the port if the configuration left it open.
    ///
    /// # Errors
    /// If the operating system cannot tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the health port, if there is one.
    pub fn health_addr(&self) -> Option<SocketAddr> {
        self.health_listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// The address of the admin port, if there is one.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown` completes, then finishes what was started, for at most the drain timeout.
    ///
    /// # Errors
    /// If the service cannot be put together, or a part of it has died. What is left is drained then too.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (mut background, lifeline) = (JoinSet::new(), self.lifeline.clone());
        background.spawn(self.pages.clone().watch());
        self.callers.clone().map(|callers| background.spawn(callers.watch()));
        self.tls.clone().map(|tls| background.spawn(tls.watch()));
        let health = Health::default();
        background.spawn(follow_readiness(health.clone(), self.ledger.readiness()));
        let (pages, graph, ledger) = (self.pages.clone(), self.graph.clone(), self.ledger.clone());
        let identity = Identity { pages, graph, ledger };
        // Who calls at once finds the page; a Graph that is away is waited for no longer than that.
        let wait = timeout(PAGE_ID_TIMEOUT, identity.learn()).await.unwrap_or_default();
        background.spawn(identity.keep_learning(wait));
        let (ledger, of_ledger) = (self.ledger.clone(), lifeline.clone());
        background.spawn(async move {
            ledger.ended().await;
            of_ledger.report("the ledger's writer");
        });
        let lifecycle = self.options.lifecycle.clone();
        let running = self.start(health)?;
        let dead = tokio::select! {
            () = shutdown => None,
            name = lifeline.broken() => Some(name),
        };
        if let Some(name) = dead {
            tracing::error!("{name} has died by a bug: the service ends");
        }
        // So that nothing says that it is ready any more.
        background.shutdown().await;
        running.drain(&lifecycle).await;
        match dead {
            None => Ok(()),
            Some(name) => bail!("{name} has died by a bug: the log above tells more"),
        }
    }

    /// Takes connections from now on.
    fn start(self, health: Health) -> anyhow::Result<Running> {
        let drain = Drain::default();
        let auth = Arc::new(self.auth());
        let dispatcher = Arc::new(Dispatcher::new(
            self.pages.clone(),
            self.graph.clone(),
            self.ledger.clone(),
            self.metrics.clone(),
            drain.began.clone(),
            self.lifeline.clone(),
        ));
        let service = MessengerService::new(Arc::new(CallContext {
            pages: self.pages.clone(),
            dispatcher: dispatcher.clone(),
            graph: self.graph.clone(),
            ledger: self.ledger.clone(),
            bulk_in_flight_max: self.options.bulk_in_flight_max,
            bulk_room: SharedRoom::default(),
            heavy: HeavyWork::start().context("no thread for heavy work")?,
            metrics: self.metrics.clone(),
            drain: drain.clone(),
        }));
        let routes = messenger_routes(service)?.add_service(health.service());
        let age_max = self.options.lifecycle.connection_age_max();
        tracing::info!(address = %self.listener.local_addr()?, "grpc listens");
        if let Some(address) = self.health_addr() {
            tracing::info!(%address, "health listens");
        }
        if let Some(address) = self.admin_addr() {
            tracing::info!(%address, "admin listens");
        }
        let metrics = self.metrics;
        let middleware = Middleware::new(routes, auth.clone(), metrics.clone());
        let main = Listening::start(self.listener, Port::new(middleware, self.tls, age_max), metrics.clone());
        let probes = self.health_listener.map(|listener| {
            let middleware = Middleware::new(Routes::new(health.service()), auth, metrics.clone());
            Listening::start(listener, Port::new(middleware, None, age_max), metrics.clone())
        });
        let mut admin = JoinSet::new();
        if let Some(listener) = self.admin_listener {
            admin.spawn(admin::serve(listener, Admin { health: health.clone(), metrics: metrics.clone() }));
        }
        Ok(Running { main, probes, admin, health, drain, dispatcher, ledger: self.ledger, metrics })
    }

    fn auth(&self) -> Auth {
        let security = &self.options.security;
        let credentials = match &self.callers {
            Some(callers) => Credentials::Callers(callers.clone()),
            None if security.tls_client_ca.is_some() => Credentials::Certificate,
            None => Credentials::None,
        };
        let limits = CallerLimits {
            streams: security.caller_streams_max,
            requests_in_flight: security.caller_requests_in_flight_max,
        };
        Auth::new(credentials, limits)
    }
}

/// The contract's service, and reflection.
fn messenger_routes(service: MessengerService) -> anyhow::Result<Routes> {
    let messenger = MessengerServiceServer::new(service)
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    Ok(Routes::new(messenger).add_service(reflection))
}

async fn listen(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = error.kind();
        if why == ErrorKind::AddrInUse {
            anyhow!(
                "cannot listen on {address}, because another process does: end it, or give {option} another port (0 for any)"
            )
        } else if why == ErrorKind::AddrNotAvailable {
            anyhow!(
                "cannot listen on {address}, because this machine has no such address: give {option} one that it has, such \
                 as 127.0.0.1 or 0.0.0.0"
            )
        } else if why == ErrorKind::PermissionDenied {
            anyhow!("cannot listen on {address}: not permitted; give {option} a port above 1023")
        } else {
            anyhow!("cannot listen on {address}: {error}")
        }
    })
}

/// Ready as long as the ledger takes claims. Graph's health does not count: its failures are answered per message.
async fn follow_readiness(health: Health, mut ledger: watch::Receiver<bool>) {
    loop {
        let is_ready = *ledger.borrow_and_update();
        health.set_ready(is_ready);
        if ledger.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        serve: ServeOptions,
    }

    #[tokio::test]
    async fn a_service_whose_ledger_has_died_ends_with_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
        let arguments =
            ["test", "--listen", "127.0.0.1:0", "--admin-listen", "none", "--drain-delay-ms", "0"];
        let arguments = arguments.into_iter().chain(["--page-access-token", "t", "--ledger", &ledger]);
        let server = Server::bind(Arguments::parse_from(arguments).serve).await.unwrap();
        server.ledger.close().await;
        let error = server.serve(std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("the ledger's writer has died"), "{error}");
    }
}
