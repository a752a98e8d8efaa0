#[path = "../../../tests/it/ledger_model/model.rs"]
mod model;

use std::time::Duration;

use proptest::prelude::*;

use self::model::{End, Model, Row as ModelRow, Step, steps};
use super::*;
use crate::error::{Reason, Receipt, SendError};
use crate::ledger::{Demand, PageState, RunId, Ticket};

fn key(id: u8) -> Key {
    Key { page_id: "page".into(), bulk_id: "bulk".into(), id: id.to_string().into() }
}

fn outcome_of(end: End) -> Outcome {
    match end {
        End::Sent => Outcome::Sent(Receipt {
            message_id: "m".to_owned(),
            recipient_id: String::new(),
            attachment_id: String::new(),
            replayed: true,
            attempts: 1,
            sent_time: from_ms(1000),
        }),
        End::Failed => Outcome::Failed(SendError::new(Reason::GraphRejected, "no")),
        End::Unknown => Outcome::unknown("no answer"),
        End::NotSent => Outcome::not_sent(Reason::Expired, "too late"),
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent(_) => "sent",
        Outcome::Failed(_) => "failed",
        Outcome::Unknown(_) => "unknown",
        Outcome::Rejected(_) | Outcome::NotSent(_) => panic!("never recorded: {outcome:?}"),
    }
}

