//! One page's lane without time and network: it is told what happens and what time it is, and tells what is to be done.
//!
//! It picks what goes next as far as gate, rates and call slots allow, and learns from the calls that have ended.

use std::sync::Arc;
use std::time::Instant;

use super::event::{Call, CallNumber, Effects, Event, Surroundings};
use crate::dispatch::attempt::Report;
use crate::dispatch::gate::{EndedCall, Gate, Standing};
use crate::dispatch::pacing::Rank;
use crate::dispatch::queue::{Kind, Queue, RateKind};
use crate::dispatch::queued::{Queued, RecipientHash, Source};
use crate::dispatch::rates::{Rates, Share};
use crate::dispatch::standing::{Exchange, Moment, ShareAsk};
use crate::error::{Outcome, Reason, SendError};
use crate::limits::{
    BATCH_SIZE_MAX, EXPIRY_INTERVAL_MIN, EXPIRY_INTERVAL_PER_MESSAGE, PAGE_CALLS_IN_FLIGHT_FIRST,
    PAGE_CALLS_IN_FLIGHT_MAX, PAGE_CALLS_UNARY_RESERVED, SHARE_IDLE, SHARE_INTERVAL, SUSPENDED_LOOK_INTERVAL,
};
use crate::pages::Page;

/// A call under way.
#[derive(Debug)]
struct InFlight {
    number: CallNumber,
    kind: Kind,
    /// What the pace knows it by.
    pace_number: u64,
    recipients: Vec<RecipientHash>,
    ended: EndedCall,
}

/// A page's lane.
#[derive(Debug)]
pub(crate) struct LaneCore {
    page_id: Arc<str>,
    queue: Queue,
    gate: Gate,
    rates: Rates,
    calls: Vec<InFlight>,
    calls_begun: u64,
    /// How many calls of each kind may be under way, for now.
    slots: usize,
    is_probing: bool,
    /// When to look for messages past their deadline.
    next_expiry: Option<Instant>,
    exchange: Exchange,
    last_queued: Instant,
    /// Which kind of message goes first, so that those that share a rate take turns.
    turn: usize,
    /// The gate's era in which the replicas were last asked to share before it is time.
    shared_era: u64,
}

impl LaneCore {
    /// The lane of a page. `hash_key` is the secret under which it tells recipients apart.
    pub(crate) fn new(page_id: Arc<str>, is_shared: bool, hash_key: u64, now: Instant) -> Self {
        let share = if is_shared { Share::Part { rates: [None; 2], until: now } } else { Share::Whole };
        Self {
            page_id,
            queue: Queue::new(hash_key),
            gate: Gate::new(now),
            rates: Rates::new(share, now),
            calls: Vec::new(),
            calls_begun: 0,
            slots: PAGE_CALLS_IN_FLIGHT_FIRST,
            is_probing: false,
            next_expiry: None,
            exchange: Exchange::default(),
            last_queued: now,
            turn: 0,
            shared_era: 0,
        }
    }

    /// Takes what has happened, and returns what is to be done now.
    pub(crate) fn handle(
        &mut self,
        now: Moment,
        events: impl IntoIterator<Item = Event>,
        surroundings: &Surroundings,
    ) -> Effects {
        let mut effects = Effects::default();
        for event in events {
            self.take(now, event, surroundings, &mut effects);
        }
        self.act(now.instant, surroundings, &mut effects);
        effects
    }

    /// What this replica wants to use of the page's rates, and what it has found out about the page.
    pub(crate) fn share_ask(&self, page: &Page, now: Moment) -> ShareAsk {
        let is_waiting = RateKind::ALL.map(|rate| {
            let of_rate = Kind::ALL.into_iter().filter(|kind| kind.rate() == rate);
            of_rate.map(|kind| self.queue.unary_waiting(kind) + self.queue.bulk_waiting(kind)).sum::<usize>()
                > 0
        });
        let is_idle = self.queue.is_empty()
            && self.calls.is_empty()
            && now.instant.saturating_duration_since(self.last_queued) > SHARE_IDLE;
        let demands = if is_idle { [None; 2] } else { self.rates.demands(page, is_waiting, now.instant) };
        self.exchange.ask(self.page_id.clone(), page, demands, &self.gate, now)
    }

