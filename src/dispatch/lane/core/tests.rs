use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::dispatch::gate::{Signs, Throttle};
use crate::dispatch::queued::Reply;
use crate::dispatch::standing::ShareGrant;
use crate::graph::response::Refusal;
use crate::ledger::Grant;
use crate::limits::{PAUSE_FIRST, PROBE_FIRST, SHARE_LEASE};
use crate::message::{Action, Message, Options, Recipient, SenderAction};

/// A lane, its page, and a clock that the test moves.
struct Stage {
    lane: LaneCore,
    now: Instant,
    surroundings: Surroundings,
    /// Keeps the callers of unary messages waiting.
    callers: Vec<oneshot::Receiver<Outcome>>,
}

impl Stage {
    fn new(rate_per_second: u32, is_shared: bool) -> Self {
        let now = Instant::now();
        let page = Page { rate_per_second, ..Page::sample("1") };
        let surroundings =
            Surroundings { page: Some(Arc::new(page)), is_ledger_ready: true, is_draining: false };
        Self { lane: LaneCore::new("1".into(), is_shared, 7, now), now, surroundings, callers: Vec::new() }
    }

    fn moment(&self) -> Moment {
        Moment { instant: self.now, time: SystemTime::UNIX_EPOCH }
    }

    fn take(&mut self, event: Event) -> Effects {
        self.lane.handle(self.moment(), [event], &self.surroundings)
    }

    fn look(&mut self) -> Effects {
        self.lane.handle(self.moment(), [], &self.surroundings)
    }

    fn message(&mut self, source: Source, person: usize) -> Queued {
        let message = Message {
            recipient: Recipient::Id(person.to_string()),
            options: Arc::new(Options::default()),
            action: Arc::new(Action::SenderAction(SenderAction::TypingOn)),
        };
        let reply = match source {
            Source::Unary => {
                let (sender, receiver) = oneshot::channel();
                self.callers.push(receiver);
                Reply::to_unary(sender)
            }
            Source::Bulk(_) => Reply::to_bulk(person.to_string().into(), mpsc::unbounded_channel().0),
        };
        Queued::new(message, None, source, None, reply)
    }

    fn queue(&mut self, source: Source, people: std::ops::Range<usize>) -> Effects {
        let messages = people.map(|person| self.message(source, person)).collect();
        self.take(Event::Queue(messages))
    }

    fn with_deadline(&mut self, source: Source, after: Duration) -> Effects {
        let deadline = Some(self.now + after);
        let message = Queued { deadline, ..self.message(source, 900) };
        self.take(Event::Queue(vec![message]))
    }

    fn end(&mut self, call: &Call, signs: Signs) -> Effects {
        let report = Box::new(Report { signs, ..Report::default() });
        self.take(Event::CallEnded { call: call.number, report })
    }

    fn throttle(&mut self, call: &Call) -> Effects {
        let error = SendError::new(Reason::RateLimited, "x");
        self.end(call, Signs { throttled: Some(Throttle { error, wait: None }), ..Signs::default() })
    }

    fn stop(&mut self, call: &Call) -> Effects {
        let error = SendError::new(Reason::PageTokenInvalid, "x");
        self.end(call, Signs { stopped: Some(error), ..Signs::default() })
    }

    fn rotate_token(&mut self) {
        let page = Page { access_token: "another".into(), ..Page::sample("1") };
        self.surroundings.page = Some(Arc::new(page));
    }
}

fn answered(count: usize) -> Signs {
    Signs { answered: count, breaks_row: true, ..Signs::default() }
}

fn sizes(effects: &Effects) -> Vec<usize> {
    effects.calls.iter().map(|call| call.messages.len()).collect()
}

fn reasons(effects: &Effects) -> Vec<Reason> {
    let reason = |outcome: &Outcome| match outcome {
        Outcome::NotSent(error) => error.reason,
        Outcome::Sent(_) | Outcome::Rejected(_) | Outcome::Failed(_) | Outcome::Unknown(_) => {
            panic!("{outcome:?}")
        }
    };
    effects.answers.iter().map(|(_, outcome)| reason(outcome)).collect()
}

#[test]
fn what_waits_goes_in_batches_and_slots_grow_with_answers() {
    let mut stage = Stage::new(0, false);
    let effects = stage.queue(Source::Bulk(1), 0..2000);
    let bulk_slots = PAGE_CALLS_IN_FLIGHT_FIRST - PAGE_CALLS_UNARY_RESERVED;
    assert_eq!(sizes(&effects), vec![BATCH_SIZE_MAX; bulk_slots]);
    let unary = stage.queue(Source::Unary, 5000..5001);
    assert_eq!(sizes(&unary), [1], "unary messages have slots of their own");
    let more = stage.end(&effects.calls[0], answered(50));
    assert_eq!(sizes(&more), [50], "one more slot; the one that is free again has the unary call");
    stage.end(&unary.calls[0], answered(1));
    let same = stage.end(&effects.calls[1], Signs::default());
    assert_eq!(sizes(&same), [50], "a call that says nothing allows no more");
    let more = stage.end(&effects.calls[2], answered(50));
    assert_eq!(sizes(&more), [50, 50]);
}

