use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::dispatch::Reply;
use crate::limits::BATCH_SIZE_MAX;
use crate::message::{Media, MediaSource, Message, Options, Recipient, SenderAction};

impl Queue {
    /// Panics if a unary message waits for an item of a bulk that is not in flight.
    pub(in crate::dispatch) fn check_order(&self, in_flight: &[RecipientHash]) {
        let has_unary_first = |recipient: RecipientHash| {
            let unary = self.waiting.iter().flat_map(|waiting| &waiting.unary).chain(self.delayed.values());
            unary.filter(|first| first.source == Source::Unary).any(|first| first.recipient == recipient)
        };
        for (recipient, taken) in &self.recipients {
            let waits = taken.is_next_unary() && !in_flight.contains(recipient);
            assert!(
                !waits || has_unary_first(*recipient),
                "a unary message waits for a bulk's item that waits"
            );
        }
    }

    /// Panics if something is left of messages that are gone.
    pub(in crate::dispatch) fn check_empty(&self) {
        assert!(self.messages().next().is_none(), "messages that nobody counts");
        assert!(self.recipients.is_empty(), "recipients with nothing to send");
        assert!(self.waiting.iter().all(|waiting| waiting.bulks.is_empty() && waiting.in_bulks == 0));
    }
}

/// A message whose name, kept in its persona, tells it from others.
fn queued(source: Source, recipient: &str, name: &str) -> Queued {
    with_action(source, recipient, name, Action::SenderAction(SenderAction::TypingOn))
}

fn with_action(source: Source, recipient: &str, name: &str, action: Action) -> Queued {
    let options = Options { persona_id: Some(name.to_owned()), ..Options::default() };
    let message = Message {
        recipient: Recipient::Id(recipient.to_owned()),
        options: Arc::new(options),
        action: Arc::new(action),
    };
    let (sender, _) = tokio::sync::oneshot::channel();
    Queued::new(message, None, source, None, Reply::to_unary(sender))
}

fn names(messages: &[Queued]) -> Vec<&str> {
    messages.iter().map(|queued| queued.message.options.persona_id.as_deref().unwrap()).collect()
}

/// Takes a batch as a lane does: unary messages, or else bulk ones.
fn next(queue: &mut Queue) -> Vec<Queued> {
    let unary = queue.take_unary(Kind::Other, BATCH_SIZE_MAX);
    if unary.is_empty() { queue.take_bulk(Kind::Other, BATCH_SIZE_MAX) } else { unary }
}

fn finish(queue: &mut Queue, messages: &[Queued]) {
    for message in messages {
        queue.release(message.recipient);
    }
}

#[test]
fn unary_goes_before_bulk_and_apart_from_it() {
    let mut queue = Queue::new(7);
    queue.push(queued(Source::Bulk(1), "a", "bulk"));
    queue.push(queued(Source::Unary, "b", "unary"));
    assert_eq!(names(&next(&mut queue)), ["unary"]);
    assert_eq!(names(&next(&mut queue)), ["bulk"]);
    assert_eq!(names(&next(&mut queue)), [""; 0]);
}

#[test]
fn bulks_take_turns_whatever_their_size() {
    let mut queue = Queue::new(7);
    for number in 0..200 {
        queue.push(queued(Source::Bulk(1), &format!("large-{number}"), "large"));
    }
    for number in 0..30 {
        queue.push(queued(Source::Bulk(2), &format!("small-{number}"), "small"));
    }
    let batch = next(&mut queue);
    assert_eq!(batch.len(), BATCH_SIZE_MAX);
    assert_eq!(names(&batch).into_iter().filter(|name| *name == "small").count(), BATCH_SIZE_MAX / 2);
    assert_eq!(queue.bulk_waiting(Kind::Other), 180);
}

