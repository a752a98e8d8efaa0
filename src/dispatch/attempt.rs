//! What becomes of the messages of one call, decided without waiting: which may be sent, and how each attempt ended.

use std::time::{Duration, Instant, SystemTime};

use super::gate::{Signs, Suspicion, Throttle};
use super::queued::{Queued, Source};
use super::retry::{self, Attempt, Retry, RetryBudget};
use crate::error::{Outcome, Reason, Receipt, SendError};
use crate::graph::client::CallAnswer;
use crate::graph::response::{Disposition, Verdict};
use crate::ledger::{Claimed, LedgerError, Ticket};
use crate::message::{Message, Recipient};

/// A message with its outcome, which nobody has been told yet.
pub(crate) type Answered = (Queued, Outcome);

/// A message that may be sent now, and the right to it if it is recorded.
#[derive(Debug)]
pub(crate) struct Cleared {
    pub(crate) queued: Queued,
    pub(crate) ticket: Option<Ticket>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) queued: Queued,
    pub(crate) ticket: Option<Ticket>,
    /// What goes on record, and to the caller unless it is tried again.
    pub(crate) outcome: Outcome,
    pub(crate) retry: Retry,
}

/// What a call tells its lane.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Messages to try again, and when; `None` as soon as the page sends.
    pub(crate) retries: Vec<(Queued, Option<Instant>)>,
    /// What the call says about the page.
    pub(super) signs: Signs,
    /// How full the page's budget is, in percent, if the usage headers said so.
    pub(crate) usage_percent: Option<f64>,
}

/// What was seen when a call ended.
#[derive(Debug)]
pub(crate) struct Seen {
    /// The page has another token by now than the one that the call used.
    pub(crate) has_old_token: bool,
    /// The call went to see whether the page is well again.
    pub(crate) was_try: bool,
    pub(crate) ended: Instant,
}

/// Takes out what need not be sent: messages whose unary caller has left, who would not know that they were sent after
/// all, and those past their deadline. A bulk's lane drops its items.
pub(crate) fn take_unwanted(messages: &mut Vec<Queued>, now: Instant) -> Vec<Answered> {
    let is_unwanted = |queued: &mut Queued| {
        (queued.source == Source::Unary && queued.reply.is_abandoned()) || is_late(queued, now)
    };
    let unwanted = messages.extract_if(.., is_unwanted);
    unwanted
        .map(|queued| {
            let outcome = if is_late(&queued, now) {
                late()
            } else {
                Outcome::not_sent(Reason::Expired, "the caller has left")
            };
            (queued, outcome)
        })
        .collect()
}

/// Takes out what is past its deadline by now.
pub(crate) fn split_late(cleared: Vec<Cleared>, now: Instant) -> (Vec<Cleared>, Vec<End>) {
    let (late_ones, in_time): (Vec<_>, Vec<_>) =
        cleared.into_iter().partition(|cleared| is_late(&cleared.queued, now));
    let ends = late_ones
        .into_iter()
        .map(|Cleared { queued, ticket }| End { queued, ticket, outcome: late(), retry: Retry::No })
        .collect();
    (in_time, ends)
}

fn is_late(queued: &Queued, now: Instant) -> bool {
    queued.deadline.is_some_and(|deadline| deadline <= now)
}

fn late() -> Outcome {
    Outcome::not_sent(Reason::Expired, "the message was not sent before its deadline")
}

/// Sorts messages by what their claims found: those that may be sent, and those that have their outcome.
pub(crate) fn clear(messages: Vec<Queued>, claimed: Vec<Claimed>) -> (Vec<Cleared>, Vec<Answered>) {
    let mut claimed = claimed.into_iter();
    let (mut cleared, mut answered) = (Vec::with_capacity(messages.len()), Vec::new());
    for queued in messages {
        if queued.claim.is_none() {
            cleared.push(Cleared { queued, ticket: None });
            continue;
        }
        match claimed.next() {
            Some(Claimed::New(ticket)) => cleared.push(Cleared { queued, ticket: Some(ticket) }),
            Some(found) => {
                if let Some(outcome) = recorded(found, &queued.message) {
                    answered.push((queued, outcome));
                }
            }
            // The reply answers by itself: the ledger owes an answer for each claim.
            None => drop(queued),
        }
    }
    (cleared, answered)
}

/// Corrects the outcomes of messages that are not sent by what is on record of them, in the order of their claims.
pub(crate) fn correct(refused: Vec<Answered>, on_record: Vec<Option<Claimed>>) -> Vec<Answered> {
    let mut on_record = on_record.into_iter();
    let corrected = refused.into_iter().map(|(queued, outcome)| {
        let found = queued.claim.as_ref().and_then(|_| on_record.next().flatten());
        let stands = found.and_then(|found| recorded(found, &queued.message));
        (queued, stands.unwrap_or(outcome))
    });
    corrected.collect()
}

