//! The calls of the contract. Each is: convert, queue, await the outcome, answer.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use super::auth::Principal;
use super::context::Context;
use super::convert::{self, Effort};
use super::deadline::Deadline;
use super::middleware::bug;
use super::observed::ObservedMessage;
use super::pb::{self, action::Kind};
use super::raw::Raw;
use super::unary::{Made, UnaryRequest};
use super::{bulk, record, status, wire};
use crate::dispatch::{self, Queued, Reply, Source};
use crate::error::{Outcome, Reason, SendError};
use crate::graph::request;
use crate::ledger::Claim;
use crate::limits::LIGHT_REQUEST_BYTES_MAX;
use crate::message::Message;
use crate::pages::Page;
use crate::telemetry::traces;

/// The service.
#[derive(Clone, Debug)]
pub struct MessengerService(Arc<Context>);

/// What a unary send ends with, if not with an error.
enum Answer {
    Receipt(pb::Receipt),
    Preview(pb::Preview),
}

impl MessengerService {
    /// A service whose calls share this.
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    /// Sends what a request asks for; `parts` takes it apart.
    async fn send<T: prost::Message + Default + 'static>(
        &self,
        request: Request<Raw<T>>,
        parts: fn(T) -> UnaryRequest,
    ) -> Result<Answer, Status> {
        let (principal, deadline) = (principal(&request)?, Deadline::of(&request));
        let made = self.make(&principal, request.into_inner(), parts).await?;
        self.try_send(&principal, deadline, made).await.map_err(status::status)
    }

    /// Makes the message of a request: here, or where heavy work is done.
    async fn make<T: prost::Message + Default + 'static>(
        &self,
        principal: &Principal,
        request: Raw<T>,
        parts: fn(T) -> UnaryRequest,
    ) -> Result<Made, Status> {
        let is_light = request.len() <= LIGHT_REQUEST_BYTES_MAX;
        let make = move |effort: &Effort| request.read().map(|request| parts(request).make(effort));
        let made = if is_light {
            let effort = Effort::light();
            Some(make(&effort)).filter(|_| !effort.is_exceeded())
        } else {
            None
        };
        let made = match made {
            Some(made) => Some(made),
            None => self.0.heavy.run(principal.heavy(), move || make(&Effort::full())).await,
        };
        let made = made.ok_or_else(|| status::status(bug()))?;
        made.map_err(|_| status::protocol_violation("the request is not valid protobuf"))
    }

    async fn try_send(
        &self,
        principal: &Principal,
        deadline: Deadline,
        made: Made,
    ) -> Result<Answer, SendError> {
        let page = principal.page(&self.0.pages, &made.page_id)?;
        traces::note_page(&Span::current(), &page.id);
        let claim = made.claim(&page.id);
        let Made { message, validate_only, .. } = made;
        if validate_only {
            let body_json = request::body_json(&message?).unwrap_or_default();
            return Ok(Answer::Preview(pb::Preview { url: self.0.graph.messages_url(&page), body_json }));
        }
        let own_bytes = message.as_ref().map_or(0, |message| message.action.bytes());
        let _held = principal.bytes().hold(own_bytes)?;
        let observed = ObservedMessage::new(&self.0.metrics);
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
        if deadline.of_waiting() <= Instant::now() {
            return Outcome::not_sent(
                Reason::Expired,
                "the call's time was up before its message could be sent",
            );
        }
        // What is on record need not wait for the page.
        if let Some(claim) = claim.as_ref().filter(|_| self.0.dispatcher.holds_back(&page.id))
            && let Some(outcome) = self.recorded(claim, &message).await
        {
            return outcome;
        }
        if let Err(error) = self.0.dispatcher.check_unary_room(&page.id) {
            return Outcome::NotSent(error);
        }
        let (sender, outcome) = oneshot::channel();
        let reply = Reply::to_unary(sender).in_span(Span::current());
        let queued = Queued::new(message, claim, Source::Unary, Some(deadline.of_waiting()), reply);
        self.0.dispatcher.queue(&page.id, vec![queued]);
        tokio::select! {
            biased;
            outcome = outcome => {
                outcome.unwrap_or_else(|_| Outcome::unknown("the message was lost by a bug"))
            }
            () = self.0.drain.is_over.cancelled() => Outcome::unknown(
                "the service ended before the outcome was known: ask for it again with the same request_id",
            ),
        }
    }

    /// The outcome of a message that stands already. A ledger that is away is noticed when the message is claimed.
    async fn recorded(&self, claim: &Claim, message: &Message) -> Option<Outcome> {
        let mut found = self.0.ledger.look_up(std::slice::from_ref(claim)).await.ok()?;
        found.pop().flatten().and_then(|claimed| dispatch::recorded(claimed, message))
    }
}

fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    Principal::of(request).map_err(status::status)
}

/// A unary call: takes its request apart, sends, and answers. The four differ in their action only.
macro_rules! unary {
    ($self:ident, $request:ident, $from:ident, $field:ident, $kind:expr, $response:ident, $result:ident) => {{
        let parts = |request: pb::$from| UnaryRequest {
            request_id: request.request_id,
            page_id: request.page_id,
            recipient: request.recipient,
            options: request.options,
            kind: request.$field.map($kind),
            template_variables: request.template_variables,
            validate_only: request.validate_only,
        };
        let answer = $self.send($request, parts).await?;
        let result = match answer {
            Answer::Receipt(receipt) => pb::$result::Result::Receipt(receipt),
            Answer::Preview(preview) => pb::$result::Result::Preview(preview),
        };
        Ok(Response::new(pb::$response { result: Some(result) }))
    }};
}

#[tonic::async_trait]
impl wire::messenger_service_server::MessengerService for MessengerService {
    async fn send_text_message(
        &self,
        request: Request<Raw<pb::SendTextMessageRequest>>,
    ) -> Result<Response<pb::SendTextMessageResponse>, Status> {
        unary!(
            self,
            request,
            SendTextMessageRequest,
            text,
            Kind::Text,
            SendTextMessageResponse,
            send_text_message_response
        )
    }

    async fn send_media_message(
        &self,
        request: Request<Raw<pb::SendMediaMessageRequest>>,
    ) -> Result<Response<pb::SendMediaMessageResponse>, Status> {
        unary!(
            self,
            request,
            SendMediaMessageRequest,
            media,
            Kind::Media,
            SendMediaMessageResponse,
            send_media_message_response
        )
    }

    async fn send_sender_action(
        &self,
        request: Request<Raw<pb::SendSenderActionRequest>>,
    ) -> Result<Response<pb::SendSenderActionResponse>, Status> {
        unary!(
            self,
            request,
            SendSenderActionRequest,
            sender_action,
            Kind::SenderAction,
            SendSenderActionResponse,
            send_sender_action_response
        )
    }

    async fn send_template_message(
        &self,
        request: Request<Raw<pb::SendTemplateMessageRequest>>,
    ) -> Result<Response<pb::SendTemplateMessageResponse>, Status> {
        unary!(
            self,
            request,
            SendTemplateMessageRequest,
            template,
            Kind::Template,
            SendTemplateMessageResponse,
            send_template_message_response
        )
    }

    type SendBulkMessagesStream = ReceiverStream<Result<pb::SendBulkMessagesResponse, Status>>;

    async fn send_bulk_messages(
        &self,
        request: Request<Streaming<wire::SendBulkMessagesRequest>>,
    ) -> Result<Response<Self::SendBulkMessagesStream>, Status> {
        let principal = principal(&request)?;
        let permit = principal.begin_stream().map_err(status::status)?;
        // The response goes out before the first frame is read: some clients wait for it before they write.
        Ok(Response::new(bulk::start(self.0.clone(), principal, permit, request.into_inner())))
    }

    async fn get_bulk(&self, request: Request<pb::GetBulkRequest>) -> Result<Response<pb::Bulk>, Status> {
        let principal = principal(&request)?;
        let bulk = record::bulk(&principal, &self.0.pages, &self.0.ledger, request.into_inner()).await;
        bulk.map(Response::new).map_err(status::status)
    }

    async fn list_bulk_results(
        &self,
        request: Request<pb::ListBulkResultsRequest>,
    ) -> Result<Response<pb::ListBulkResultsResponse>, Status> {
        let principal = principal(&request)?;
        let results = record::results(&principal, &self.0.pages, &self.0.ledger, request.into_inner()).await;
        results.map(Response::new).map_err(status::status)
    }

    async fn list_pages(
        &self,
        request: Request<pb::ListPagesRequest>,
    ) -> Result<Response<pb::ListPagesResponse>, Status> {
        let pages = principal(&request)?.pages(&self.0.pages).into_iter().map(|page| {
            let status = self.0.dispatcher.status(&page.id);
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