    /// Whether the page may send, and since when it has been so.
    pub(crate) fn standing(&self) -> (&Standing, Instant) {
        (self.gate.standing(), self.gate.since())
    }

    /// Changes whenever the standing does.
    pub(crate) fn era(&self) -> u64 {
        self.gate.era()
    }

    /// Messages per second that may go now: audio and video, and the rest; `None` for no limit.
    pub(crate) fn current_rates(&self) -> [Option<f64>; 2] {
        self.rates.current()
    }

    fn take(&mut self, now: Moment, event: Event, surroundings: &Surroundings, effects: &mut Effects) {
        match event {
            Event::Queue(messages) => {
                self.last_queued = now.instant;
                for message in messages {
                    self.next_expiry = earlier(self.next_expiry, message.deadline);
                    self.queue.push(message);
                }
            }
            Event::CancelBulk(number) => {
                let gone = SendError::new(Reason::Expired, "the bulk's stream was cancelled");
                let taken = self.queue.take_out(|queued| queued.source == Source::Bulk(number));
                refuse(taken, &gone, effects);
            }
            Event::CallBegan { call, count, at } => {
                if let Some(call) = self.calls.iter().find(|other| other.number == call) {
                    self.rates.pace_mut(call.kind.rate()).began(call.pace_number, count, at);
                }
            }
            Event::CallEnded { call, report } => {
                if let Some(place) = self.calls.iter().position(|other| other.number == call) {
                    let call = self.calls.swap_remove(place);
                    self.end_call(call, *report, surroundings, now.instant);
                }
            }
            Event::Probed { token, result } => {
                self.is_probing = false;
                let is_current = surroundings.page.as_ref().is_some_and(|page| page.token_digest() == token);
                match result {
                    Ok(()) if is_current => self.gate.probe_succeeded(now.instant),
                    Err(refusal) if is_current => self.gate.probe_failed(refusal, now.instant),
                    Ok(()) | Err(_) => {}
                }
            }
            Event::Granted(granted) => {
                self.rates.set_share(Share::Part { rates: granted.grant.rates, until: granted.until });
                if let Some(page) = &surroundings.page {
                    self.exchange.take_over(*granted, page, &mut self.gate, now);
                }
            }
        }
    }

    /// Learns from a call that has ended.
    fn end_call(&mut self, call: InFlight, report: Report, surroundings: &Surroundings, now: Instant) {
        let InFlight { kind, pace_number, mut recipients, ended, .. } = call;
        // A call that never began takes nothing of the pace.
        self.rates.pace_mut(kind.rate()).began(pace_number, 0, now);
        for (message, due) in report.retries.into_iter().rev() {
            if let Some(place) = recipients.iter().position(|other| *other == message.recipient) {
                recipients.swap_remove(place);
            }
            self.next_expiry = earlier(self.next_expiry, message.deadline);
            self.queue.put_back(message, due);
        }
        for recipient in recipients {
            self.queue.release(recipient);
        }
        if let Some(percent) = report.usage_percent {
            self.rates.note_usage(percent, now);
        }
        let mut signs = report.signs;
        if surroundings.page.as_ref().is_none_or(|page| page.token_digest() != ended.token) {
            // What an old token is refused for says nothing about the new one.
            (signs.stopped, signs.suspected) = (None, None);
        }
        let (answered, before) = (signs.answered, self.gate.era());
        self.gate.end_call(&ended, signs, now);
        if self.gate.era() != before {
            self.slots = PAGE_CALLS_IN_FLIGHT_FIRST;
        } else if answered > 0 {
            self.slots = (self.slots + 1).min(PAGE_CALLS_IN_FLIGHT_MAX);
        }
    }