/// Does one step to both and compares what claims find.
fn step(
    ledger: &mut MemoryLedger,
    owner: &mut i64,
    model: &mut Model,
    tickets: &mut Vec<(u8, Ticket)>,
    step: Step,
) {
    match step {
        Step::Claim(ids, run) => {
            let claim = |&(id, is_other): &(u8, bool)| Claim {
                key: key(id),
                fingerprint: [u8::from(is_other); 16],
                resend: run.map(|run| RunId::of(&run.to_string())),
            };
            let claims: Vec<_> = ids.iter().map(claim).collect();
            let claimed = ledger.claim(&claims, *owner, 0).unwrap();
            for ((id, is_other), claimed) in ids.into_iter().zip(claimed) {
                let found = match &claimed {
                    Claimed::New(_) => "new",
                    Claimed::Settled(outcome) => name(outcome),
                    Claimed::InProgress => "in progress",
                    Claimed::Reused => "reused",
                };
                assert_eq!(found, model.claim(id, is_other, run), "id {id}");
                if let Claimed::New(ticket) = claimed {
                    tickets.push((id, ticket));
                }
            }
        }
        Step::Settle(ends) => {
            for (index, end) in ends {
                if !tickets.is_empty() {
                    let (id, ticket) = tickets.swap_remove(index.index(tickets.len()));
                    model.settle(id, end);
                    ledger.settle(&[Settlement::new(ticket, &outcome_of(end))]);
                }
            }
        }
        Step::Restart => {
            ledger.crash_owner(*owner);
            *owner = ledger.open();
            tickets.clear();
            model.restart();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_in_memory_is_as_the_model(steps in steps()) {
        let (mut ledger, mut model, mut tickets) = (MemoryLedger::default(), Model::default(), Vec::new());
        let mut owner = ledger.open();
        for one in steps {
            step(&mut ledger, &mut owner, &mut model, &mut tickets, one);
        }
        for (id, (_, row)) in &model.rows {
            let found = ledger.outcome(&key(*id)).map(|outcome| name(&outcome));
            let expected = match row {
                ModelRow::Ended(outcome) => Some(*outcome),
                ModelRow::Claimed { .. } => None,
            };
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(ledger.messages().count(), model.rows.len());
    }
}

fn ask(wanted: f64, standing: Option<PageStanding>) -> Ask {
    let demand = Demand { rate: 300.0, wanted, in_use: 0.0 };
    Ask { page_id: "page".into(), demands: [None, Some(demand)], standing, version: 0 }
}

/// What a replica gets that wants all, and is using some of it.
fn rate(ledger: &mut MemoryLedger, owner: i64, in_use: f64, now_ms: i64) -> f64 {
    let demand = Demand { rate: 300.0, wanted: 300.0, in_use };
    let ask = Ask { demands: [None, Some(demand)], ..ask(0.0, None) };
    ledger.share(owner, &[ask], now_ms).remove(0).rates[1].unwrap()
}

#[test]
fn shares_end_with_their_lease_and_are_not_given_twice_after_a_crash_of_the_database() {
    let mut ledger = MemoryLedger::default();
    let (one, other) = (ledger.open(), ledger.open());
    let window_ms = millis(RATE_WINDOW);
    assert_eq!((rate(&mut ledger, one, 0.0, 0), rate(&mut ledger, other, 0.0, 0)), (300.0, 0.0));
    assert_eq!(rate(&mut ledger, one, 300.0, 500), 150.0);
    assert_eq!(rate(&mut ledger, one, 150.0, 1000), 150.0);
    for (now_ms, expected) in [(500, 0.0), (1000 + window_ms - 1, 0.0), (1000 + window_ms, 150.0)] {
        assert_eq!(rate(&mut ledger, other, 0.0, now_ms), expected, "at {now_ms}");
    }
    ledger.crash_owner(one);
    let ended_ms = 1000 + millis(SHARE_LEASE) + window_ms;
    assert_eq!(rate(&mut ledger, other, 150.0, ended_ms - 1), 150.0);
    assert_eq!(rate(&mut ledger, other, 150.0, ended_ms), 300.0);
    ledger.crash_database(9000);
    let (late, safe_ms) = (ledger.open(), 9000 + millis(SHARE_LEASE) + window_ms);
    assert_eq!(rate(&mut ledger, late, 0.0, safe_ms - 1), 0.0);
    assert_eq!(rate(&mut ledger, late, 0.0, safe_ms), 300.0);
}

#[test]
fn a_standing_is_heard_by_all_others_once() {
    let mut ledger = MemoryLedger::default();
    let (one, other) = (ledger.open(), ledger.open());
    let paused = PageStanding {
        state: PageState::Paused,
        error: Some(SendError::new(Reason::RateLimited, "slow down")),
        wait: Duration::from_secs(10),
        since: from_ms(0),
        token: [1; 8],
    };
    assert!(ledger.share(one, &[ask(1.0, Some(paused))], 0).remove(0).standing.is_none(), "it knows");
    let grant = ledger.share(other, &[ask(1.0, None)], 4000).remove(0);
    assert_eq!(grant.standing.map(|standing| standing.wait), Some(Duration::from_secs(6)));
    let again = Ask { version: grant.version, ..ask(1.0, None) };
    assert!(ledger.share(other, &[again], 4500).remove(0).standing.is_none());
}

#[test]
fn a_stale_copy_does_not_know_what_was_claimed_since() {
    let mut ledger = MemoryLedger::default();
    let owner = ledger.open();
    let stale = ledger.clone();
    let late = ledger.open();
    let claim = || Claim { key: key(1), fingerprint: [0; 16], resend: None };
    let before = ledger.claim(&[claim()], owner, 0).unwrap();
    ledger = stale;
    assert!(!ledger.is_owner(late) && ledger.claim(&[claim()], late, 0).is_err());
    let after = ledger.claim(&[claim()], owner, 0).unwrap();
    let (Claimed::New(before), Claimed::New(after)) = (&before[0], &after[0]) else { panic!("not new") };
    assert_ne!(before.claim, after.claim, "a settlement of the one is none of the other");
}

#[test]
fn what_is_old_is_forgotten_but_not_what_is_in_progress() {
    let mut ledger = MemoryLedger::default();
    let owner = ledger.open();
    let claims: Vec<_> =
        (0..3).map(|id| Claim { key: key(id), fingerprint: [0; 16], resend: None }).collect();
    for (claim, claimed) in claims.iter().zip([0, 0, 10]) {
        let claimed = ledger.claim(std::slice::from_ref(claim), owner, claimed).unwrap().remove(0);
        if let Claimed::New(ticket) = claimed
            && claim.key != key(1)
        {
            ledger.settle(&[Settlement::new(ticket, &outcome_of(End::Failed))]);
        }
    }
    ledger.sweep(10);
    let found = ledger.on_record(&claims);
    assert!(
        matches!(found[..], [None, Some(Claimed::InProgress), Some(Claimed::Settled(Outcome::Failed(_)))]),
        "{found:?}"
    );
    let bulk = ledger.bulk("page", "bulk").unwrap();
    assert_eq!((bulk.sent, bulk.failed, bulk.unknown, bulk.in_flight), (0, 1, 0, 1));
    assert_eq!(bulk.create_time, from_ms(0));
}
