//! A call on its way: claim, send, settle, answer, as the shell of a lane does it, with a database and a Graph that take
//! their time.

use std::sync::Arc;
use std::time::Duration;

use super::account::Passage;
use super::graph::{Answer, Mood};
use super::world::World;
use crate::dispatch::attempt::{self, Answered, Cleared, End, Report, Seen};
use crate::dispatch::lane::event::{Call, CallNumber, Event};
use crate::dispatch::queued::Queued;
use crate::graph::client::CallAnswer;
use crate::ledger::{Claimed, LedgerError, Settlement};
use crate::limits::{LEDGER_ANSWER_TIMEOUT, LEDGER_RETRY_INTERVAL};
use crate::pages::Page;

/// Which call of which lane.
#[derive(Clone, Debug)]
struct Place {
    replica: usize,
    page: usize,
    call: CallNumber,
    /// The page as it was configured when the call was picked.
    configured: Arc<Page>,
    /// Messages that the lane picked for it.
    messages: usize,
    is_try: bool,
}

impl World {
    pub(super) fn begin_call(&mut self, replica: usize, page: usize, call: Call) {
        let Call { number, page: configured, mut messages, is_try } = call;
        let place = Place { replica, page, call: number, configured, messages: messages.len(), is_try };
        let unwanted = attempt::take_unwanted(&mut messages, self.instant());
        self.refuse(unwanted);
        let (owner, life) = (self.replicas[replica].owner, self.replicas[replica].life);
        let (there, back) = (self.up_to(self.plan.write / 2), self.up_to(self.plan.write / 2));
        // What is on its way to the database is done, whatever becomes of the process.
        self.after(there, move |world| {
            let claims: Vec<_> = messages.iter().filter_map(|queued| queued.claim.clone()).collect();
            let found = world.database.claim(owner, &claims, world.time(), world.now);
            if world.replicas[replica].life == life {
                world.after_at(replica, back, move |world| world.claimed(place, owner, messages, found));
            }
        });
    }

    /// Answers messages that are not sent, by what is on record of them.
    pub(super) fn refuse(&self, refused: Vec<Answered>) {
        let claims: Vec<_> = refused.iter().filter_map(|(queued, _)| queued.claim.clone()).collect();
        let on_record = self.database.on_record(&claims, self.now);
        for (queued, outcome) in attempt::correct(refused, on_record) {
            queued.reply.answer(outcome);
        }
    }

    fn claimed(
        &mut self,
        place: Place,
        owner: i64,
        messages: Vec<Queued>,
        found: Result<Vec<Claimed>, LedgerError>,
    ) {
        // The last moment at which a process that is an owner no more can be kept from sending.
        let found =
            found.and_then(|found| if self.database.is_owner(owner) { Ok(found) } else { Err(lost()) });
        let (cleared, answered) = match found {
            Ok(found) => attempt::clear(messages, found),
            Err(error) => attempt::clear_unrecorded(messages, &error),
        };
        for (queued, outcome) in answered {
            queued.reply.answer(outcome);
        }
        let (cleared, late) = attempt::split_late(cleared, self.instant());
        if !late.is_empty() {
            self.settle(place.clone(), late, None);
        }
        if cleared.is_empty() {
            self.end_call(place, Report::default());
        } else {
            self.send(place, cleared);
        }
    }

