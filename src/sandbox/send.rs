//! One send: admitted or refused, delivered, answered; with the faults its recipient asks for.

use serde::Serialize;

use super::graph::{self, Call};
use super::graph_error::GraphError;
use super::magic::{self, Aftermath, Fault};
use super::page::Page;
use super::reply::{Content, Cut, Reply, Usage};
use super::rules::{self, Media, Outgoing};
use super::script::Script;
use super::state::{KeptMessage, Shared, now_ms};

/// Why a send is not delivered.
struct Refusal {
    error: GraphError,
    /// Minutes until access returns, for throttle errors that say so.
    regain_minutes: Option<u32>,
    /// Instead of the error's own HTTP status.
    status: Option<u16>,
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Self {
        Self { error, regain_minutes: None, status: None }
    }
}

/// Answers a call to `/messages` of `page_id`.
pub(crate) fn answer(shared: &Shared, script: &Script, call: Call, page_id: String) -> Reply {
    let fault = rules::recipient_hint(&call.parameters).and_then(Fault::of_recipient);
    if fault == Some(Fault::ResetBefore) {
        return Reply::reset();
    }
    let page = shared.page(&page_id);
    match admit(shared, script, &page, &call, fault) {
        Ok(outgoing) => {
            let sent = deliver(shared, &page, call, &page_id, outgoing);
            let usage = graph::usage(script, page_id);
            let Some(Fault::Delivered(aftermath)) = fault else {
                return sent.reply().with_usage(usage);
            };
            disturbed(shared, sent, aftermath).with_usage(usage)
        }
        Err(refusal) => {
            page.count_refused(refusal.error.is_throttle());
            let mut reply = Reply::error(&refusal.error, &shared.ids);
            reply.status = refusal.status.unwrap_or(reply.status);
            let usage = if refusal.error.is_throttle() {
                let regain_minutes = refusal.regain_minutes.unwrap_or(script.regain_minutes);
                Usage { page_id, percent: 100, regain_minutes }
            } else {
                graph::usage(script, page_id)
            };
            reply.with_usage(usage)
        }
    }
}

/// All reasons to refuse a send, in Graph's order as far as it is known: token, limits, rules, then
/// what only looking things up can tell.
fn admit(
    shared: &Shared,
    script: &Script,
    page: &Page,
    call: &Call,
    fault: Option<Fault>,
) -> Result<Outgoing, Refusal> {
    graph::authorize(shared, script, &call.credential)?;
    call.credential.check_sending()?;
    if let Some(error) = script.sending_error() {
        return Err(error.into());
    }
    if !page.admit(shared.options.rate_per_second) {
        return Err(GraphError::known(80006, None).into());
    }
    let outgoing = rules::check_send(&call.parameters)?;
    if let Some(fault) = fault {
        refuse_on_purpose(page, &outgoing, fault)?;
    }
    if outgoing.media.attachment_ids.iter().any(|id| !page.knows_attachment(id)) {
        return Err(GraphError::known(100, Some(2018074)).into());
    }
    fetch(page, &outgoing.media)?;
    let recipient = &outgoing.recipient;
    if recipient.is_private_reply() && !page.take_private_reply(&recipient.identifier) {
        return Err(GraphError::known(10900, None).into());
    }
    Ok(outgoing)
}

fn refuse_on_purpose(page: &Page, outgoing: &Outgoing, fault: Fault) -> Result<(), Refusal> {
    let is_among_first = |times| page.is_among_first(&outgoing.recipient.identifier, times);
    match fault {
        Fault::Fail { code, subcode } => Err(GraphError::known(code, subcode).into()),
        Fault::Throttle { times, minutes } if times.is_none_or(is_among_first) => {
            Err(Refusal { regain_minutes: minutes, ..GraphError::known(80006, None).into() })
        }
        Fault::Transient { times } if is_among_first(times) => Err(GraphError::transient().into()),
        Fault::ErrorUnder200 => {
            Err(Refusal { status: Some(200), ..GraphError::known(100, Some(2018001)).into() })
        }
        Fault::Throttle { .. } | Fault::Transient { .. } | Fault::ResetBefore | Fault::Delivered(_) => Ok(()),
    }
}

/// Fetches media by url, as far as the sandbox does: only magic addresses fail.
pub(crate) fn fetch(page: &Page, media: &Media) -> Result<(), GraphError> {
    for url in &media.urls {
        if magic::unfetchable_times(url).is_some_and(|times| page.is_among_first(url, times)) {
            return Err(GraphError::known(100, Some(2018008)));
        }
    }
    Ok(())
}

/// What a send is answered with when nothing goes wrong.
#[derive(Serialize)]
struct Sent {
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment_id: Option<String>,
}

impl Sent {
    fn reply(&self) -> Reply {
        Reply::json(serde_json::to_string(self).unwrap_or_default())
    }
}

fn deliver(shared: &Shared, page: &Page, call: Call, page_id: &str, outgoing: Outgoing) -> Sent {
    let Outgoing { recipient, is_message, media } = outgoing;
    let received_at = now_ms();
    page.deliver(&call.parameters, received_at);
    let attachment_id = media.is_saved.then(|| shared.ids.attachment());
    if let Some(id) = &attachment_id {
        page.save_attachment(id);
    }
    let message_id = is_message.then(|| shared.ids.message());
    let recipient_id = match recipient.kind {
        rules::RecipientKind::Id => Some(recipient.identifier.clone()),
        rules::RecipientKind::UserRef | rules::RecipientKind::PhoneNumber => None,
        rules::RecipientKind::CommentId
        | rules::RecipientKind::PostId
        | rules::RecipientKind::OneTimeToken => Some(shared.ids.person()),
    };
    shared.keep(KeptMessage {
        page_id: page_id.to_owned(),
        version: call.version.to_string(),
        message_id: message_id.clone(),
        in_batch: call.in_batch,
        received_at,
        appsecret_proof: call.credential.has_proof(),
        authorization: call.credential.source,
        body: serde_json::value::to_raw_value(&call.parameters).ok(),
        recipient: recipient.identifier,
    });
    Sent { recipient_id, message_id, attachment_id }
}

/// The answer to a delivered send whose recipient asks for trouble.
fn disturbed(shared: &Shared, sent: Sent, aftermath: Aftermath) -> Reply {
    let page = "<html><body><h1>Sorry, something went wrong.</h1></body></html>";
    let mut reply = sent.reply();
    match aftermath {
        Aftermath::Reset => reply.disturbance.cut = Some(Cut::Reset),
        Aftermath::TornBody => reply.disturbance.cut = Some(Cut::InBody),
        Aftermath::Stall => reply.disturbance.cut = Some(Cut::Stall),
        Aftermath::Slow(delay) => reply.disturbance.delay = delay,
        Aftermath::NullEntry => {
            reply = Reply::error(&GraphError::known(2, None), &shared.ids);
            reply.disturbance.is_null_entry = true;
        }
        Aftermath::FalseError => {
            reply = Reply::error(&GraphError::known(1, Some(1357046)), &shared.ids);
        }
        Aftermath::BadGateway => (reply.status, reply.content) = (502, Content::Html(page)),
        Aftermath::ServerError => {
            (reply.status, reply.content) = (500, Content::Text("Internal Server Error"));
        }
        Aftermath::HtmlPage => reply.content = Content::Html(page),
        Aftermath::EmptyBody => reply.content = Content::Empty,
        Aftermath::NoMessageId => {
            reply = Sent { message_id: None, ..sent }.reply();
        }
    }
    reply
}
