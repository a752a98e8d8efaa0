//! Graph's answers, and the one table of its error codes (Meta's Messenger error codes of 2026-06-25, its generic
//! error table and rate limiting guide).
//!
//! A code is matched by number, never by text: subcode before code, then the HTTP status, then `is_transient`.

use serde::Deserialize;

use super::lenient::{Object, Scalar};
use crate::error::{GraphError, Reason, SendError};
use crate::message::Action;

/// What Graph said about one message.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Graph took it.
    Accepted(Accepted),
    /// Graph did not take it, or nobody can tell.
    Refused(Refusal),
}

/// The ids of a message that Graph took. Empty where Graph gives none.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Empty for a sender action.
    pub message_id: String,
    /// Empty for user_ref and phone recipients.
    pub recipient_id: String,
    /// Empty unless the media is reusable.
    pub attachment_id: String,
}

/// Why there is no receipt, and what that means for the message.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    /// The reason, for the caller.
    pub error: SendError,
    /// The consequence, for the dispatcher.
    pub disposition: Disposition,
}

/// What to do with a message that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Graph refused it for good.
    Final,
    /// Graph could not fetch its media; one more try is worth it.
    OnceMore,
    /// Surely not sent, because of this message or recipient; later it may be.
    Later,
    /// Surely not sent, because the page is over its limits.
    Throttled,
    /// Surely not sent, because of the network or a passing fault.
    Transient,
    /// Surely not sent, and no message of the page will be until its operator acts.
    PageStopped,
    /// Surely not sent. Graph says the same when this message alone is refused and when every message of the page is:
    /// what happens to messages for other recipients tells which.
    PageSuspected,
    /// It may have been sent.
    Unknown,
}

use Disposition::{Final, Later, OnceMore, PageStopped, PageSuspected, Throttled, Transient, Unknown};

type Row = (i32, i32, Reason, Disposition);

/// Rows for a code together with a subcode.
#[rustfmt::skip]
const CODE_AND_SUBCODE: &[Row] = &[
    (1,   99,      Reason::PagePermissionMissing, PageSuspected), // often a missing access level
    (1,   2018382, Reason::InvalidArgument,       Final),  // instant form: wrong id
    (1,   1357046, Reason::OutcomeUnknown,        Unknown), // documented: everything was sent
    (2,   2018344, Reason::PagePermissionMissing, PageSuspected), // label terms not accepted by the page's admin
    (4,   2018354, Reason::RateLimited,           Later),  // too early for this person
    (100, 33,      Reason::PagePermissionMissing, PageStopped), // the page, as this token sees it, is not there
    (200, 2018021, Reason::PagePermissionMissing, Later),  // phone recipients only
    (200, 2018027, Reason::PagePermissionMissing, Later),  // phone recipients only
    (613, 2018338, Reason::RateLimited,           Later),  // abusive tag rate towards this person
    (613, 1893016, Reason::RateLimited,           Later),  // repeated opt-in request
];

/// Rows for a subcode, whatever code it comes with: Meta pairs some with several.
#[rustfmt::skip]
const SUBCODE: &[(i32, Reason, Disposition)] = &[
    (2018278, Reason::OutsideWindow,             Final),
    (2018065, Reason::OutsideWindow,             Final),
    (2534022, Reason::OutsideWindow,             Final),
    (2018108, Reason::RecipientUnavailable,      Final),
    (1545041, Reason::RecipientUnavailable,      Final),
    (1893015, Reason::RecipientUnavailable,      Final),     // stopped this topic
    (2534041, Reason::RecipientUnavailable,      Final),     // closed their inbox to apps
    (2018300, Reason::ThreadControlledElsewhere, Later),
    (2018321, Reason::ThreadControlledElsewhere, Later),
    (2534037, Reason::ThreadControlledElsewhere, Later),
    (1893063, Reason::PageRestricted,            PageStopped),
    (1404170, Reason::PageRestricted,            Later),     // no opt-in requests; other sends work
    (2018001, Reason::RecipientNotFound,         Final),
    (2018074, Reason::AttachmentNotFound,        Final),
    (2018008, Reason::InvalidArgument,           OnceMore),  // media not fetched
    (2018294, Reason::InvalidArgument,           OnceMore),  // video not fetched in time
    (2534001, Reason::GraphRejected,             Final),     // thread deleted
    (2534029, Reason::PagePermissionMissing,     PageSuspected),
    (2018028, Reason::PagePermissionMissing,     PageSuspected), // only people with a role in the app are reached
    (2018171, Reason::PagePermissionMissing,     PageSuspected),
    (2018234, Reason::PagePermissionMissing,     PageSuspected),
    (2018336, Reason::GraphRejected,             Final),     // privacy rule of the person's country
    (2534077, Reason::PagePermissionMissing,     PageSuspected), // the business's account is not linked
];

