//! The core alone: what it takes, what it owes, when it ends.

use std::collections::HashMap;
use std::time::SystemTime;

use super::*;
use crate::api::bulk::room::SharedRoom;
use crate::error::Receipt;
use crate::limits::{BULK_ITEMS_OF_EACH, BULK_ITEMS_SHARED};

/// Items by id and content.
type Core = StreamCore<std::vec::IntoIter<(&'static str, u8)>>;

fn core(items_max: usize) -> Core {
    StreamCore::new(Room::new(items_max, SharedRoom::default()))
}

/// Takes a frame.
fn with_frame(core: &mut Core, items: &[(&'static str, u8)]) {
    core.take_frame(Vec::from(items).into_iter());
}

/// Admits all items that may be taken. Returns those to queue.
fn admit(core: &mut Core) -> Vec<&'static str> {
    let mut queued = Vec::new();
    while let Some((_, (id, content))) = core.next_item() {
        if core.admit(id.into(), [content; 16]) == Admission::Queue {
            queued.push(id);
        }
    }
    queued
}

fn receipt(message_id: &str) -> Receipt {
    Receipt {
        message_id: message_id.into(),
        recipient_id: String::new(),
        attachment_id: String::new(),
        replayed: false,
        attempts: 1,
        sent_time: SystemTime::UNIX_EPOCH,
    }
}

fn sent(message_id: &str) -> Outcome {
    Outcome::Sent(receipt(message_id))
}

/// An outcome in short: the receipt's message, or the error's reason.
fn short(outcome: &Outcome) -> String {
    match outcome.clone().into_result() {
        Ok(receipt) => receipt.message_id,
        Err(error) => format!("{:?}", error.reason),
    }
}

/// The next frame of results.
fn results(core: &mut Core) -> Vec<(String, String)> {
    let frame = core.next_results(|_, _| 1);
    frame.iter().map(|(id, outcome)| (id.to_string(), short(outcome))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, outcome)| ((*id).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn items_are_taken_in_order_with_their_index_and_answered_in_the_order_of_their_outcomes() {
    let mut core = core(10);
    assert!(core.wants_frame() && !core.has_pending() && core.next_item().is_none());
    with_frame(&mut core, &[("a", 1), ("b", 1), ("c", 1)]);
    assert!(!core.wants_frame() && core.has_pending());
    for (index, id) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(core.next_item(), Some((index, (id, 1))));
        assert_eq!(core.admit(id.into(), [1; 16]), Admission::Queue);
    }
    assert!(core.next_item().is_none() && core.wants_frame());
    assert_eq!(core.in_flight(), 3);
    core.settle("c".into(), sent("mc"));
    core.settle("a".into(), sent("ma"));
    assert!(core.has_results());
    assert_eq!(results(&mut core), pairs(&[("c", "mc"), ("a", "ma")]));
    assert!(!core.has_results() && results(&mut core).is_empty());
    assert_eq!(core.in_flight(), 1);
    // The next frame counts from the start.
    with_frame(&mut core, &[("d", 1)]);
    assert_eq!(core.next_item(), Some((0, ("d", 1))));
}

#[test]
fn every_item_of_an_id_gets_one_result_and_other_content_is_refused_at_once() {
    let mut core = core(10);
    with_frame(&mut core, &[("a", 1), ("a", 1), ("a", 2), ("b", 2), ("a", 1)]);
    assert_eq!(admit(&mut core), ["a", "b"]);
    assert_eq!(core.in_flight(), 2);
    assert_eq!(results(&mut core), pairs(&[("a", "RequestIdReused")]));
    core.settle("a".into(), sent("ma"));
    assert_eq!(results(&mut core), pairs(&[("a", "ma"), ("a", "ma"), ("a", "ma")]));
    // Settled twice, as a bug or a late outcome would.
    core.settle("a".into(), sent("again"));
    assert!(results(&mut core).is_empty());
    // Once it is settled, the record decides what the id stands for.
    with_frame(&mut core, &[("a", 2)]);
    assert_eq!(admit(&mut core), ["a"]);
}

#[test]
fn each_item_takes_a_place_until_its_result_is_written_repeats_included() {
    let mut core = core(3);
    with_frame(&mut core, &[("a", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    assert_eq!(admit(&mut core), ["a", "b"], "two items of one id take two places");
    assert!(core.has_pending() && !core.wants_frame());
    core.settle("a".into(), sent("ma"));
    assert!(admit(&mut core).is_empty(), "a result that nobody has read takes a place");
    assert_eq!(results(&mut core).len(), 2);
    assert_eq!(admit(&mut core), ["c", "d"]);
    // Refused at once, and in its place all the same.
    with_frame(&mut core, &[("b", 2), ("e", 1)]);
    assert!(core.next_item().is_none());
    core.settle("b".into(), sent("mb"));
    assert_eq!(results(&mut core).len(), 1);
    assert_eq!(admit(&mut core), ["b"]);
}

#[test]
fn a_large_message_takes_more_places_until_its_last_result_is_written() {
    let mut core = core(5);
    with_frame(&mut core, &[("a", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
    for _ in 0..2 {
        let (_, (id, _)) = core.next_item().unwrap();
        let _admission = core.admit(id.into(), [1; 16]);
    }
    core.enlarge(&"a".into(), 2);
    core.enlarge(&"what".into(), 100);
    assert_eq!(admit(&mut core), ["b"], "five of five places are taken");
    core.settle("a".into(), sent("ma"));
    let bytes = RESULTS_FRAME_BYTES_MAX;
    assert_eq!(core.next_results(|_, _| bytes).len(), 1);
    assert_eq!(admit(&mut core), ["c"], "one of two results");
    assert_eq!(core.next_results(|_, _| bytes).len(), 1);
    assert_eq!(admit(&mut core), ["d", "e"]);
    // Given up, it keeps them as well.
    core.enlarge(&"b".into(), 2);
    core.give_up();
    while core.has_results() {
        results(&mut core);
    }
    assert_eq!((core.places_taken, core.end()), (0, Some(End::Draining)));
}

#[test]
fn what_is_shared_goes_back_as_results_are_written() {
    let shared = SharedRoom::default();
    let stream = || Core::new(Room::new(usize::MAX, shared.clone()));
    let (mut greedy, mut modest) = (stream(), stream());
    // Repeats take places too, so one id is enough.
    let items = vec![("a", 1); 2 * (BULK_ITEMS_OF_EACH + BULK_ITEMS_SHARED)];
    with_frame(&mut greedy, &items);
    with_frame(&mut modest, &items);
    admit(&mut greedy);
    admit(&mut modest);
    assert_eq!(greedy.places_taken, BULK_ITEMS_OF_EACH + BULK_ITEMS_SHARED);
    assert_eq!(modest.places_taken, BULK_ITEMS_OF_EACH);
    greedy.settle("a".into(), sent("m"));
    admit(&mut modest);
    assert_eq!(modest.places_taken, BULK_ITEMS_OF_EACH, "nothing has been written yet");
    while greedy.has_results() {
        results(&mut greedy);
    }
    admit(&mut modest);
    assert_eq!(modest.places_taken, BULK_ITEMS_OF_EACH + BULK_ITEMS_SHARED);
}

#[test]
fn frames_of_results_are_bounded_by_number_and_by_bytes() {
    let mut core = core(100_000);
    let repeats = vec![("a", 1); 2 * RESULTS_PER_FRAME_MAX + 1];
    with_frame(&mut core, &repeats);
    assert_eq!(admit(&mut core), ["a"]);
    core.settle("a".into(), sent("ma"));
    let mut lengths = Vec::new();
    while core.has_results() {
        lengths.push(results(&mut core).len());
    }
    assert_eq!(lengths, [RESULTS_PER_FRAME_MAX, RESULTS_PER_FRAME_MAX, 1]);
    let half = RESULTS_FRAME_BYTES_MAX / 2;
    // Bytes of a result, and how many results a frame then has.
    for (bytes, in_frame) in [(half, 2), (half + 1, 1), (RESULTS_FRAME_BYTES_MAX + 1, 1)] {
        with_frame(&mut core, &[("a", 1), ("b", 1), ("b", 1)]);
        admit(&mut core);
        core.settle("a".into(), sent("ma"));
        core.settle("b".into(), sent("mb"));
        let mut lengths = Vec::new();
        while core.has_results() {
            lengths.push(core.next_results(|_, _| bytes).len());
        }
        assert_eq!(lengths.iter().sum::<usize>(), 3);
        assert_eq!(lengths[0], in_frame, "{bytes}");
    }
}

#[test]
fn a_half_closed_stream_ends_with_its_counts_once_nothing_is_owed() {
    let mut core = core(10);
    assert_eq!(core.end(), None, "an open stream goes on");
    with_frame(&mut core, &[("a", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
    core.half_close();
    assert_eq!((core.end(), core.wants_frame()), (None, false));
    admit(&mut core);
    let error = || SendError::new(Reason::Internal, "x");
    core.settle("a".into(), Outcome::Sent(Receipt { replayed: true, ..receipt("ma") }));
    core.settle("b".into(), Outcome::Rejected(error()));
    core.settle("c".into(), Outcome::Failed(error()));
    core.settle("d".into(), Outcome::Unknown(error()));
    assert_eq!(core.end(), None);
    core.settle("e".into(), Outcome::NotSent(error()));
    assert_eq!(core.end(), None, "results are owed");
    assert_eq!(results(&mut core).len(), 6);
    let counts = Counts { sent: 2, rejected: 1, failed: 1, unknown: 1, not_sent: 1, replayed: 2 };
    assert_eq!(core.end(), Some(End::Complete(counts)));
    let mut empty = self::core(1);
    empty.half_close();
    assert_eq!(empty.end(), Some(End::Complete(Counts::default())));
}

#[test]
fn a_drain_refuses_what_was_read_and_finishes_what_is_in_flight() {
    for is_half_closed in [false, true] {
        let mut core = core(2);
        with_frame(&mut core, &[("a", 1), ("b", 1), ("a", 1), ("c", 1)]);
        assert_eq!(admit(&mut core), ["a", "b"]);
        if is_half_closed {
            core.half_close();
        }
        assert!(!core.is_draining());
        core.drain();
        core.half_close();
        assert!(core.is_draining() && !core.wants_frame());
        assert_eq!((core.end(), core.in_flight()), (None, 2));
        core.settle("a".into(), sent("ma"));
        assert_eq!(results(&mut core), pairs(&[("a", "ma")]));
        assert!(admit(&mut core).is_empty(), "nothing new is sent");
        assert_eq!(results(&mut core), pairs(&[("a", "Draining")]));
        assert!(admit(&mut core).is_empty());
        core.settle("b".into(), sent("mb"));
        assert_eq!(core.end(), None);
        assert_eq!(results(&mut core), pairs(&[("c", "Draining"), ("b", "mb")]));
        assert_eq!(core.end(), Some(End::Draining));
    }
}

#[test]
fn a_service_that_ends_tells_what_is_in_flight_as_unknown_once() {
    let mut core = core(10);
    with_frame(&mut core, &[("b", 1), ("a", 1), ("b", 1), ("c", 1)]);
    admit(&mut core);
    core.settle("c".into(), sent("mc"));
    core.give_up();
    assert_eq!((core.in_flight(), core.is_draining()), (0, true));
    core.settle("a".into(), sent("late"));
    let unknown = "OutcomeUnknown";
    assert_eq!(results(&mut core), pairs(&[("c", "mc"), ("a", unknown), ("b", unknown), ("b", unknown)]));
    core.give_up();
    assert_eq!((results(&mut core).len(), core.end()), (0, Some(End::Draining)));
}

/// Whatever comes in whatever order, each item that was taken gets exactly one result, and places are kept.
#[test]
fn histories_end_with_one_result_per_item() {
    const PLACES: usize = 7;
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let ids: Vec<&'static str> = ["a", "b", "c", "d", "e", "f"].to_vec();
        let (mut core, mut in_flight) = (core(PLACES), Vec::new());
        let (mut taken, mut told) = (HashMap::<String, i32>::new(), HashMap::<String, i32>::new());
        let mut held = 0;
        for step in 0.. {
            let is_ending = step > 60;
            match random.u8(0..10) {
                0 | 1 if core.wants_frame() && !is_ending => {
                    let frame =
                        (0..random.usize(0..9)).map(|_| (*random.choice(&ids).unwrap(), random.u8(0..2)));
                    let frame: Vec<_> = frame.collect();
                    with_frame(&mut core, &frame);
                }
                2..=4 => {
                    if let Some((_, (id, content))) = core.next_item() {
                        *taken.entry(id.to_owned()).or_default() += 1;
                        held += 1;
                        if core.admit(id.into(), [content; 16]) == Admission::Queue {
                            in_flight.push(id);
                        }
                    }
                }
                5 | 6 if !in_flight.is_empty() => {
                    let id = in_flight.swap_remove(random.usize(0..in_flight.len()));
                    core.settle(id.into(), sent("m"));
                }
                7 | 8 => {
                    for (id, _) in core.next_results(|_, _| 1) {
                        *told.entry(id.to_string()).or_default() += 1;
                        held -= 1;
                    }
                }
                9 if is_ending => match random.u8(0..4) {
                    0 => core.drain(),
                    1 => core.give_up(),
                    _ => core.half_close(),
                },
                _ => {}
            }
            assert!(held <= PLACES, "seed {seed}");
            if core.end().is_some() {
                break;
            }
            assert!(step < 100_000, "seed {seed} does not end");
        }
        assert_eq!((taken, held), (told, 0), "seed {seed}");
    }
}
