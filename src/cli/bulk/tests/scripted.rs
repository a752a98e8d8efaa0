//! A service that does with its streams what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::api::pb;
use crate::api::pb::messenger_service_server::{MessengerService, MessengerServiceServer};
use crate::api::pb::send_bulk_messages_request::Frame;
use crate::api::pb::send_bulk_messages_response::Frame as Answer;

/// Items that the service holds at a time.
pub(super) const MAX_IN_FLIGHT: u64 = 100;

/// What becomes of an item; `None` is no word about it.
pub(super) type Verdict = fn(item_id: u64) -> Option<pb::item_result::Outcome>;

/// What is done with one stream.
pub(super) enum Act {
    /// The start is not taken.
    Refuse(Status),
    /// Items are answered; after so many, or at the half-close, the stream ends with this status.
    Answer(Verdict, usize, Result<(), Status>),
}

/// What the service saw of one stream.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) bulk_id: String,
    pub(super) run_id: String,
    pub(super) item_ids: Vec<u64>,
}

#[derive(Clone)]
pub(super) struct Scripted {
    acts: Arc<Mutex<VecDeque<Act>>>,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
}

type Answers = mpsc::Sender<Result<pb::SendBulkMessagesResponse, Status>>;

impl Scripted {
    /// Serves the acts one after the other; returns its address.
    pub(super) async fn start(acts: Vec<Act>) -> (Self, String) {
        let service = Self { acts: Arc::new(Mutex::new(acts.into())), seen: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = MessengerServiceServer::new(service.clone());
        let serve = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serve);
        (service, address)
    }

    /// Items that came, by stream.
    pub(super) fn item_ids(&self) -> Vec<Vec<u64>> {
        self.seen.lock().unwrap().iter().map(|seen| seen.item_ids.clone()).collect()
    }

    async fn play(
        &self,
        (verdict, count, end): (Verdict, usize, Result<(), Status>),
        mut requests: Streaming<pb::SendBulkMessagesRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let answer = async |frame| {
            drop(answers.send(Ok(pb::SendBulkMessagesResponse { frame: Some(frame) })).await);
        };
        let (mut read, number) = (0, self.seen.lock().unwrap().len());
        self.seen.lock().unwrap().push(Seen::default());
        while let Some(request) = requests.message().await? {
            match request.frame.unwrap() {
                Frame::Start(start) => {
                    let bulk_id = start.bulk_id.clone();
                    self.seen.lock().unwrap()[number].run_id = start.run_id;
                    self.seen.lock().unwrap()[number].bulk_id = start.bulk_id;
                    let max_in_flight = MAX_IN_FLIGHT as i32;
                    answer(Answer::Accepted(pb::BulkAccepted { bulk_id, max_in_flight })).await;
                }
                Frame::Items(items) => {
                    let items: Vec<_> = items.items.into_iter().take(count - read).collect();
                    read += items.len();
                    let ids = items.iter().map(|item| item.item_id.parse::<u64>().unwrap());
                    self.seen.lock().unwrap()[number].item_ids.extend(ids.clone());
                    let results = ids.filter_map(|id| Some(result(id, verdict(id)?))).collect();
                    answer(Answer::Results(pb::BulkResults { results })).await;
                    if read == count {
                        break;
                    }
                }
            }
        }
        end?;
        answer(Answer::Summary(pb::BulkSummary::default())).await;
        Ok(())
    }
}

pub(super) fn sent() -> pb::item_result::Outcome {
    pb::item_result::Outcome::Receipt(pb::Receipt { attempts: 1, ..pb::Receipt::default() })
}

pub(super) fn not_sent(reason: pb::ErrorReason) -> pb::item_result::Outcome {
    let error = pb::SendError { reason: reason.into(), retryable: true, ..pb::SendError::default() };
    pb::item_result::Outcome::Error(error)
}

fn result(item_id: u64, outcome: pb::item_result::Outcome) -> pb::ItemResult {
    let state = match outcome {
        pb::item_result::Outcome::Receipt(_) => pb::ItemState::Sent,
        pb::item_result::Outcome::Error(_) => pb::ItemState::NotSent,
    };
    pb::ItemResult { item_id: item_id.to_string(), state: state.into(), outcome: Some(outcome) }
}

/// A call that no test makes.
type Unmade<T> = Result<Response<T>, Status>;

fn unmade<T>() -> Unmade<T> {
    Err(Status::unimplemented("the script has no such call"))
}

#[tonic::async_trait]
impl MessengerService for Scripted {
    type SendBulkMessagesStream = ReceiverStream<Result<pb::SendBulkMessagesResponse, Status>>;

    async fn send_bulk_messages(
        &self,
        request: Request<Streaming<pb::SendBulkMessagesRequest>>,
    ) -> Result<Response<Self::SendBulkMessagesStream>, Status> {
        let (verdict, count, end) = match self.acts.lock().unwrap().pop_front().unwrap() {
            Act::Refuse(status) => return Err(status),
            Act::Answer(verdict, count, end) => (verdict, count, end),
        };
        let (answers, receiver) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.play((verdict, count, end), request.into_inner(), &answers).await {
                drop(answers.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn send_text_message(
        &self,
        _: Request<pb::SendTextMessageRequest>,
    ) -> Unmade<pb::SendTextMessageResponse> {
        unmade()
    }

    async fn send_media_message(
        &self,
        _: Request<pb::SendMediaMessageRequest>,
    ) -> Unmade<pb::SendMediaMessageResponse> {
        unmade()
    }

    async fn send_sender_action(
        &self,
        _: Request<pb::SendSenderActionRequest>,
    ) -> Unmade<pb::SendSenderActionResponse> {
        unmade()
    }

    async fn send_template_message(
        &self,
        _: Request<pb::SendTemplateMessageRequest>,
    ) -> Unmade<pb::SendTemplateMessageResponse> {
        unmade()
    }

    async fn get_bulk(&self, _: Request<pb::GetBulkRequest>) -> Unmade<pb::Bulk> {
        unmade()
    }

    async fn list_bulk_results(
        &self,
        _: Request<pb::ListBulkResultsRequest>,
    ) -> Unmade<pb::ListBulkResultsResponse> {
        unmade()
    }

    async fn list_pages(&self, _: Request<pb::ListPagesRequest>) -> Unmade<pb::ListPagesResponse> {
        unmade()
    }
}
