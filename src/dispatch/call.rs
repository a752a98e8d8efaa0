//! One Graph call: from the messages that a lane picked to an outcome for each of them.
//!
//! Claim, call, settle, answer: in this order, so that whatever happens in between, the ledger knows. [`attempt`] decides,
//! this file waits for ledger and Graph.

use std::time::Instant;

use super::Context;
use super::attempt::{self, Answered, Cleared, End, Report, Seen};
use super::lane::event::Call;
use super::queued::Queued;
use super::retry::RetryBudget;
use crate::ledger::Settlement;
use crate::limits::LEDGER_WRITE_ROWS_MAX;

/// Sends the messages of one call and answers every one of them that is not tried again. `began` is called
/// right before the call, with the number of messages that it carries.
pub(super) async fn run(
    context: &Context,
    call: Call,
    budget: &RetryBudget,
    began: impl FnOnce(usize),
) -> Report {
    let Call { page, mut messages, is_try, .. } = call;
    refuse(context, attempt::take_unwanted(&mut messages, Instant::now())).await;
    let cleared = claim(context, messages).await;
    // The ledger may have taken its time.
    let (cleared, late) = attempt::split_late(cleared, Instant::now());
    end(context, late).await;
    if cleared.is_empty() {
        return Report::default();
    }
    let bodies: Vec<_> = cleared.iter().map(|cleared| &cleared.queued.message).collect();
    began(bodies.len());
    let spans: Vec<_> = cleared.iter().filter_map(|cleared| cleared.queued.reply.span()).collect();
    let answer = context.graph.send(&page, &bodies, &spans).await;
    let token_now = context.pages.get(&page.id).map(|page| page.token_digest());
    let has_old_token = token_now != Some(page.token_digest());
    let seen = Seen { has_old_token, was_try: is_try, ended: Instant::now() };
    let (ends, report) = attempt::conclude(cleared, answer, budget, &seen, fastrand::f64);
    let retries = end(context, ends).await;
    context.metrics.retrying(retries.len());
    Report { retries, ..report }
}

/// Records how attempts ended and answers those that are not tried again; returns the others, and when they are due.
async fn end(context: &Context, mut ends: Vec<End>) -> Vec<(Queued, Option<Instant>)> {
    settle(context, &mut ends).await;
    let (answered, retries) = attempt::part(ends);
    answer(answered);
    retries
}

/// Answers messages that were not claimed and are not sent. One whose id is on record gets what is on record: it may have
/// been sent before, or somewhere else.
pub(super) async fn refuse(context: &Context, refused: Vec<Answered>) {
    let mut refused = refused.into_iter().peekable();
    while refused.peek().is_some() {
        let group: Vec<_> = refused.by_ref().take(LEDGER_WRITE_ROWS_MAX).collect();
        let claims: Vec<_> = group.iter().filter_map(|(queued, _)| queued.claim.clone()).collect();
        let found = if claims.is_empty() { Ok(Vec::new()) } else { context.ledger.on_record(&claims).await };
        // A ledger that is away knows nothing better.
        answer(attempt::correct(group, found.unwrap_or_default()));
    }
}

fn answer(answered: Vec<Answered>) {
    for (queued, outcome) in answered {
        queued.reply.answer(outcome);
    }
}

/// Claims what is recorded. Answers the messages that may not be sent, and returns the others.
async fn claim(context: &Context, messages: Vec<Queued>) -> Vec<Cleared> {
    let claims: Vec<_> = messages.iter().filter_map(|queued| queued.claim.clone()).collect();
    let (cleared, answered) = match context.ledger.claim(claims).await {
        Ok(claimed) => attempt::clear(messages, claimed),
        Err(error) => attempt::clear_unrecorded(messages, &error),
    };
    answer(answered);
    cleared
}

/// Records the outcomes. What cannot be recorded is answered all the same.
async fn settle(context: &Context, ends: &mut [End]) {
    let settlements =
        ends.iter_mut().filter_map(|end| Some(Settlement::new(end.ticket.take()?, &end.outcome))).collect();
    if let Err(error) = context.ledger.settle(settlements).await {
        tracing::error!(%error, "outcomes were not recorded in time: they stay in progress until they are");
    }
}
