//! One Graph call: from the messages that a lane picked to an outcome for each of them.

use std::time::{Instant, SystemTime};

use super::Context;
use super::queued::Queued;
use crate::error::{Outcome, Reason, Receipt};
use crate::graph::response::{Disposition, Verdict};

/// Sends the messages of one page in one call and answers every one of them.
pub(super) async fn run(context: &Context, page_id: &str, messages: Vec<Queued>) {
    let Some(page) = context.pages.get(page_id) else {
        for queued in messages {
            queued.reply.answer(Outcome::not_sent(Reason::PageNotFound, "the page is no longer configured"));
        }
        return;
    };
    let now = Instant::now();
    let (messages, expired): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|queued| queued.deadline.is_none_or(|deadline| now < deadline));
    for queued in expired {
        queued
            .reply
            .answer(Outcome::not_sent(Reason::Expired, "the message was not sent before its deadline"));
    }
    if messages.is_empty() {
        return;
    }
    let bodies: Vec<_> = messages.iter().map(|queued| &queued.message).collect();
    let answer = context.graph.send(&page, &bodies).await;
    if let Some(usage) = answer.usage {
        tracing::debug!(page.id = page_id, usage.percent, ?usage.regain_access, "graph told how much is used");
    }
    for (queued, verdict) in messages.into_iter().zip(answer.verdicts) {
        queued.reply.answer(outcome(verdict));
    }
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Accepted(accepted) => Outcome::Sent(Receipt {
            message_id: accepted.message_id,
            recipient_id: accepted.recipient_id,
            attachment_id: accepted.attachment_id,
            replayed: false,
            attempts: 1,
            sent_time: SystemTime::now(),
        }),
        Verdict::Refused(refusal) => match refusal.disposition {
            Disposition::Final | Disposition::OnceMore => Outcome::Failed(refusal.error),
            Disposition::Later
            | Disposition::Throttled
            | Disposition::Transient
            | Disposition::PageStopped => Outcome::NotSent(refusal.error),
            Disposition::Unknown => Outcome::Unknown(refusal.error),
        },
    }
}