#[test]
fn one_recipients_messages_go_one_after_the_other_in_order() {
    let mut queue = Queue::new(7);
    for name in ["1", "2", "3"] {
        queue.push(queued(Source::Bulk(1), "same", name));
    }
    queue.push(queued(Source::Bulk(1), "other", "x"));
    let first = next(&mut queue);
    queue.push(queued(Source::Unary, "same", "4"));
    assert_eq!(names(&first), ["1", "x"], "two messages for one recipient never share a batch");
    assert!(next(&mut queue).is_empty(), "the recipient is busy");
    finish(&mut queue, &first);
    for name in ["4", "2", "3"] {
        let batch = next(&mut queue);
        assert_eq!(names(&batch), [name]);
        finish(&mut queue, &batch);
    }
    assert!(queue.recipients.is_empty(), "a recipient with nothing to send takes no memory");
}

/// An order's confirmation does not wait for the audience that its recipient is in.
#[test]
fn a_unary_message_goes_before_its_recipients_bulk_items_that_wait() {
    let mut queue = Queue::new(7);
    for name in ["1", "2"] {
        queue.push(queued(Source::Bulk(1), "same", name));
    }
    queue.push(queued(Source::Unary, "same", "u1"));
    queue.push(queued(Source::Unary, "same", "u2"));
    let first = next(&mut queue);
    assert_eq!(names(&first), ["u1"]);
    assert!(next(&mut queue).is_empty(), "the recipient is busy");
    queue.push(queued(Source::Bulk(1), "same", "3"));
    finish(&mut queue, &first);
    for name in ["u2", "1", "2", "3"] {
        let batch = next(&mut queue);
        assert_eq!(names(&batch), [name]);
        finish(&mut queue, &batch);
    }
    assert!(queue.recipients.is_empty());
}

#[test]
fn what_leaves_the_queue_frees_its_recipient_for_the_others() {
    for gone in [Source::Unary, Source::Bulk(1), Source::Bulk(2)] {
        let mut queue = Queue::new(7);
        for (source, name) in [(Source::Bulk(1), "1"), (Source::Bulk(2), "2"), (Source::Unary, "u")] {
            queue.push(queued(source, "same", name));
        }
        assert_eq!(queue.take_out(|queued| queued.source == gone).len(), 1);
        let mut sent = Vec::new();
        loop {
            let batch = next(&mut queue);
            let Some(message) = batch.first() else { break };
            sent.push(message.source);
            finish(&mut queue, &batch);
        }
        let left = [Source::Unary, Source::Bulk(1), Source::Bulk(2)];
        assert_eq!(sent, left.into_iter().filter(|source| *source != gone).collect::<Vec<_>>());
        assert!(queue.recipients.is_empty(), "{gone:?}");
    }
}

#[test]
fn a_message_that_is_tried_again_keeps_its_place_before_those_behind_it() {
    let mut queue = Queue::new(7);
    let now = Instant::now();
    for name in ["1", "2"] {
        queue.push(queued(Source::Bulk(1), "same", name));
    }
    let first = next(&mut queue).remove(0);
    queue.put_back(first, Some(now));
    assert!(next(&mut queue).is_empty(), "it is not due, and the one behind it waits");
    assert_eq!(queue.next_due(), Some(now));
    queue.wake(now);
    let again = next(&mut queue);
    assert_eq!(names(&again), ["1"]);
    finish(&mut queue, &again);
    assert_eq!(names(&next(&mut queue)), ["2"]);
}

