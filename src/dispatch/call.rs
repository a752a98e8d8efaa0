//! One Graph call: from the messages that a lane picked to an outcome for each of them.
//!
//! Claim, call, settle, answer: in this order, so that whatever happens in between, the ledger knows.

use std::time::{Duration, Instant, SystemTime};

use super::Context;
use super::gate::Signs;
use super::queued::{Queued, Source};
use super::retry::{self, Retry, RetryBudget};
use crate::error::{Outcome, Reason, Receipt, SendError};
use crate::graph::response::{Disposition, Verdict};
use crate::ledger::{Claimed, Settlement, Ticket};
use crate::message::{Message, Recipient};
use crate::pages::Page;

/// A message that may be sent now, and the right to it if it is recorded.
struct Cleared {
    queued: Queued,
    ticket: Option<Ticket>,
}

/// What a call tells its lane.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Messages to try again, and when; `None` as soon as the page sends.
    pub(super) retries: Vec<(Queued, Option<Instant>)>,
    /// What the call says about the page.
    pub(super) signs: Signs,
    /// How full the page's budget is, in percent, if the usage headers said so.
    pub(super) usage_percent: Option<f64>,
}

/// Sends the messages of one page in one call and answers every one of them that is not tried again. `began` is called
/// right before the call, with the number of messages that it carries.
pub(super) async fn run(
    context: &Context,
    page: &Page,
    budget: &RetryBudget,
    mut messages: Vec<Queued>,
    began: impl FnOnce(usize),
) -> Report {
    // A unary caller who has left would not know that its message was sent after all. A bulk's lane drops its items.
    let is_abandoned = |queued: &mut Queued| queued.source == Source::Unary && queued.reply.is_abandoned();
    for queued in messages.extract_if(.., is_abandoned) {
        queued.reply.answer(Outcome::not_sent(Reason::Expired, "the caller has left"));
    }
    let cleared = claim(context, messages).await;
    if cleared.is_empty() {
        return Report::default();
    }
    let bodies: Vec<_> = cleared.iter().map(|cleared| &cleared.queued.message).collect();
    began(bodies.len());
    let spans: Vec<_> = cleared.iter().filter_map(|cleared| cleared.queued.reply.span()).collect();
    let answer = context.graph.send(page, &bodies, &spans).await;
    let now = Instant::now();
    let regain_access = answer.usage.and_then(|usage| usage.regain_access);
    let signs = signs(&answer.verdicts, regain_access);
    let accepted = answer.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Accepted(_))).count();
    budget.earn(accepted);
    let mut ends = Vec::with_capacity(cleared.len());
    for (Cleared { mut queued, ticket }, verdict) in cleared.into_iter().zip(answer.verdicts) {
        queued.attempts += 1;
        let retry = match &verdict {
            Verdict::Accepted(_) => Retry::No,
            Verdict::Refused(refusal) => {
                retry::decide(refusal.disposition, queued.attempts, queued.deadline, budget, now)
            }
        };
        // A message that is tried again was surely not sent: its claim is released in the meantime.
        let outcome = match retry {
            Retry::No => outcome(verdict, queued.attempts),
            Retry::WithPage | Retry::At(_) => {
                Outcome::not_sent(Reason::GraphUnavailable, "to be tried again")
            }
        };
        ends.push(End { queued, ticket, outcome, retry });
    }
    settle(context, &mut ends).await;
    let mut retries = Vec::new();
    for End { queued, outcome, retry, .. } in ends {
        match retry {
            Retry::No => queued.reply.answer(outcome),
            Retry::WithPage => retries.push((queued, None)),
            Retry::At(due) => retries.push((queued, Some(due))),
        }
    }
    context.metrics.retrying(retries.len());
    Report { retries, signs, usage_percent: answer.usage.map(|usage| usage.percent) }
}

/// How an attempt ended.
struct End {
    queued: Queued,
    ticket: Option<Ticket>,
    outcome: Outcome,
    retry: Retry,
}

/// What a call says about its page.
fn signs(verdicts: &[Verdict], regain_access: Option<Duration>) -> Signs {
    let mut signs = Signs { throttled: regain_access.map(Some), ..Signs::default() };
    for verdict in verdicts {
        match verdict {
            Verdict::Accepted(_) => signs.answered += 1,
            Verdict::Refused(refusal) => match refusal.disposition {
                Disposition::Final
                | Disposition::OnceMore
                | Disposition::Later
                | Disposition::PageSuspected => signs.answered += 1,
                Disposition::Transient | Disposition::Unknown => signs.troubled += 1,
                Disposition::Throttled => signs.throttled = Some(regain_access),
                Disposition::PageStopped => signs.stopped = Some(refusal.error.clone()),
            },
        }
    }
    signs
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
            Some(claimed) => {
                if let Some(outcome) = recorded(claimed, &queued.message) {
                    queued.reply.answer(outcome);
                }
            }
            // The reply answers by itself: the ledger owes an answer for each claim.
            None => drop(queued),
        }
    }
    cleared
}

/// The outcome of a message that the ledger has already, in one way or another; `None` if it is to be sent.
pub fn recorded(claimed: Claimed, message: &Message) -> Option<Outcome> {
    match claimed {
        Claimed::New(_) => None,
        Claimed::Settled(outcome) => Some(with_recipient(outcome, &message.recipient)),
        Claimed::InProgress => Some(Outcome::not_sent(
            Reason::RequestInProgress,
            "the same id is being sent right now: ask again for its outcome",
        )),
        Claimed::Reused => Some(Outcome::Rejected(SendError::new(
            Reason::RequestIdReused,
            "the id was used before for a different message: use a fresh one",
        ))),
    }
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

/// Records the outcomes. What cannot be recorded is answered all the same.
async fn settle(context: &Context, ends: &mut [End]) {
    let settlements =
        ends.iter_mut().filter_map(|end| Some(Settlement::new(end.ticket.take()?, &end.outcome))).collect();
    if let Err(error) = context.ledger.settle(settlements).await {
        tracing::error!(%error, "outcomes were not recorded in time: they stay in progress until they are");
    }
}

fn outcome(verdict: Verdict, attempts: u32) -> Outcome {
    match verdict {
        Verdict::Accepted(accepted) => Outcome::Sent(Receipt {
            message_id: accepted.message_id,
            recipient_id: accepted.recipient_id,
            attachment_id: accepted.attachment_id,
            replayed: false,
            attempts,
            sent_time: SystemTime::now(),
        }),
        Verdict::Refused(refusal) => Outcome::refused(refusal.error),
    }
}
