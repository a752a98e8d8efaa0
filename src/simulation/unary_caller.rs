//! A caller of single messages, and what the service holds of its calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::account::{Entrance, Name, Passage, Told};
use super::call::MOMENT;
use super::plan::{PEOPLE, UnaryPlan};
use super::world::World;
use crate::dispatch::lane::event::Event;
use crate::dispatch::{Queued, Reply, Source};
use crate::error::{Outcome, Reason};
use crate::ledger::{Claim, Key};
use crate::message::{Action, Media, MediaSource, MediaType, Message, Options, Recipient, SenderAction};

/// How often a caller asks again for one message before it takes the answer as it is.
const TRIES_MAX: u32 = 40;
/// How long a caller waits before it asks again.
const BACKOFF: Duration = Duration::from_millis(300);

/// Somebody who sends single messages.
pub(super) struct UnaryCaller {
    pub(super) plan: UnaryPlan,
    pub(super) number: usize,
    results: Vec<Told>,
    tries: u32,
    /// Counts calls, so that only the answer to the last one counts.
    calls: u64,
    /// When the last one began.
    called: Duration,
}

/// A unary call at its service.
pub(super) struct UnaryCall {
    caller: usize,
    call: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl UnaryCaller {
    pub(super) fn new(number: usize, plan: UnaryPlan) -> Self {
        Self { plan, number, results: Vec::new(), tries: 0, calls: 0, called: Duration::ZERO }
    }

    pub(super) fn is_done(&self) -> bool {
        self.results.len() == self.plan.messages
    }

    pub(super) fn results(&self) -> &[Told] {
        &self.results
    }
}

impl World {
    pub(super) fn begin_unary(&mut self, number: usize) {
        let caller = &mut self.unary_callers[number];
        if caller.is_done() {
            return;
        }
        caller.calls += 1;
        caller.called = self.now;
        let call = caller.calls;
        // The library gives a call up at its deadline; the caller then asks again with the same id.
        let timeout = caller.plan.timeout;
        self.after(timeout, move |world| world.unary_answered(number, call, None));
        let Some(replica) = self.some_replica() else {
            self.after(MOMENT, move |world| world.unary_answered(number, call, None));
            return;
        };
        self.after_at(replica, MOMENT, move |world| world.take_unary(replica, number, call));
        // A process that vanishes before it has taken the call is noticed, too.
        let life = self.replicas[replica].life;
        self.after(MOMENT, move |world| {
            if world.replicas[replica].life != life {
                world.unary_answered(number, call, None);
            }
        });
    }

    /// A replica that takes calls, if there is one.
    pub(super) fn some_replica(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.replicas.len()).filter(|it| self.replicas[*it].takes_calls()).collect();
        (!up.is_empty()).then(|| up[self.random.usize(0..up.len())])
    }

    fn take_unary(&mut self, replica: usize, number: usize, call: u64) {
        let caller = &self.unary_callers[number];
        if caller.calls != call {
            return;
        }
        let (page, message, timeout) = (caller.plan.page, caller.results.len(), caller.plan.timeout);
        let person = (number * 31 + message * 7) % PEOPLE;
        let passage = Passage {
            name: Name::Unary { caller: number, number: message },
            page,
            person,
            is_video: false,
            entrance: Entrance { replica, life: self.replicas[replica].life, stream: None },
            place: 0,
        };
        let id = format!("unary-{number}-{message}");
        let key = Key { page_id: page.to_string().into(), bulk_id: "".into(), id: id.into() };
        let claim = Claim { key, fingerprint: [0; 16], resend: None };
        let (sender, outcome) = oneshot::channel();
        let deadline = self.instant() + timeout.mul_f64(0.9);
        let message = self.message(replica, passage);
        let queued =
            Queued::new(message, Some(claim), Source::Unary, Some(deadline), Reply::to_unary(sender));
        self.replicas[replica].unary.push(UnaryCall { caller: number, call, outcome });
        self.step(replica, page, Some(Event::Queue(vec![queued])));
    }

    /// Answers the calls whose outcome is there.
    pub(super) fn answer_unary(&mut self, replica: usize) {
        let mut answered = Vec::new();
        self.replicas[replica].unary.retain_mut(|call| match call.outcome.try_recv() {
            Ok(outcome) => {
                answered.push((call.caller, call.call, outcome));
                false
            }
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => panic!("a call was forgotten"),
        });
        for (caller, call, outcome) in answered {
            self.after(MOMENT, move |world| world.unary_answered(caller, call, Some(outcome)));
        }
    }

    pub(super) fn unary_broke(&mut self, call: UnaryCall) {
        self.after(MOMENT, move |world| world.unary_answered(call.caller, call.call, None));
    }

    fn unary_answered(&mut self, number: usize, call: u64, outcome: Told) {
        let caller = &mut self.unary_callers[number];
        if caller.calls != call || caller.is_done() {
            return;
        }
        if let Some(Outcome::NotSent(error)) = &outcome
            && error.reason == Reason::Expired
        {
            let waited = self.now - caller.called;
            assert!(waited > caller.plan.timeout / 2, "a message expired after {waited:?}");
        }
        // An answer after this is nobody's.
        caller.calls += 1;
        caller.tries += 1;
        let is_final = match &outcome {
            None => false,
            Some(Outcome::NotSent(error)) => !error.reason.is_retryable(),
            Some(Outcome::Rejected(error)) => error.reason != Reason::RequestInProgress,
            Some(Outcome::Sent(_) | Outcome::Failed(_) | Outcome::Unknown(_)) => true,
        };
        let pause = if is_final || caller.tries >= TRIES_MAX {
            caller.tries = 0;
            caller.results.push(outcome);
            caller.plan.pause
        } else {
            BACKOFF
        };
        self.note(|| format!("unary caller {number} has an answer"));
        self.after(pause, move |world| world.begin_unary(number));
    }

    /// A message that is known by its passage.
    pub(super) fn message(&mut self, replica: usize, passage: Passage) -> Message {
        self.replicas[replica].entered += 1;
        self.passages.push(Passage { place: self.replicas[replica].entered, ..passage });
        let persona_id = Some((self.passages.len() - 1).to_string());
        let action = if passage.is_video {
            let source = MediaSource::AttachmentId("9".to_owned());
            let media = Media { media_type: MediaType::Video, source };
            Action::Media { media, extras: crate::message::Extras::default() }
        } else {
            Action::SenderAction(SenderAction::TypingOn)
        };
        Message {
            recipient: Recipient::Id(passage.person.to_string()),
            options: Arc::new(Options { persona_id, ..Options::default() }),
            action: Arc::new(action),
        }
    }

    /// The passage of a message.
    pub(super) fn passage(&self, queued: &Queued) -> Passage {
        let place: usize = queued.message.options.persona_id.as_deref().unwrap().parse().unwrap();
        self.passages[place]
    }
}