    fn send(&mut self, place: Place, cleared: Vec<Cleared>) {
        let Place { replica, page, call, .. } = place;
        let now = self.instant();
        let is_late = |cleared: &Cleared| cleared.queued.deadline.is_some_and(|deadline| deadline <= now);
        assert!(!cleared.iter().any(is_late), "a message is sent after its deadline");
        let passages: Vec<Passage> = cleared.iter().map(|cleared| self.passage(&cleared.queued)).collect();
        let began = Event::CallBegan { call, count: cleared.len(), at: self.instant() };
        self.step(replica, page, Some(began));
        if self.graph.mood(page, self.now) != Mood::Away {
            self.account.began(page, passages[0].is_video, cleared.len(), self.now);
        }
        self.note(|| format!("replica {replica} page {page}: a call with {} messages", passages.len()));
        let (there, back) = (self.up_to(self.plan.latency / 2), self.up_to(self.plan.latency / 2));
        let life = self.replicas[replica].life;
        // What was written arrives, whatever becomes of the process.
        self.after(there, move |world| {
            let people: Vec<_> = passages.iter().map(|passage| passage.person).collect();
            let token = place.configured.token_digest();
            let answer = world.graph.call(page, token, &people, back, world.now);
            for (passage, _) in passages.iter().zip(&answer.delivered).filter(|(_, delivered)| **delivered) {
                world.account.delivered(*passage, world.now);
            }
            if world.replicas[replica].life == life {
                world.after_at(replica, answer.takes, move |world| world.answered(place, cleared, answer));
            }
        });
    }

    fn answered(&mut self, place: Place, cleared: Vec<Cleared>, answer: Answer) {
        let Place { replica, page, .. } = place;
        let token = self.replicas[replica].pages[page].token_digest();
        let has_old_token = token != place.configured.token_digest();
        let seen = Seen { has_old_token, was_try: place.is_try, ended: self.instant() };
        let answer = CallAnswer { verdicts: answer.verdicts, usage: answer.usage };
        let mut random = self.random.fork();
        let budget = &self.lane(replica, page).budget;
        let (ends, report) = attempt::conclude(cleared, answer, budget, &seen, || random.f64());
        self.settle(place, ends, Some(report));
    }

    /// Records how attempts ended, then answers; `report` is there if the call ends with them.
    fn settle(&mut self, place: Place, mut ends: Vec<End>, report: Option<Report>) {
        let settlements: Vec<_> = ends
            .iter_mut()
            .filter_map(|end| Some(Settlement::new(end.ticket.take()?, &end.outcome)))
            .collect();
        let (there, back) = (self.up_to(self.plan.write / 2), self.up_to(self.plan.write / 2));
        let (replica, life) = (place.replica, self.replicas[place.replica].life);
        if settlements.is_empty() {
            self.ended(place, ends, report);
            return;
        }
        self.after(there, move |world| {
            let wait = if world.database.is_away(world.now) {
                world.settle_later(replica, life, settlements);
                LEDGER_ANSWER_TIMEOUT
            } else {
                world.database.settle(&settlements);
                back
            };
            if world.replicas[replica].life == life {
                world.after_at(replica, wait, move |world| world.ended(place, ends, report));
            }
        });
    }

    /// What could not be written is written when the database is back, if the process lives until then.
    fn settle_later(&mut self, replica: usize, life: u64, settlements: Vec<Settlement>) {
        if self.replicas[replica].life != life {
            return;
        }
        self.after_at(replica, LEDGER_RETRY_INTERVAL, move |world| {
            if world.database.is_away(world.now) {
                world.settle_later(replica, life, settlements);
            } else {
                world.database.settle(&settlements);
            }
        });
    }

    fn ended(&mut self, place: Place, ends: Vec<End>, report: Option<Report>) {
        let (answered, retries) = attempt::part(ends);
        for (queued, outcome) in answered {
            queued.reply.answer(outcome);
        }
        match report {
            Some(mut report) => {
                report.retries = retries;
                self.end_call(place, report);
            }
            None => {
                self.pump_all(place.replica);
                self.answer_unary(place.replica);
            }
        }
    }

    fn end_call(&mut self, place: Place, report: Report) {
        let Place { replica, page, call, messages, .. } = place;
        self.lane(replica, page).in_flight -= messages;
        self.step(replica, page, Some(Event::CallEnded { call, report: Box::new(report) }));
    }
}

fn lost() -> LedgerError {
    LedgerError::passing("the lease was lost")
}

/// A pause that hardly matters.
pub(super) const MOMENT: Duration = Duration::from_millis(1);