/// Rows for a code alone. Of other codes from 200 to 299, each is a permission.
#[rustfmt::skip]
const CODE: &[(i32, Reason, Disposition)] = &[
    (1,       Reason::OutcomeUnknown,        Unknown),
    (2,       Reason::OutcomeUnknown,        Unknown),
    (3,       Reason::PagePermissionMissing, PageStopped),
    (4,       Reason::RateLimited,           Throttled),
    (9,       Reason::RateLimited,           Later),     // opt-in requests only
    (10,      Reason::PagePermissionMissing, PageSuspected),
    (17,      Reason::RateLimited,           Throttled),
    (32,      Reason::RateLimited,           Throttled),
    (100,     Reason::InvalidArgument,       Final),
    (102,     Reason::PageTokenInvalid,      PageStopped),
    (104,     Reason::PageTokenInvalid,      PageStopped), // no token, as Graph sees it
    (105,     Reason::InvalidArgument,       Final),     // too many elements
    (190,     Reason::PageTokenInvalid,      PageStopped),
    (194,     Reason::InvalidArgument,       Final),
    (341,     Reason::RateLimited,           Throttled),
    (368,     Reason::PageRestricted,        PageStopped),
    (546,     Reason::InvalidArgument,       Final),     // type of the file
    (551,     Reason::RecipientUnavailable,  Final),
    (613,     Reason::RateLimited,           Throttled),
    (1200,    Reason::OutcomeUnknown,        Unknown),
    (2022,    Reason::PagePermissionMissing, PageSuspected), // commerce messaging is disabled
    (2500,    Reason::PageTokenInvalid,      PageStopped), // no token, or no such path, as Graph sees it
    (2635,    Reason::GraphUnavailable,      PageStopped), // graph_version is retired
    (10303,   Reason::InvalidArgument,       Final),
    (10900,   Reason::GraphRejected,         Final),     // private reply already made
    (10903,   Reason::GraphRejected,         Final),
    (36000,   Reason::InvalidArgument,       Final),     // image too large
    (80001,   Reason::RateLimited,           Throttled),
    (80002,   Reason::RateLimited,           Throttled),
    (80006,   Reason::RateLimited,           Throttled),
    (1545041, Reason::RecipientUnavailable,  Final),
    (2018144, Reason::RateLimited,           Later),
    (2018300, Reason::ThreadControlledElsewhere, Later),
    (2018321, Reason::ThreadControlledElsewhere, Later),
];

/// The error type that code 100 has when the page's credentials or the page itself are the matter, and no parameter of
/// the message: Graph gives it for a missing or wrong `appsecret_proof`. Meta does not translate types.
const OBJECT_ERROR_TYPE: &str = "GraphMethodException";

/// Looks a Graph error up.
fn classify(fault: &Fault, http_status: u16) -> (Reason, Disposition) {
    let GraphError { code, subcode, kind, .. } = &fault.graph;
    let pair = CODE_AND_SUBCODE.iter().find(|row| (row.0, row.1) == (*code, *subcode));
    if let Some((_, _, reason, disposition)) = pair {
        return (*reason, *disposition);
    }
    if let Some((_, reason, disposition)) = SUBCODE.iter().find(|row| row.0 == *subcode) {
        return (*reason, *disposition);
    }
    if *code == 100 && kind == OBJECT_ERROR_TYPE {
        // A subcode that is not listed may be about the message.
        return (Reason::PageTokenInvalid, if *subcode == 0 { PageStopped } else { PageSuspected });
    }
    if let Some((_, reason, disposition)) = CODE.iter().find(|row| row.0 == *code) {
        return (*reason, *disposition);
    }
    match (code, http_status) {
        (200..=299, _) => (Reason::PagePermissionMissing, PageSuspected),
        (_, 400..=499) if fault.is_transient => (Reason::GraphUnavailable, Transient),
        (_, 429) => (Reason::RateLimited, Throttled),
        // A server that failed cannot vouch for what it did, whatever the error says of itself.
        (_, 0 | 500..) => (Reason::OutcomeUnknown, Unknown),
        _ if fault.is_transient => (Reason::OutcomeUnknown, Unknown),
        _ => (Reason::GraphRejected, Final),
    }
}

#[derive(Deserialize)]
struct AnswerBody<'a> {
    #[serde(borrow, default)]
    error: Object<ErrorBody<'a>>,
    #[serde(borrow, default)]
    message_id: Scalar<'a>,
    #[serde(borrow, default)]
    recipient_id: Scalar<'a>,
    #[serde(borrow, default)]
    attachment_id: Scalar<'a>,
}

