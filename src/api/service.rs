//! The calls of the contract. Each is: convert, queue, await the outcome, answer.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use super::auth::Principal;
use super::convert::{self, Rendering};
use super::deadline::Deadline;
use super::observed::ObservedMessage;
use super::pb::{self, action::Kind};
use super::{bulk, fingerprint, record, status};
use crate::dispatch::{self, Dispatcher, Queued, Reply, Source};
use crate::error::{Outcome, SendError, Violations};
use crate::graph::client::Client;
use crate::graph::request;
use crate::ledger::{Claim, Key, Ledger};
use crate::message::{Message, check_together};
use crate::pages::{Page, Pages};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces;

/// The service: what its calls share.
#[derive(Clone, Debug)]
pub struct MessengerService {
    /// The configured pages.
    pub pages: Arc<Pages>,
    /// Sends messages.
    pub dispatcher: Arc<Dispatcher>,
    /// Knows the address of the call that a preview shows.
    pub graph: Arc<Client>,
    /// Remembers what became of messages with an id.
    pub ledger: Ledger,
    /// Items that one bulk stream may have in flight.
    pub bulk_in_flight_max: usize,
    /// What all of them share.
    pub bulk_room: bulk::SharedRoom,
    /// Told what becomes of messages.
    pub metrics: Metrics,
    /// Cancelled when the service shuts down.
    pub draining: CancellationToken,
}

/// The frame that the four unary requests share.
struct UnaryRequest {
    principal: Principal,
    deadline: Deadline,
    request_id: String,
    page_id: String,
    recipient: Option<pb::Recipient>,
    options: Option<pb::SendOptions>,
    kind: Option<Kind>,
    template_variables: Option<prost_types::Struct>,
    validate_only: bool,
}

/// What a unary send ends with, if not with an error.
enum Answer {
    Receipt(pb::Receipt),
    Preview(pb::Preview),
}

impl MessengerService {
    async fn send(&self, request: UnaryRequest) -> Result<Answer, Status> {
        self.try_send(request).await.map_err(status::status)
    }

    async fn try_send(&self, request: UnaryRequest) -> Result<Answer, SendError> {
        let page = request.principal.page(&self.pages, &request.page_id)?;
        traces::note_page(&Span::current(), &page.id);
        let (deadline, validate_only) = (request.deadline, request.validate_only);
        let claim = request.claim(&page.id);
        let message = request.into_message();
        if validate_only {
            let body_json = request::body_json(&message?).unwrap_or_default();
            return Ok(Answer::Preview(pb::Preview { url: self.graph.messages_url(&page), body_json }));
        }
        let observed = ObservedMessage::new(&self.metrics);
        let outcome = match message {
            Ok(message) => self.outcome(&page, message, claim, deadline).await,
            Err(error) => Outcome::Rejected(error),
        };
        observed.ended(&outcome);
        Ok(Answer::Receipt(status::receipt(outcome.into_result()?)))
    }

    /// Sends a message, and returns what became of it.
    async fn outcome(
        &self,
        page: &Page,
        message: Message,
        claim: Option<Claim>,
        deadline: Deadline,
    ) -> Outcome {
        // What is on record need not wait for the page.
        if let Some(claim) = claim.as_ref().filter(|_| self.dispatcher.holds_back(&page.id))
            && let Some(outcome) = self.recorded(claim, &message).await
        {
            return outcome;
        }
        if let Err(error) = self.dispatcher.check_unary_room(&page.id) {
            return Outcome::NotSent(error);
        }
        let (sender, outcome) = oneshot::channel();
        let reply = Reply::to_unary(sender).in_span(Span::current());
        let queued = Queued {
            message,
            claim,
            source: Source::Unary,
            attempts: 0,
            deadline: Some(deadline.of_waiting()),
            reply,
        };
        self.dispatcher.queue(&page.id, vec![queued]);
        outcome.await.unwrap_or_else(|_| Outcome::unknown("the message was lost by a bug"))
    }

    /// The outcome of a message that stands already. A ledger that is away is noticed when the message is claimed.
    async fn recorded(&self, claim: &Claim, message: &Message) -> Option<Outcome> {
        let mut found = self.ledger.look_up(std::slice::from_ref(claim)).await.ok()?;
        found.pop().flatten().and_then(|claimed| dispatch::recorded(claimed, message))
    }
}

impl UnaryRequest {
    /// Names the message in the ledger, if it has an id.
    fn claim(&self, page_id: &str) -> Option<Claim> {
        if self.request_id.is_empty() {
            return None;
        }
        let fingerprint = fingerprint::of_unary(
            self.recipient.as_ref(),
            self.options.as_ref(),
            self.kind.as_ref(),
            self.template_variables.as_ref(),
        );
        let key = Key { page_id: page_id.into(), bulk_id: "".into(), id: self.request_id.as_str().into() };
        Some(Claim { key, fingerprint, resend: None })
    }