/// A confirmation does not wait for the pause after which an item of a bulk is tried again.
#[test]
fn a_unary_message_overtakes_its_recipients_bulk_item_that_is_tried_again() {
    let now = Instant::now();
    for due in [Some(now), None] {
        for is_queued_before in [true, false] {
            let mut queue = Queue::new(7);
            for name in ["1", "2"] {
                queue.push(queued(Source::Bulk(1), "same", name));
            }
            let item = next(&mut queue).remove(0);
            if is_queued_before {
                queue.push(queued(Source::Unary, "same", "u"));
                queue.put_back(item, due);
            } else {
                queue.put_back(item, due);
                queue.push(queued(Source::Unary, "same", "u"));
            }
            let first = queue.take_unary(Kind::Other, 9);
            assert_eq!(names(&first), ["u"], "{due:?} {is_queued_before}");
            queue.wake(now);
            assert!(next(&mut queue).is_empty(), "the recipient is busy");
            finish(&mut queue, &first);
            for name in ["1", "2"] {
                let batch = next(&mut queue);
                assert_eq!(names(&batch), [name]);
                finish(&mut queue, &batch);
            }
            assert!(queue.recipients.is_empty());
        }
    }
}

#[test]
fn a_message_that_the_page_was_throttled_with_lets_others_try_first() {
    let mut queue = Queue::new(7);
    for name in ["1", "2"] {
        queue.push(queued(Source::Bulk(1), name, name));
    }
    let throttled = queue.take_bulk(Kind::Other, 1).remove(0);
    queue.put_back(throttled, None);
    assert_eq!(names(&queue.take_bulk(Kind::Other, 1)), ["2"]);
}

#[test]
fn what_graph_must_fetch_waits_apart_and_audio_and_video_too() {
    let mut queue = Queue::new(7);
    let media = |media_type, source| Action::Media {
        media: Media { media_type, source },
        extras: crate::message::Extras::default(),
    };
    let kept = || MediaSource::AttachmentId("9".to_owned());
    let fetched = || MediaSource::Url { url: "https://example.com/1".to_owned(), is_reusable: None };
    let table = [
        ("video", MediaType::Video, kept()),
        ("audio", MediaType::Audio, fetched()),
        ("image", MediaType::Image, kept()),
        ("file", MediaType::File, fetched()),
    ];
    for (name, media_type, source) in table {
        queue.push(with_action(Source::Bulk(1), name, name, media(media_type, source)));
    }
    assert_eq!(names(&queue.take_bulk(Kind::Other, 9)), ["image"]);
    assert_eq!(names(&queue.take_bulk(Kind::Fetched, 9)), ["file"]);
    assert_eq!(names(&queue.take_bulk(Kind::AudioVideo, 9)), ["video", "audio"]);
}

#[test]
fn a_cancelled_bulk_leaves_and_what_waited_behind_it_moves_up() {
    let mut queue = Queue::new(7);
    queue.push(queued(Source::Bulk(1), "a", "1"));
    queue.push(queued(Source::Bulk(1), "a", "2"));
    queue.push(queued(Source::Unary, "a", "3"));
    queue.push(queued(Source::Bulk(1), "b", "4"));
    queue.push(queued(Source::Bulk(1), "c", "5"));
    let delayed = queue.take_bulk(Kind::Other, 1).remove(0);
    queue.put_back(delayed, Some(Instant::now()));
    let taken = queue.take_out(|queued| queued.source == Source::Bulk(1));
    let mut taken = names(&taken);
    taken.sort_unstable();
    assert_eq!(taken, ["1", "2", "4", "5"]);
    assert_eq!(queue.bulk_waiting(Kind::Other), 0);
    assert_eq!(names(&next(&mut queue)), ["3"]);
}

/// What happens to a queue, by numbers.
#[derive(Clone, Debug)]
enum Step {
    Push { source: u64, recipient: u8, is_video: bool },
    TakeUnary,
    TakeBulk { kind: usize, count: usize },
    Finish(usize),
    PutBack(usize, bool),
    Cancel(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u64, 0..3_u8, any::<bool>())
            .prop_map(|(source, recipient, is_video)| Step::Push { source, recipient, is_video }),
        1 => Just(Step::TakeUnary),
        2 => (0..3_usize, 1..4_usize).prop_map(|(kind, count)| Step::TakeBulk { kind, count }),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, is_delayed)| Step::PutBack(which, is_delayed)),
        1 => (1..3_u64).prop_map(Step::Cancel),
    ]
}

