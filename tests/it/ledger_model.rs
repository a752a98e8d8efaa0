//! Whatever is done to a ledger, in any order, it answers as a simple map in memory would.

mod model;

use std::sync::Arc;

use messenger_connector::error::{Outcome, Reason};
use messenger_connector::ledger::{
    BulkRecord, Claim, Claimed, Key, Ledger, ResultsQuery, RunId, Settlement, Ticket,
};
use proptest::prelude::*;

use model::{End, Model, Row, Step, steps};

use crate::ledger::{failed, recorded, sent};
use crate::ledger_place::Place;

fn outcome(end: End) -> Outcome {
    match end {
        End::Sent => sent("m"),
        End::Failed => failed(),
        End::Unknown => Outcome::unknown("no answer"),
        End::NotSent => Outcome::not_sent(Reason::Expired, "too late"),
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sent(_) => {
            assert_eq!(*outcome, recorded(sent("m")));
            "sent"
        }
        Outcome::Failed(_) => "failed",
        Outcome::Unknown(_) => "unknown",
        Outcome::Rejected(_) | Outcome::NotSent(_) => panic!("never recorded: {outcome:?}"),
    }
}

/// Does the steps to a bulk of its own and to the model.
async fn run(place: &Place, bulk: usize, steps: Vec<Step>) {
    let bulk_id: Arc<str> = format!("bulk-{bulk}").into();
    let key = |id: u8| Key { page_id: "page".into(), bulk_id: bulk_id.clone(), id: id.to_string().into() };
    let mut ledger = place.open().await;
    let mut model = Model::default();
    let mut tickets: Vec<(u8, Ticket)> = Vec::new();
    for step in steps {
        match step {
            Step::Claim(ids, run) => {
                let claim = |&(id, is_other): &(u8, bool)| Claim {
                    key: key(id),
                    fingerprint: [u8::from(is_other); 16],
                    resend: run.map(|run| RunId::of(&run.to_string())),
                };
                let claimed = ledger.claim(ids.iter().map(claim).collect()).await.unwrap();
                assert_eq!(claimed.len(), ids.len());
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
                let mut settlements = Vec::new();
                for (index, end) in ends {
                    if !tickets.is_empty() {
                        let (id, ticket) = tickets.swap_remove(index.index(tickets.len()));
                        model.settle(id, end);
                        settlements.push(Settlement::new(ticket, &outcome(end)));
                    }
                }
                ledger.settle(settlements).await.unwrap();
            }
            Step::Restart => {
                ledger.close().await;
                ledger = place.open().await;
                tickets.clear();
                model.restart();
            }
        }
    }
    compare(&ledger, &bulk_id, &model).await;
    ledger.close().await;
}

/// Counts and results must be the model's as well.
async fn compare(ledger: &Ledger, bulk_id: &str, model: &Model) {
    let count = |wanted| model.rows.values().filter(|(_, row)| *row == Row::Ended(wanted)).count() as u64;
    let expected = [count("sent"), count("failed"), count("unknown"), model.rows.len() as u64];
    let bulk = ledger.bulk("page", bulk_id).await.unwrap();
    let found = bulk.map_or([0; 4], |BulkRecord { sent, failed, unknown, in_flight, .. }| {
        [sent, failed, unknown, sent + failed + unknown + in_flight]
    });
    assert_eq!(found, expected);
    let query = ResultsQuery {
        page_id: "page".to_owned(),
        bulk_id: bulk_id.to_owned(),
        state: None,
        after: String::new(),
        limit: 100,
    };
    let results = ledger.results(&query).await.unwrap().results;
    let found: Vec<_> = results.iter().map(|(id, outcome)| (id.parse().unwrap(), name(outcome))).collect();
    let ended = model.rows.iter().filter_map(|(id, (_, row))| match row {
        Row::Ended(outcome) => Some((*id, *outcome)),
        Row::Claimed { .. } => None,
    });
    let mut expected: Vec<(u8, _)> = ended.collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

fn check(cases: u32, runtime: &tokio::runtime::Runtime, place: &Place) {
    let bulk = std::cell::Cell::new(0);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        bulk.set(bulk.get() + 1);
        runtime.block_on(run(place, bulk.get(), steps));
    });
}

#[test]
fn sqlite_is_as_the_model() {
    check(64, &tokio::runtime::Runtime::new().unwrap(), &Place::sqlite());
}

#[test]
fn postgres_is_as_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = runtime.block_on(Place::postgres());
    check(32, &runtime, &place);
}