#[test]
fn a_pause_ends_with_a_message_that_goes_to_see() {
    let mut stage = Stage::new(0, false);
    let first = stage.queue(Source::Unary, 0..1);
    assert!(!first.calls[0].is_try);
    let paused = stage.throttle(&first.calls[0]);
    assert!(paused.share_now, "others hear of it at once");
    let waits = stage.queue(Source::Unary, 1..4);
    assert_eq!((sizes(&waits), waits.wake), (vec![], Some(stage.now + PAUSE_FIRST)));
    stage.now += PAUSE_FIRST;
    let sees = stage.look();
    assert_eq!(sizes(&sees), [1]);
    assert!(sees.calls[0].is_try);
    let open = stage.end(&sees.calls[0], answered(1));
    assert_eq!(sizes(&open), [2]);
    assert!(open.share_now && matches!(stage.lane.standing(), (Standing::Open, since) if since == stage.now));
}

#[test]
fn a_refused_token_stops_the_page_until_it_is_replaced_or_works_again() {
    let mut stage = Stage::new(0, false);
    let calls = stage.queue(Source::Unary, 0..1);
    let stopped = stage.stop(&calls.calls[0]);
    assert_eq!(stopped.wake, Some(stage.now + SUSPENDED_LOOK_INTERVAL));
    let refused = stage.queue(Source::Bulk(1), 1..3);
    assert_eq!((reasons(&refused), sizes(&refused)), (vec![Reason::PageTokenInvalid; 2], vec![]));
    assert!(refused.probe.is_none(), "it is not time yet");
    stage.now += PROBE_FIRST;
    let probe = stage.look().probe.unwrap();
    assert!(stage.look().probe.is_none(), "one at a time");
    let token = probe.token_digest();
    let error = SendError::new(Reason::GraphUnavailable, "x");
    let away = Refusal { error, disposition: crate::graph::response::Disposition::Transient };
    stage.take(Event::Probed { token, result: Err(away) });
    assert!(matches!(stage.lane.standing().0, Standing::Suspended { .. }));
    stage.now += 2 * PROBE_FIRST;
    assert!(stage.look().probe.is_some(), "tried again, later");
    stage.take(Event::Probed { token, result: Ok(()) });
    assert_eq!(sizes(&stage.queue(Source::Unary, 3..4)), [1]);
}

#[test]
fn what_an_old_token_is_refused_for_or_good_for_says_nothing_of_the_new_one() {
    let mut stage = Stage::new(0, false);
    let calls = stage.queue(Source::Unary, 0..1);
    stage.rotate_token();
    stage.stop(&calls.calls[0]);
    let calls = stage.queue(Source::Unary, 1..3);
    assert_eq!(sizes(&calls), [2], "the page sends");
    stage.stop(&calls.calls[0]);
    assert!(reasons(&stage.queue(Source::Unary, 3..4)).contains(&Reason::PageTokenInvalid));
    let old = Page::sample("1").token_digest();
    stage.take(Event::Probed { token: old, result: Ok(()) });
    assert!(matches!(stage.lane.standing().0, Standing::Suspended { .. }));
    stage.surroundings.page = Some(Arc::new(Page::sample("1")));
    assert_eq!(sizes(&stage.queue(Source::Unary, 4..5)), [1], "another token opens the page");
}

#[test]
fn a_deadline_ends_the_wait_and_says_what_it_was_for() {
    let minute = Duration::from_secs(60);
    for (source, reason) in [(Source::Unary, Reason::RateLimited), (Source::Bulk(1), Reason::Expired)] {
        let mut stage = Stage::new(0, false);
        let first = stage.queue(Source::Unary, 0..1);
        stage.throttle(&first.calls[0]);
        let waits = stage.with_deadline(source, PAUSE_FIRST / 2);
        assert_eq!(waits.wake, Some(stage.now + PAUSE_FIRST / 2));
        stage.now += PAUSE_FIRST / 2;
        assert_eq!(reasons(&stage.look()), [reason], "{source:?}");
        assert_eq!(stage.look().wake, None, "nothing waits any more");
    }
    // On an open page, for a rate that is used up.
    let mut stage = Stage::new(1, false);
    assert_eq!(sizes(&stage.queue(Source::Unary, 0..1)), [1]);
    stage.queue(Source::Unary, 1..2);
    stage.with_deadline(Source::Unary, minute / 100);
    stage.now += minute / 100;
    assert!(reasons(&stage.look()).contains(&Reason::Expired));
}

#[test]
fn a_cancelled_bulk_a_drain_and_a_page_that_is_gone_leave_nothing_waiting() {
    let mut stage = Stage::new(1, false);
    stage.queue(Source::Bulk(1), 0..2);
    stage.queue(Source::Bulk(2), 2..4);
    assert_eq!(reasons(&stage.take(Event::CancelBulk(1))), [Reason::Expired; 2]);
    stage.surroundings.is_draining = true;
    assert_eq!(reasons(&stage.look()), [Reason::Draining; 2]);
    stage.surroundings.is_draining = false;
    stage.surroundings.page = None;
    assert_eq!(reasons(&stage.queue(Source::Unary, 5..6)), [Reason::PageNotFound]);
}

