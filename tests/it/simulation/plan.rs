//! What a seed decides: the audience, the callers, the ends of the service.

use std::time::Duration;

use messenger_connector::api::pb;
use messenger_connector::api::pb::bulk_start::OnUnknown;

use crate::caller::Habits;
use crate::harness::{item, text_action};
use crate::random::Random;

/// Recipients that strike their own message only.
const MESSAGE_FAULTS: [&str; 6] =
    ["maybe-1357046", "server-500", "no-id", "null-in-batch", "transient-1", "fail-551"];
/// A recipient that makes the whole page pause for a second.
const PAGE_FAULT: &str = "throttle-1";
/// Recipients that strike the whole call.
const CALL_FAULTS: [&str; 3] = ["reset-before", "reset-after", "reset-in-body"];

#[derive(Debug)]
pub struct Plan {
    pub items: Vec<pb::BulkItem>,
    pub callers: Vec<Habits>,
    pub stops: Vec<Stop>,
    pub in_flight_max: usize,
    pub latency_ms: u64,
    /// Threads of the service.
    pub threads: usize,
    /// No fault makes an outcome unknown: only a crash can.
    pub is_calm: bool,
}

/// An end of the service.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub when: Moment,
    pub how: End,
}

#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// So many more items have their result.
    Results(usize),
    /// So long after the service began to listen.
    After(Duration),
    /// Graph has got a call, and will not answer it.
    InCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything vanishes, wherever it is.
    Crash,
    Drain,
}

impl Plan {
    pub fn new(random: &mut Random) -> Self {
        let is_calm = random.chance(50);
        let items = items(random, is_calm);
        let mut callers = Vec::new();
        for _ in 0..random.pick(&[1, 2, 2, 3]) {
            callers.push(Habits {
                frame_items_max: random.pick(&[1, 10, 100, 500]),
                window: random.pick(&[5, 100, 5000]),
                cancels: random.below(4),
                on_unknown: OnUnknown::Report,
            });
        }
        let stops = (0..random.below(7)).map(|_| stop(random, items.len())).collect();
        Self {
            callers,
            stops,
            in_flight_max: random.pick(&[1, 7, 60, 500, 5000]),
            latency_ms: random.pick(&[0, 0, 1, 3]),
            threads: random.pick(&[1, 2]),
            is_calm,
            items,
        }
    }
}

fn stop(random: &mut Random, items: usize) -> Stop {
    let when = match random.below(3) {
        0 => Moment::Results(random.below(items)),
        1 => Moment::After(Duration::from_micros(random.below(30_000) as u64)),
        _ => Moment::InCall,
    };
    let may_drain = !matches!(when, Moment::InCall);
    Stop { when, how: if may_drain && random.chance(20) { End::Drain } else { End::Crash } }
}

/// An audience in which people occur twice, items occur twice, and trouble is common.
fn items(random: &mut Random, is_calm: bool) -> Vec<pb::BulkItem> {
    let count = 50 + random.below(350);
    let mut items: Vec<pb::BulkItem> = Vec::with_capacity(count);
    let is_throttled = random.chance(30);
    for n in 0..count {
        let item_id = format!("item-{n}");
        let person = random.below(count);
        // It takes the other messages of its call with it, so few are enough.
        let strikes_call = !is_calm && random.below(count) < 3;
        let strikes_page = is_throttled && random.below(count) == 0;
        let mut new = match random.below(100) {
            0..3 if n > 0 => items[random.below(n)].clone(),
            3..5 => pb::BulkItem { item_id, ..Default::default() },
            5..8 => item(&item_id, &format!("slow-20.{person}")),
            _ if strikes_call => item(&item_id, &format!("{}.{person}", random.pick(&CALL_FAULTS))),
            _ if strikes_page => item(&item_id, &format!("{PAGE_FAULT}.{person}")),
            8..30 => {
                let known = if is_calm { &MESSAGE_FAULTS[4..] } else { &MESSAGE_FAULTS[..] };
                item(&item_id, &format!("{}.{person}", random.pick(known)))
            }
            _ => item(&item_id, &format!("{person}")),
        };
        new.action = Some(text_action(&new.item_id).into());
        items.push(new);
    }
    items
}