    /// Does what is due: calls as far as they may start, answers to what must not wait any longer.
    fn act(&mut self, now: Instant, surroundings: &Surroundings, effects: &mut Effects) {
        self.queue.wake(now);
        self.expire(now, effects);
        match &surroundings.page {
            _ if surroundings.is_draining => {
                let draining = SendError::new(Reason::Draining, "this replica is shutting down: try again");
                self.refuse_waiting(&draining, effects);
            }
            None => {
                let gone = SendError::new(Reason::PageNotFound, "the page is no longer configured");
                self.refuse_waiting(&gone, effects);
            }
            Some(page) => {
                let is_refused = self.refuse_while_suspended(page, now, effects);
                self.check_share(surroundings.is_ledger_ready, now, effects);
                self.rates.advance(page, now);
                if !is_refused {
                    self.start_calls(page, now, effects);
                }
            }
        }
        if self.gate.era() != self.shared_era {
            self.shared_era = self.gate.era();
            effects.share_now = true;
        }
        effects.wake = earlier(effects.wake, earlier(self.queue.next_due(), self.next_expiry));
    }

    /// A suspended page refuses what waits: true if it does. Its token is tried by and by, and a new one at once.
    fn refuse_while_suspended(&mut self, page: &Arc<Page>, now: Instant, effects: &mut Effects) -> bool {
        let Standing::Suspended { error, until, token } = self.gate.standing() else { return false };
        if *token != page.token_digest() {
            tracing::info!(page.id = %self.page_id, "the page's token was replaced");
            self.gate.token_replaced(now);
            return false;
        }
        let (error, until) = (error.clone(), *until);
        self.refuse_waiting(&error, effects);
        if now >= until && !self.is_probing {
            self.is_probing = true;
            effects.probe = Some(page.clone());
        }
        effects.wake = earlier(effects.wake, Some(now + SUSPENDED_LOOK_INTERVAL));
        true
    }

    /// Without a share nothing can be sent. If that is because the ledger is away, what it would have to record need not
    /// wait for it.
    fn check_share(&mut self, is_ledger_ready: bool, now: Instant, effects: &mut Effects) {
        let Some(until) = self.rates.share_until().filter(|_| !self.queue.is_empty()) else { return };
        if now < until {
            effects.wake = earlier(effects.wake, Some(until));
            return;
        }
        effects.share_now = true;
        effects.wake = earlier(effects.wake, Some(now + SHARE_INTERVAL));
        if !is_ledger_ready {
            let away = SendError::new(
                Reason::LedgerUnavailable,
                "nothing was sent, because the ledger that replicas share is away",
            );
            let recorded = self.queue.take_out(|queued| queued.claim.is_some());
            refuse(recorded, &away, effects);
        }
    }

    /// Starts calls as far as they may start. Unary messages never share a call with bulk ones: they would wait for all of
    /// its answers.
    fn start_calls(&mut self, page: &Arc<Page>, now: Instant, effects: &mut Effects) {
        for rank in [Rank::Unary, Rank::Bulk] {
            for turn in 0..Kind::ALL.len() {
                let kind = Kind::ALL[(self.turn + turn) % Kind::ALL.len()];
                while self.start_call(page, rank, kind, now, effects) {}
            }
        }
        self.turn = (self.turn + 1) % Kind::ALL.len();
    }