#[test]
fn without_a_share_nothing_goes_and_what_waits_keeps_one_however_long_it_waits() {
    let mut stage = Stage::new(300, true);
    let page = stage.surroundings.page.clone().unwrap();
    let wanted =
        |stage: &Stage| stage.lane.share_ask(&page, stage.moment()).ask.demands[1].map(|it| it.wanted);
    let waits = stage.queue(Source::Bulk(1), 0..3);
    assert!(waits.calls.is_empty() && waits.share_now, "it asks for a share");
    for _ in 0..3 {
        stage.now += SHARE_IDLE;
        assert_eq!(wanted(&stage), Some(300.0), "what waits wants all of it");
        assert!(stage.look().share_now);
    }
    let grant = Grant { rates: [Some(10.0), Some(300.0)], standing: None, version: 0 };
    let until = stage.now + SHARE_LEASE;
    stage.take(Event::Granted(Box::new(ShareGrant { grant, era: 0, until })));
    stage.now += Duration::from_millis(20);
    let granted = stage.look();
    assert_eq!(sizes(&granted), [3]);
    stage.now += 2 * SHARE_IDLE;
    assert_eq!(wanted(&stage), Some(5.6), "it has a call under way");
    stage.end(&granted.calls[0], answered(3));
    assert_eq!(wanted(&stage), None, "a page that has been idle for long wants none");
    assert_eq!(stage.look().wake, None);
}

#[test]
fn what_is_recorded_does_not_wait_for_a_share_of_a_ledger_that_is_away() {
    let mut stage = Stage::new(300, true);
    stage.surroundings.is_ledger_ready = false;
    let key = crate::ledger::Key { page_id: "1".into(), bulk_id: "".into(), id: "a".into() };
    let claim = Some(crate::ledger::Claim { key, fingerprint: [0; 16], resend: None });
    let recorded = Queued { claim, ..stage.message(Source::Unary, 0) };
    let other = stage.message(Source::Unary, 1);
    let effects = stage.take(Event::Queue(vec![recorded, other]));
    assert_eq!(reasons(&effects), [Reason::LedgerUnavailable]);
    assert!(effects.share_now && effects.wake == Some(stage.now + SHARE_INTERVAL), "the other one waits");
}

#[test]
fn a_call_that_sends_less_than_was_picked_gives_the_rest_of_the_rate_back() {
    for began in [None, Some(0)] {
        let mut stage = Stage::new(10, false);
        let calls = stage.queue(Source::Unary, 0..1);
        assert_eq!(sizes(&calls), [1]);
        if let Some(count) = began {
            stage.take(Event::CallBegan { call: calls.calls[0].number, count, at: stage.now });
        }
        stage.end(&calls.calls[0], Signs::default());
        assert_eq!(sizes(&stage.queue(Source::Unary, 1..2)), [1]);
    }
    let mut stage = Stage::new(10, false);
    let calls = stage.queue(Source::Unary, 0..2);
    stage.take(Event::CallBegan { call: calls.calls[0].number, count: 2, at: stage.now });
    stage.end(&calls.calls[0], answered(2));
    let waits = stage.queue(Source::Unary, 2..4);
    assert!(sizes(&waits).is_empty() && waits.wake > Some(stage.now), "what was sent is not given back");
}

#[test]
fn kinds_that_share_a_rate_take_turns() {
    use crate::message::{Extras, Media, MediaSource, MediaType};
    let mut stage = Stage::new(300, false);
    let source = || MediaSource::Url { url: "https://example.com/1".to_owned(), is_reusable: None };
    let media = || Media { media_type: MediaType::Image, source: source() };
    let image = |stage: &mut Stage, person| {
        let queued = stage.message(Source::Bulk(1), person);
        let action = Arc::new(Action::Media { media: media(), extras: Extras::default() });
        Queued { message: Message { action, ..queued.message }, ..queued }
    };
    let mut messages: Vec<_> = (0..200).map(|person| image(&mut stage, person)).collect();
    messages.extend((200..400).map(|person| stage.message(Source::Bulk(1), person)));
    let mut sent = [0; 2];
    let mut effects = stage.take(Event::Queue(messages));
    for _ in 0..60 {
        for call in std::mem::take(&mut effects.calls) {
            let is_image = matches!(*call.messages[0].message.action, Action::Media { .. });
            sent[usize::from(is_image)] += call.messages.len();
            stage.take(Event::CallBegan { call: call.number, count: call.messages.len(), at: stage.now });
            let next = stage.end(&call, answered(call.messages.len()));
            assert!(next.calls.is_empty());
        }
        stage.now += Duration::from_millis(20);
        effects = stage.look();
    }
    assert!(sent.iter().all(|count| *count > 100), "{sent:?}");
}