    /// Checks a request as a whole.
    fn into_message(self) -> Result<Message, SendError> {
        let mut violations = Violations::default();
        convert::check_id(&self.request_id, &"request_id", &mut violations);
        let is_message = convert::is_message(self.kind.as_ref());
        let is_strict = self.options.as_ref().is_some_and(|options| options.strict_variables);
        let recipient = convert::recipient(self.recipient, &"recipient", &mut violations);
        let options = convert::options(self.options, &"options", &mut violations);
        let action = match self.template_variables {
            None => convert::action(self.kind, &"", None, Vec::new(), &mut violations),
            Some(variables) => {
                let rendering = Rendering::new(variables, is_strict, &"template_variables", &mut violations);
                rendering.and_then(|rendering| {
                    convert::action(self.kind, &"", Some(&rendering), Vec::new(), &mut violations)
                })
            }
        };
        match &action {
            Some(action) => check_together(&options, action, &"options", &mut violations),
            // So that an invalid action hides no other violation.
            None if is_message => options.require_messaging_type(&"options", &mut violations),
            None => {}
        }
        match (recipient, action) {
            (Some(recipient), Some(action)) if violations.is_empty() => {
                Ok(Message { recipient, options: Arc::new(options), action: Arc::new(action) })
            }
            _ => Err(violations.into_error()),
        }
    }
}

fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    Principal::of(request).map_err(status::status)
}

/// A unary call: takes its request apart, sends, and answers. The four differ in their action only.
macro_rules! unary {
    ($self:ident, $request:ident, $field:ident, $kind:expr, $response:ident, $result:ident) => {{
        let (principal, deadline) = (principal(&$request)?, Deadline::of(&$request));
        let request = $request.into_inner();
        let answer = $self
            .send(UnaryRequest {
                principal,
                deadline,
                request_id: request.request_id,
                page_id: request.page_id,
                recipient: request.recipient,
                options: request.options,
                kind: request.$field.map($kind),
                template_variables: request.template_variables,
                validate_only: request.validate_only,
            })
            .await?;
        let result = match answer {
            Answer::Receipt(receipt) => pb::$result::Result::Receipt(receipt),
            Answer::Preview(preview) => pb::$result::Result::Preview(preview),
        };
        Ok(Response::new(pb::$response { result: Some(result) }))
    }};
}

#[tonic::async_trait]
impl pb::messenger_service_server::MessengerService for MessengerService {
    async fn send_text_message(
        &self,
        request: Request<pb::SendTextMessageRequest>,
    ) -> Result<Response<pb::SendTextMessageResponse>, Status> {
        unary!(self, request, text, Kind::Text, SendTextMessageResponse, send_text_message_response)
    }

    async fn send_media_message(
        &self,
        request: Request<pb::SendMediaMessageRequest>,
    ) -> Result<Response<pb::SendMediaMessageResponse>, Status> {
        unary!(self, request, media, Kind::Media, SendMediaMessageResponse, send_media_message_response)
    }

    async fn send_sender_action(
        &self,
        request: Request<pb::SendSenderActionRequest>,
    ) -> Result<Response<pb::SendSenderActionResponse>, Status> {
        unary!(
            self,
            request,
            sender_action,
            Kind::SenderAction,
            SendSenderActionResponse,
            send_sender_action_response
        )
    }

    async fn send_template_message(
        &self,
        request: Request<pb::SendTemplateMessageRequest>,
    ) -> Result<Response<pb::SendTemplateMessageResponse>, Status> {
        unary!(
            self,
            request,
            template,
            Kind::Template,
            SendTemplateMessageResponse,
            send_template_message_response
        )
    }

    type SendBulkMessagesStream = ReceiverStream<Result<pb::SendBulkMessagesResponse, Status>>;

    async fn send_bulk_messages(
        &self,
        request: Request<Streaming<pb::SendBulkMessagesRequest>>,
    ) -> Result<Response<Self::SendBulkMessagesStream>, Status> {
        let principal = principal(&request)?;
        let permit = principal.begin_stream().map_err(status::status)?;
        // The response goes out before the first frame is read: some clients wait for it before they write.
        Ok(Response::new(bulk::start(self.clone(), principal, permit, request.into_inner())))
    }

    async fn get_bulk(&self, request: Request<pb::GetBulkRequest>) -> Result<Response<pb::Bulk>, Status> {
        let principal = principal(&request)?;
        let bulk = record::bulk(&principal, &self.pages, &self.ledger, request.into_inner()).await;
        bulk.map(Response::new).map_err(status::status)
    }

    async fn list_bulk_results(
        &self,
        request: Request<pb::ListBulkResultsRequest>,
    ) -> Result<Response<pb::ListBulkResultsResponse>, Status> {
        let principal = principal(&request)?;
        let results = record::results(&principal, &self.pages, &self.ledger, request.into_inner()).await;
        results.map(Response::new).map_err(status::status)
    }

    async fn list_pages(
        &self,
        request: Request<pb::ListPagesRequest>,
    ) -> Result<Response<pb::ListPagesResponse>, Status> {
        let pages = principal(&request)?.pages(&self.pages).into_iter().map(|page| {
            let status = self.dispatcher.status(&page.id);
            let (state, reason) = status::page_state(&status.standing);
            let [media_rate, rate] = status.rates.map(Option::unwrap_or_default);
            pb::Page {
                id: page.id.clone(),
                title: page.title.clone(),
                notes: page.notes.clone(),
                graph_version: page.graph_version.clone(),
                state: state.into(),
                state_reason: reason.into(),
                state_since: status.since.map(convert::timestamp),
                rate_per_second: i32::try_from(page.rate_per_second).unwrap_or(i32::MAX),
                media_rate_per_second: i32::try_from(page.media_rate_per_second).unwrap_or(i32::MAX),
                current_rate_per_second: rate,
                current_media_rate_per_second: media_rate,
                queued: i64::try_from(status.queued).unwrap_or(i64::MAX),
                in_flight: i64::try_from(status.in_flight).unwrap_or(i64::MAX),
            }
        });
        Ok(Response::new(pb::ListPagesResponse { pages: pages.collect() }))
    }
}