fn source(number: u64) -> Source {
    if number == 0 { Source::Unary } else { Source::Bulk(number) }
}

/// The queue, and what a caller of it sees.
struct Player {
    queue: Queue,
    in_flight: Vec<Queued>,
    /// Numbers of the messages that went in and came out.
    pushed: usize,
    out: usize,
    /// The last number that came out, by source and recipient.
    last: HashMap<(u64, String), usize>,
}

impl Player {
    fn new() -> Self {
        Self { queue: Queue::new(7), in_flight: Vec::new(), pushed: 0, out: 0, last: HashMap::new() }
    }

    fn play(&mut self, step: Step, now: Instant) {
        match step {
            Step::Push { source: number, recipient, is_video } => {
                let media_type = if is_video { MediaType::Video } else { MediaType::Image };
                let source_of_media = MediaSource::AttachmentId("9".to_owned());
                let media = Media { media_type, source: source_of_media };
                let action = Action::Media { media, extras: crate::message::Extras::default() };
                let (recipient, name) = (recipient.to_string(), self.pushed.to_string());
                self.queue.push(with_action(source(number), &recipient, &name, action));
                self.pushed += 1;
            }
            Step::TakeUnary => {
                for kind in Kind::ALL {
                    let batch = self.queue.take_unary(kind, 1);
                    self.take(batch);
                }
            }
            Step::TakeBulk { kind, count } => {
                let batch = self.queue.take_bulk(Kind::ALL[kind], count);
                self.take(batch);
            }
            Step::Finish(which) if !self.in_flight.is_empty() => {
                let message = self.in_flight.swap_remove(which % self.in_flight.len());
                self.ended(&message);
                finish(&mut self.queue, &[message]);
            }
            Step::PutBack(which, is_delayed) if !self.in_flight.is_empty() => {
                let message = self.in_flight.swap_remove(which % self.in_flight.len());
                self.queue.put_back(message, is_delayed.then_some(now));
            }
            Step::Finish(_) | Step::PutBack(..) => {}
            Step::Cancel(number) => {
                let gone = self.queue.take_out(|queued| queued.source == source(number));
                self.out += gone.len();
            }
        }
    }

    fn take(&mut self, batch: Vec<Queued>) {
        self.in_flight.extend(batch);
        let mut recipients: Vec<_> = self.in_flight.iter().map(|message| message.recipient).collect();
        recipients.sort_unstable();
        recipients.dedup();
        assert_eq!(recipients.len(), self.in_flight.len(), "two for one recipient are in flight");
    }

    fn ended(&mut self, message: &Queued) {
        let number: usize = names(std::slice::from_ref(message))[0].parse().unwrap();
        let source = if let Source::Bulk(number) = message.source { number } else { 0 };
        let recipient = message.recipient.to_string();
        let before = self.last.insert((source, recipient), number);
        assert!(before.is_none_or(|before| before < number), "{before:?} came before {number}");
        self.out += 1;
    }
}

proptest! {
    #[test]
    fn every_message_comes_out_once_and_one_sources_in_order(steps in prop::collection::vec(step(), 1..80)) {
        let (mut player, now) = (Player::new(), Instant::now());
        for step in steps {
            player.play(step, now);
            player.queue.wake(now);
            prop_assert_eq!(player.queue.len(), player.queue.messages().count());
        }
        // Nothing is left behind once nothing new comes.
        for _ in 0..2 * player.pushed {
            player.play(Step::TakeUnary, now);
            for kind in 0..Kind::ALL.len() {
                player.play(Step::TakeBulk { kind, count: 3 }, now);
            }
            player.play(Step::Finish(0), now);
        }
        prop_assert_eq!(player.out, player.pushed);
        prop_assert!(player.queue.recipients.is_empty());
    }
}
