//! Starts a sandbox and a service on free ports, and talks to them as a caller would.

use clap::Parser;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use messenger_connector::api::pb;
use messenger_connector::api::pb::messenger_service_client::MessengerServiceClient;
use messenger_connector::config::ServeOptions;
use messenger_connector::sandbox::{self, Sandbox};
use messenger_connector::server::Server;
use prost::Message;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Messages that a sandbox remembers: more than any test sends.
const SANDBOX_KEEP: usize = 10_000_000;

pub type Client = MessengerServiceClient<Channel>;

pub type KeyedClient = MessengerServiceClient<InterceptedService<Channel, Authorization>>;

/// Metadata that every call of a client carries.
#[derive(Clone)]
pub struct Authorization(Option<MetadataValue<Ascii>>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A client that shows a key, if there is one.
pub fn keyed(channel: Channel, key: Option<&str>) -> KeyedClient {
    authorized(channel, key.map(|key| format!("Bearer {key}")).as_deref())
}

/// A client whose calls carry this authorization, if any.
pub fn authorized(channel: Channel, authorization: Option<&str>) -> KeyedClient {
    let authorization = Authorization(authorization.map(|value| value.parse().unwrap()));
    MessengerServiceClient::new(InterceptedService::new(channel, authorization))
}

type BareHttp = hyper_util::client::legacy::Client<HttpConnector, tonic::body::Body>;
pub type BareClient = MessengerServiceClient<BareHttp>;
pub type BareKeyedClient = MessengerServiceClient<InterceptedService<BareHttp, Authorization>>;

/// A client without a clock of its own, which moves to a new connection what it could not send over an old one.
pub fn bare_client(stack: &Stack) -> BareClient {
    MessengerServiceClient::with_origin(bare_http(), stack.address.parse().unwrap())
}

fn bare_http() -> BareHttp {
    hyper_util::client::legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// A client without a clock of its own that shows a key.
pub fn bare_keyed_client(address: &str, key: &str) -> BareKeyedClient {
    let authorization = Authorization(Some(format!("Bearer {key}").parse().unwrap()));
    let http = InterceptedService::new(bare_http(), authorization);
    MessengerServiceClient::with_origin(http, address.parse().unwrap())
}

/// A client that holds no connection, in place of one that would.
pub fn nowhere() -> Client {
    Client::new(Channel::from_static("http://127.0.0.1:1").connect_lazy())
}

/// A request that the service answers within this time. Only a client without a clock of its own leaves that to it.
pub fn timed<T>(request: T, timeout: &str) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

/// A sandbox and a service, stopped when dropped.
pub struct Stack {
    pub client: Client,
    pub sandbox_url: String,
    pub address: String,
    /// Where the health port is, if there is one.
    pub health_address: Option<String>,
    /// Where the admin port is, if there is one.
    pub admin_address: Option<String>,
    pub shutdown: CancellationToken,
    _stop: DropGuard,
    /// Holds the ledger's file.
    _folder: Option<tempfile::TempDir>,
    pub served: tokio::task::JoinHandle<anyhow::Result<()>>,
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    serve: ServeOptions,
}

pub fn serve_options(arguments: &[&str]) -> ServeOptions {
    let mut all = vec!["test", "--listen", "127.0.0.1:0"];
    for (option, value) in [("--drain-delay-ms", "0"), ("--admin-listen", "none")] {
        if !arguments.contains(&option) {
            all.extend([option, value]);
        }
    }
    all.extend(arguments);
    Arguments::parse_from(all).serve
}

pub async fn start() -> Stack {
    start_with(&["--page-access-token", "token"]).await
}

/// Starts a stack whose service has these options more.
pub async fn start_with(arguments: &[&str]) -> Stack {
    let (sandbox_url, stop_sandbox) = start_sandbox(0).await;
    let shutdown = CancellationToken::new();
    let graph_url = ["--graph-url", &sandbox_url];
    let graph_url = if arguments.contains(&"--graph-url") { &[] } else { &graph_url[..] };
    let folder = (!arguments.contains(&"--ledger")).then(|| tempfile::tempdir().unwrap());
    let ledger =
        folder.as_ref().map(|folder| format!("sqlite://{}", folder.path().join("ledger.db").display()));
    let ledger: Vec<_> = ledger.iter().flat_map(|ledger| ["--ledger", ledger]).collect();
    let no_limit = ["--rate-per-second", "0", "--media-rate-per-second", "0"];
    let no_limit = if arguments.contains(&"--rate-per-second") { &[] } else { &no_limit[..] };
    let options = serve_options(&[graph_url, arguments, &ledger, no_limit].concat());
    let server = Server::bind(options).await.unwrap();
    let address = format!("http://{}", server.local_addr().unwrap());
    let health_address = server.health_addr().map(|address| format!("http://{address}"));
    let admin_address = server.admin_addr().map(|address| format!("http://{address}"));
    let served = tokio::spawn(server.serve(shutdown.clone().cancelled_owned()));
    let client = MessengerServiceClient::new(Channel::from_shared(address.clone()).unwrap().connect_lazy());
    let (_stop, _folder) = (stop_sandbox, folder);
    Stack { client, sandbox_url, address, health_address, admin_address, _stop, _folder, shutdown, served }
}

/// Starts a sandbox that takes this long for every call; it is stopped when the guard is dropped.
pub async fn start_sandbox(latency_ms: u64) -> (String, DropGuard) {
    start_sandbox_with(sandbox::Options { latency_ms, ..sandbox::Options::default() }).await
}

/// Starts a sandbox with these options, on a free port.
pub async fn start_sandbox_with(options: sandbox::Options) -> (String, DropGuard) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let options = sandbox::Options { listen, keep: SANDBOX_KEEP, ..options };
    let sandbox = Sandbox::bind(options).await.unwrap();
    let url = sandbox.url();
    let stop = CancellationToken::new();
    tokio::spawn(sandbox.serve(stop.clone().cancelled_owned()));
    (url, stop.drop_guard())
}

/// A JSON answer of a sandbox.
pub async fn sandbox_json(sandbox_url: &str, path: &str) -> serde_json::Value {
    let answer = reqwest::get(format!("{sandbox_url}{path}")).await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Stack {
    /// A new connection.
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }

    /// A client that shows a key.
    pub fn client_with(&self, key: &str) -> KeyedClient {
        keyed(Channel::from_shared(self.address.clone()).unwrap().connect_lazy(), Some(key))
    }

    /// A JSON answer of the sandbox.
    pub async fn sandbox(&self, path: &str) -> serde_json::Value {
        sandbox_json(&self.sandbox_url, path).await
    }

    /// The bodies that the sandbox got, in order.
    pub async fn bodies(&self) -> Vec<serde_json::Value> {
        let messages = self.sandbox("/sandbox/messages?limit=1000000").await;
        messages["messages"].as_array().unwrap().iter().map(|message| message["body"].clone()).collect()
    }

    /// Sends a whole bulk: its frames in order, then half-close. The answer is everything the stream brought.
    pub async fn bulk(&self, frames: Vec<pb::SendBulkMessagesRequest>) -> BulkAnswer {
        let mut client = self.client.clone();
        let responses = client.send_bulk_messages(tokio_stream::iter(frames)).await;
        let mut answer = BulkAnswer::default();
        let mut stream = match responses {
            Ok(responses) => responses.into_inner(),
            Err(status) => {
                answer.end = Some(status);
                return answer;
            }
        };
        loop {
            use pb::send_bulk_messages_response::Frame;
            match stream.message().await {
                Ok(Some(response)) => match response.frame.unwrap() {
                    Frame::Accepted(accepted) => answer.accepted = Some(accepted),
                    Frame::Results(results) => answer.results.extend(results.results),
                    Frame::Summary(summary) => answer.summary = summary.counts,
                },
                Ok(None) => return answer,
                Err(status) => {
                    answer.end = Some(status);
                    return answer;
                }
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct BulkAnswer {
    pub accepted: Option<pb::BulkAccepted>,
    pub results: Vec<pb::ItemResult>,
    pub summary: Option<pb::BulkCounts>,
    /// The status, if it was not OK.
    pub end: Option<Status>,
}

impl BulkAnswer {
    /// The only result of an item.
    pub fn result(&self, item_id: &str) -> &pb::ItemResult {
        let mut results = self.results.iter().filter(|result| result.item_id == item_id);
        let result = results.next().unwrap_or_else(|| panic!("no result for {item_id}: {self:?}"));
        assert!(results.next().is_none(), "two results for {item_id}");
        result
    }
}

pub fn psid(id: &str) -> pb::Recipient {
    pb::Recipient { identifier: Some(pb::recipient::Identifier::Id(id.to_owned())) }
}

pub fn update() -> pb::SendOptions {
    pb::SendOptions { messaging_type: pb::MessagingType::Update.into(), ..Default::default() }
}

pub fn text(text: &str) -> pb::TextMessage {
    pb::TextMessage { text: text.to_owned(), extras: None }
}

pub fn text_request(recipient: &str, message: &str) -> pb::SendTextMessageRequest {
    pb::SendTextMessageRequest {
        recipient: Some(psid(recipient)),
        options: Some(update()),
        text: Some(text(message)),
        ..Default::default()
    }
}

pub fn text_action(message: &str) -> pb::Action {
    pb::Action { kind: Some(pb::action::Kind::Text(text(message))) }
}

/// The start of a bulk that sends a text.
pub fn start_frame(message: &str) -> pb::SendBulkMessagesRequest {
    frame(pb::BulkStart { action: Some(text_action(message)), options: Some(update()), ..Default::default() })
}

pub fn frame(start: pb::BulkStart) -> pb::SendBulkMessagesRequest {
    pb::SendBulkMessagesRequest { frame: Some(pb::send_bulk_messages_request::Frame::Start(Box::new(start))) }
}

pub fn items_frame(items: Vec<pb::BulkItem>) -> pb::SendBulkMessagesRequest {
    let items = pb::BulkItems { items };
    pb::SendBulkMessagesRequest { frame: Some(pb::send_bulk_messages_request::Frame::Items(items)) }
}

pub fn item(item_id: &str, recipient: &str) -> pb::BulkItem {
    pb::BulkItem { item_id: item_id.to_owned(), recipient: Some(psid(recipient)), ..Default::default() }
}

/// Awaits something that happens soon, unless there is a bug.
pub async fn in_time<T>(soon: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), soon).await.expect("it takes for ever")
}

/// Writes a file, and returns its path.
pub fn write(folder: &std::path::Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn receipt(response: pb::SendTextMessageResponse) -> pb::Receipt {
    match response.result {
        Some(pb::send_text_message_response::Result::Receipt(receipt)) => receipt,
        other => panic!("no receipt: {other:?}"),
    }
}

/// The typed error inside a status, as a client would find it.
pub fn send_error(status: &Status) -> pb::SendError {
    find_send_error(status).unwrap_or_else(|| panic!("no SendError: {status:?}"))
}

/// The same, if there is one.
pub fn find_send_error(status: &Status) -> Option<pb::SendError> {
    let rich = tonic_types::pb::Status::decode(status.details()).unwrap();
    let any = rich.details.iter().find(|any| any.type_url.ends_with("messenger.v1.SendError"))?;
    Some(pb::SendError::decode(any.value.as_slice()).unwrap())
}