/// Sorts messages that could not be claimed: only those that are not recorded may be sent.
pub(crate) fn clear_unrecorded(messages: Vec<Queued>, error: &LedgerError) -> (Vec<Cleared>, Vec<Answered>) {
    let (recorded, others): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|queued| queued.claim.is_some());
    let answered = recorded.into_iter().map(|queued| {
        let message = format!("nothing was sent, because it cannot be recorded: {error}");
        (queued, Outcome::not_sent(Reason::LedgerUnavailable, message))
    });
    let answered = answered.collect();
    (others.into_iter().map(|queued| Cleared { queued, ticket: None }).collect(), answered)
}

/// What became of each message of a call, and what the call says about the page. `random` returns numbers between 0 and
/// 1, which spread retries.
pub(crate) fn conclude(
    cleared: Vec<Cleared>,
    answer: CallAnswer,
    budget: &RetryBudget,
    seen: &Seen,
    mut random: impl FnMut() -> f64,
) -> (Vec<End>, Report) {
    let CallAnswer { verdicts, usage } = answer;
    let regain_access = usage.and_then(|usage| usage.regain_access);
    let signs = signs(&verdicts, &cleared, seen, regain_access);
    let accepted = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Accepted(_))).count();
    budget.earn(accepted);
    let ends = cleared.into_iter().zip(verdicts).map(|(Cleared { mut queued, ticket }, verdict)| {
        queued.attempts += 1;
        let retry = match &verdict {
            Verdict::Accepted(_) => Retry::No,
            Verdict::Refused(refusal) => {
                let is_throttled = refusal.disposition == Disposition::Throttled;
                let of_itself = is_throttled && is_throttled_of_itself(&queued, seen);
                queued.throttled += u32::from(is_throttled);
                let attempt = Attempt {
                    // The page sends, so the message is tried again like one that met a passing fault.
                    disposition: if of_itself { Disposition::Transient } else { refusal.disposition },
                    number: queued.attempts,
                    deadline: queued.deadline,
                    had_old_token: seen.has_old_token,
                    ended: seen.ended,
                };
                retry::decide(&attempt, budget, random())
            }
        };
        // A message that is tried again was surely not sent: its claim is released in the meantime.
        let outcome = match retry {
            Retry::No => outcome(verdict, queued.attempts),
            Retry::WithPage | Retry::At(_) => {
                Outcome::not_sent(Reason::GraphUnavailable, "to be tried again")
            }
        };
        End { queued, ticket, outcome, retry }
    });
    let ends = ends.collect();
    (ends, Report { retries: Vec::new(), signs, usage_percent: usage.map(|usage| usage.percent) })
}

/// Whether Graph throttles a message, and not its page: it was throttled before, and since then others went through, so
/// that the page was open.
fn is_throttled_of_itself(queued: &Queued, seen: &Seen) -> bool {
    queued.throttled > 0 && !seen.was_try
}

/// Parts what ended from what is tried again, and when that is due: `None` as soon as the page sends.
pub(crate) fn part(ends: Vec<End>) -> (Vec<Answered>, Vec<(Queued, Option<Instant>)>) {
    let (mut answered, mut retries) = (Vec::with_capacity(ends.len()), Vec::new());
    for End { queued, outcome, retry, .. } in ends {
        match retry {
            Retry::No => answered.push((queued, outcome)),
            Retry::WithPage => retries.push((queued, None)),
            Retry::At(due) => retries.push((queued, Some(due))),
        }
    }
    (answered, retries)
}

/// What a call says about its page.
fn signs(verdicts: &[Verdict], cleared: &[Cleared], seen: &Seen, regain_access: Option<Duration>) -> Signs {
    let throttled = regain_access.map(|wait| Throttle {
        error: SendError::new(Reason::RateLimited, "graph says that the page's budget is used up"),
        wait: Some(wait),
    });
    let mut signs = Signs { throttled, ..Signs::default() };
    for (verdict, Cleared { queued, .. }) in verdicts.iter().zip(cleared) {
        let refusal = match verdict {
            Verdict::Accepted(_) => {
                signs.note_answer();
                continue;
            }
            Verdict::Refused(refusal) => refusal,
        };
        match refusal.disposition {
            Disposition::Final | Disposition::OnceMore | Disposition::Later => signs.note_answer(),
            Disposition::Transient | Disposition::Unknown => signs.troubled += 1,
            Disposition::Throttled if is_throttled_of_itself(queued, seen) => signs.note_answer(),
            Disposition::Throttled => {
                signs.throttled = Some(Throttle { error: refusal.error.clone(), wait: regain_access });
            }
            Disposition::PageStopped => signs.stopped = Some(refusal.error.clone()),
            Disposition::PageSuspected => {
                signs.answered += 1;
                let recipients = signs.suspected.take().map_or_else(Vec::new, |before| before.recipients);
                let recipients = recipients.into_iter().chain([queued.recipient]).collect();
                signs.suspected = Some(Suspicion { error: refusal.error.clone(), recipients });
            }
        }
    }
    signs
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
            "the id stands for another request, whose outcome stays as it is: a retry must repeat its request exactly, and only \
             another message takes another id",
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

#[cfg(test)]
mod tests;
