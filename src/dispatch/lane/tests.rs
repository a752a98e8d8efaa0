use std::sync::Arc;

use super::*;
use crate::dispatch::Reply;
use crate::message::{Action, Message, Options, Recipient, SenderAction};

/// A message whose name, kept in its persona, tells it from others.
fn queued(source: Source, recipient: &str, name: &str) -> Queued {
    let options = Options { persona_id: Some(name.to_owned()), ..Options::default() };
    let message = Message {
        recipient: Recipient::Id(recipient.to_owned()),
        options: Arc::new(options),
        action: Arc::new(Action::SenderAction(SenderAction::TypingOn)),
    };
    let (sender, _) = tokio::sync::oneshot::channel();
    Queued { message, claim: None, source, deadline: None, reply: Reply::to_unary(sender) }
}

fn names(messages: &[Queued]) -> Vec<&str> {
    messages.iter().map(|queued| queued.message.options.persona_id.as_deref().unwrap()).collect()
}

fn next_names(lane: &mut Lane) -> Vec<String> {
    lane.next_batch()
        .map_or_else(Vec::new, |batch| names(&batch.messages).iter().map(ToString::to_string).collect())
}

#[test]
fn unary_goes_before_bulk_and_apart_from_it() {
    let mut lane = Lane::default();
    lane.queue(queued(Source::Bulk(1), "a", "bulk"));
    lane.queue(queued(Source::Unary, "b", "unary"));
    assert_eq!(next_names(&mut lane), ["unary"]);
    assert_eq!(next_names(&mut lane), ["bulk"]);
    assert_eq!(next_names(&mut lane), [""; 0]);
}

#[test]
fn bulks_take_turns_whatever_their_size() {
    let mut lane = Lane::default();
    for number in 0..200 {
        lane.queue(queued(Source::Bulk(1), &format!("large-{number}"), "large"));
    }
    for number in 0..30 {
        lane.queue(queued(Source::Bulk(2), &format!("small-{number}"), "small"));
    }
    let batch = next_names(&mut lane);
    assert_eq!(batch.len(), BATCH_SIZE_MAX);
    assert_eq!(batch.iter().filter(|name| *name == "small").count(), BATCH_SIZE_MAX / 2);
}

#[test]
fn one_recipients_messages_go_one_after_the_other_in_order() {
    let mut lane = Lane::default();
    for name in ["1", "2", "3"] {
        lane.queue(queued(Source::Bulk(1), "same", name));
    }
    lane.queue(queued(Source::Unary, "same", "4"));
    lane.queue(queued(Source::Bulk(1), "other", "x"));
    let first = lane.next_batch().unwrap();
    assert_eq!(names(&first.messages), ["1", "x"], "two messages for one recipient never share a batch");
    assert!(lane.next_batch().is_none(), "the recipient is busy");
    lane.finished(first.recipients);
    for name in ["2", "3", "4"] {
        let batch = lane.next_batch().unwrap();
        assert_eq!(names(&batch.messages), [name]);
        lane.finished(batch.recipients);
    }
    assert!(lane.recipients.is_empty(), "a recipient with nothing to send takes no memory");
}

#[test]
fn bulks_leave_call_slots_free_for_unary_messages() {
    let mut lane = Lane::default();
    let mut recipient = 0..;
    let mut next = |source| queued(source, &recipient.next().unwrap().to_string(), "");
    let mut calls = 0;
    loop {
        lane.queue(next(Source::Bulk(1)));
        if lane.next_batch().is_none() {
            break;
        }
        calls += 1;
    }
    assert_eq!(calls, PAGE_CALLS_IN_FLIGHT_MAX - PAGE_CALLS_UNARY_RESERVED);
    for _ in 0..PAGE_CALLS_UNARY_RESERVED {
        lane.queue(next(Source::Unary));
        assert!(lane.next_batch().is_some());
    }
    lane.queue(next(Source::Unary));
    assert!(lane.next_batch().is_none(), "all slots are taken");
}

#[test]
fn a_cancelled_bulk_leaves_and_what_waited_behind_it_moves_up() {
    let mut lane = Lane::default();
    lane.queue(queued(Source::Bulk(1), "a", "1"));
    lane.queue(queued(Source::Bulk(1), "a", "2"));
    lane.queue(queued(Source::Unary, "a", "3"));
    lane.queue(queued(Source::Bulk(1), "b", "4"));
    let taken = lane.take_out(|queued| queued.source == Source::Bulk(1));
    let mut taken = names(taken.as_slices().0).iter().map(ToString::to_string).collect::<Vec<_>>();
    taken.sort();
    assert_eq!(taken, ["1", "2", "4"]);
    assert_eq!(next_names(&mut lane), ["3"]);
}