    /// Starts a call with what may go now; false if nothing may.
    fn start_call(
        &mut self,
        page: &Arc<Page>,
        rank: Rank,
        kind: Kind,
        now: Instant,
        effects: &mut Effects,
    ) -> bool {
        let (waiting, slots) = match rank {
            Rank::Unary => (self.queue.unary_waiting(kind), self.slots),
            Rank::Bulk => (self.queue.bulk_waiting(kind), self.slots - PAGE_CALLS_UNARY_RESERVED),
        };
        if waiting == 0 {
            return false;
        }
        let pace = self.rates.pace_mut(kind.rate());
        if rank == Rank::Unary {
            pace.note_unary(now);
        }
        let wanted = match rank {
            Rank::Unary => 1,
            Rank::Bulk => waiting.min(pace.collected()),
        };
        // What is held back by a share that it does not have yet says what it wants, too.
        let by_pace = pace.available(rank, wanted, now);
        if by_pace == 0 {
            pace.note_held_back(now);
        }
        effects.share_now |= self.rates.lacks_share(kind.rate());
        if self.calls.iter().filter(|call| call.kind == kind).count() >= slots {
            return false;
        }
        let by_gate = self.gate.allows(now);
        if by_gate == 0 {
            effects.wake = earlier(effects.wake, self.gate.opens_at());
            return false;
        }
        if by_pace == 0 {
            effects.wake = earlier(effects.wake, self.rates.pace(kind.rate()).ready_at(rank, wanted, now));
            return false;
        }
        let count = by_pace.min(by_gate).min(BATCH_SIZE_MAX);
        let messages = match rank {
            Rank::Unary => self.queue.take_unary(kind, count),
            Rank::Bulk => self.queue.take_bulk(kind, count),
        };
        // Bulk items whose recipients get a unary message first are left behind.
        if messages.is_empty() {
            return false;
        }
        let pace_number = self.rates.pace_mut(kind.rate()).take(messages.len());
        let is_try = matches!(self.gate.standing(), Standing::Paused { .. });
        let era = self.gate.begin_call(messages.len());
        self.calls_begun += 1;
        let number = CallNumber(self.calls_begun);
        let recipients = messages.iter().map(|message| message.recipient).collect();
        let ended = EndedCall { era, messages: messages.len(), token: page.token_digest() };
        self.calls.push(InFlight { number, kind, pace_number, recipients, ended });
        effects.calls.push(Call { number, page: page.clone(), messages, is_try });
        true
    }

    /// Refuses what has waited past its deadline. Looks through all that waits, so the more there is, the less often.
    fn expire(&mut self, now: Instant, effects: &mut Effects) {
        if self.next_expiry.is_none_or(|next| now < next) {
            return;
        }
        let expired = self.queue.take_out(|queued| queued.deadline.is_some_and(|deadline| deadline <= now));
        for queued in expired {
            let error = self.expired(queued.source, now);
            effects.answers.push((queued, Outcome::NotSent(error)));
        }
        let interval = EXPIRY_INTERVAL_MIN
            + EXPIRY_INTERVAL_PER_MESSAGE.saturating_mul(u32::try_from(self.queue.len()).unwrap_or(u32::MAX));
        self.next_expiry = self.queue.earliest_deadline().map(|deadline| deadline.max(now + interval));
    }

    /// Why a message of a source was not sent before its deadline. A unary caller hears what the page waits for; a bulk's
    /// items had a time of their own, whatever the page did.
    fn expired(&self, source: Source, now: Instant) -> SendError {
        match (source, self.gate.standing()) {
            (Source::Unary, Standing::Paused { error, until }) => {
                SendError { retry_after: Some(until.saturating_duration_since(now)), ..error.clone() }
            }
            (Source::Unary, Standing::Open | Standing::Suspended { .. }) => {
                SendError::new(Reason::Expired, "the message was not sent before its deadline")
            }
            (Source::Bulk(_), _) => {
                SendError::new(Reason::Expired, "the item was not sent before the bulk's expire_time")
            }
        }
    }

    fn refuse_waiting(&mut self, error: &SendError, effects: &mut Effects) {
        if !self.queue.is_empty() {
            refuse(self.queue.take_out(|_| true), error, effects);
        }
    }
}

fn refuse(messages: Vec<Queued>, error: &SendError, effects: &mut Effects) {
    effects.answers.extend(messages.into_iter().map(|queued| (queued, Outcome::NotSent(error.clone()))));
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;