#[derive(Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, default)]
    code: Scalar<'a>,
    #[serde(borrow, default)]
    error_subcode: Scalar<'a>,
    #[serde(borrow, default)]
    is_transient: Scalar<'a>,
    #[serde(borrow, default)]
    r#type: Scalar<'a>,
    #[serde(borrow, default)]
    message: Scalar<'a>,
    #[serde(borrow, default)]
    fbtrace_id: Scalar<'a>,
    #[serde(borrow, default)]
    error_user_title: Scalar<'a>,
    #[serde(borrow, default)]
    error_user_msg: Scalar<'a>,
}

/// An error as the table wants it. Without a code it is not one of Graph's.
struct Fault {
    graph: GraphError,
    is_transient: bool,
}

impl Fault {
    fn of(error: ErrorBody<'_>) -> Option<Self> {
        let is_transient = error.is_transient.is_true();
        let graph = GraphError {
            code: error.code.integer()?,
            subcode: error.error_subcode.integer().unwrap_or_default(),
            kind: error.r#type.into_text().into_owned(),
            message: error.message.into_text().into_owned(),
            fbtrace_id: error.fbtrace_id.into_text().into_owned(),
            user_title: error.error_user_title.into_text().into_owned(),
            user_message: error.error_user_msg.into_text().into_owned(),
        };
        Some(Self { graph, is_transient })
    }
}

/// Reads the answer to one message: of a plain send, or of one entry of a batch. A status of 0 stands for none.
pub fn read_message(http_status: u16, body: &[u8], action: &Action) -> Verdict {
    let Ok(answer) = serde_json::from_slice::<AnswerBody<'_>>(body) else {
        return Verdict::Refused(unreadable(http_status));
    };
    match answer.error {
        Object::Absent => {}
        // Some proxies turn an error's status into 200: the body decides.
        Object::Read(error) => return Verdict::Refused(refusal(error, http_status)),
        Object::Odd => return Verdict::Refused(unreadable(http_status)),
    }
    let message_id = answer.message_id.into_text();
    let has_receipt = !message_id.is_empty() || matches!(action, Action::SenderAction(_));
    if !(200..300).contains(&http_status) || !has_receipt {
        return Verdict::Refused(unreadable(http_status));
    }
    Verdict::Accepted(Accepted {
        message_id: message_id.into_owned(),
        recipient_id: answer.recipient_id.into_text().into_owned(),
        // A string in answers to sends, a number in webhooks.
        attachment_id: answer.attachment_id.into_text().into_owned(),
    })
}

/// Reads the answer to a call that was refused as a whole, such as a batch with a bad token. What no message alone can
/// have brought about is the page's or the app's.
pub fn read_call(http_status: u16, body: &[u8]) -> Refusal {
    let error = serde_json::from_slice::<AnswerBody<'_>>(body).ok().and_then(|answer| answer.error.read());
    let Some(error) = error else { return unreadable(http_status) };
    let mut refusal = refusal(error, http_status);
    match refusal.disposition {
        Final | OnceMore | Later => {
            refusal.disposition = PageStopped;
            refusal.error.reason = Reason::GraphUnavailable;
        }
        PageSuspected => refusal.disposition = PageStopped,
        Throttled | Transient | PageStopped | Unknown => {}
    }
    refusal
}

fn refusal(error: ErrorBody<'_>, http_status: u16) -> Refusal {
    let Some(fault) = Fault::of(error) else { return unreadable(http_status) };
    let (reason, disposition) = classify(&fault, http_status);
    let graph = fault.graph;
    let message = if disposition == Unknown {
        format!("graph answered code {}, which it also gives for delivered messages", graph.code)
    } else if graph.subcode == 0 {
        format!("graph refused with code {}", graph.code)
    } else {
        format!("graph refused with code {}, subcode {}", graph.code, graph.subcode)
    };
    Refusal {
        error: SendError { graph: Some(Box::new(graph)), ..SendError::new(reason, message) },
        disposition,
    }
}

/// An answer that is no Graph answer: a proxy's page, half a body, a success without the ids it must have. It proves
/// nothing, with one exception: a proxy that wants other credentials, forbids the address or does not know it has not
/// let the call through, and will let no other through. What else proxies say in their own name, 408, 429 and 499 among
/// it, they also say of calls that they had passed on.
fn unreadable(http_status: u16) -> Refusal {
    let (reason, disposition, meaning) = match http_status {
        401 | 403 | 404 | 407 => (
            Reason::GraphUnavailable,
            PageStopped,
            "something between refuses calls to graph: nothing was sent",
        ),
        _ => (Reason::OutcomeUnknown, Unknown, "the message may have been delivered"),
    };
    let message = format!("the answer with http status {http_status} is not one of graph's: {meaning}");
    Refusal { error: SendError::new(reason, message), disposition }
}

#[cfg(test)]
mod tests;
