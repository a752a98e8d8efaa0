//! One Graph call: from the messages that a lane picked to an outcome for each of them.
//!
//! Claim, call, settle, answer: in this order, so that whatever happens in between, the ledger knows.

use std::time::{Instant, SystemTime};

use super::Context;
use super::queued::Queued;
use crate::error::{Outcome, Reason, Receipt, SendError};
use crate::graph::response::{Disposition, Verdict};
use crate::ledger::{Claimed, Settlement, Ticket};
use crate::message::Recipient;

/// A message that may be sent now, and the right to it if it is recorded.
struct Cleared {
    queued: Queued,
    ticket: Option<Ticket>,
}

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
    let cleared = claim(context, messages).await;
    if cleared.is_empty() {
        return;
    }
    let bodies: Vec<_> = cleared.iter().map(|cleared| &cleared.queued.message).collect();
    let answer = context.graph.send(&page, &bodies).await;
    if let Some(usage) = answer.usage {
        tracing::debug!(page.id = page_id, usage.percent, ?usage.regain_access, "graph told how much is used");
    }
    let outcomes: Vec<_> = answer.verdicts.into_iter().map(outcome).collect();
    settle(context, cleared, outcomes).await;
}

/// Claims what is recorded. Answers the messages that may not be sent, and returns the others.
async fn claim(context: &Context, messages: Vec<Queued>) -> Vec<Cleared> {
    let claims: Vec<_> = messages.iter().filter_map(|queued| queued.claim.clone()).collect();
    let mut claimed = match context.ledger.claim(claims).await {
        Ok(claimed) => claimed.into_iter(),
        Err(error) => {
            let (recorded, mut others): (Vec<_>, Vec<_>) =
                messages.into_iter().partition(|queued| queued.claim.is_some());
            for queued in recorded {
                let message = format!("nothing was sent, because it cannot be recorded: {error}");
                queued.reply.answer(Outcome::not_sent(Reason::LedgerUnavailable, message));
            }
            return others.drain(..).map(|queued| Cleared { queued, ticket: None }).collect();
        }
    };
    let mut cleared = Vec::with_capacity(messages.len());
    for queued in messages {
        if queued.claim.is_none() {
            cleared.push(Cleared { queued, ticket: None });
            continue;
        }
        match claimed.next() {
            Some(Claimed::New(ticket)) => cleared.push(Cleared { queued, ticket: Some(ticket) }),
            Some(Claimed::Settled(outcome)) => {
                let outcome = with_recipient(outcome, &queued.message.recipient);
                queued.reply.answer(outcome);
            }
            Some(Claimed::InProgress) => queued.reply.answer(Outcome::not_sent(
                Reason::RequestInProgress,
                "the same id is being sent right now: ask again for its outcome",
            )),
            Some(Claimed::Reused) => queued.reply.answer(Outcome::Rejected(SendError::new(
                Reason::RequestIdReused,
                "the id was used before for a different message: use a fresh one",
            ))),
            // The reply answers by itself: the ledger owes an answer for each claim.
            None => drop(queued),
        }
    }
    cleared
}

/// The ledger keeps no recipients; a replayed receipt gets the one that the request names.
fn with_recipient(outcome: Outcome, recipient: &Recipient) -> Outcome {
    match (outcome, recipient) {
        (Outcome::Sent(receipt), Recipient::Id(id)) => {
            Outcome::Sent(Receipt { recipient_id: id.clone(), ..receipt })
        }
        (outcome, _) => outcome,
    }
}

/// Records the outcomes, then answers. What cannot be recorded is answered all the same.
async fn settle(context: &Context, cleared: Vec<Cleared>, outcomes: Vec<Outcome>) {
    let (replies, tickets): (Vec<_>, Vec<_>) =
        cleared.into_iter().map(|Cleared { queued, ticket }| (queued.reply, ticket)).unzip();
    let settlements = tickets
        .into_iter()
        .zip(&outcomes)
        .filter_map(|(ticket, outcome)| Some(Settlement::new(ticket?, outcome)))
        .collect();
    if let Err(error) = context.ledger.settle(settlements).await {
        tracing::error!(%error, "outcomes were not recorded in time: they stay in progress until they are");
    }
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        reply.answer(outcome);
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
