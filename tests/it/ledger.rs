//! The ledger keeps its promises, whichever database holds it: every test runs on SQLite and on Postgres.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use messenger_connector::error::{GraphError, Outcome, Reason, Receipt, SendError};
use messenger_connector::ledger::{Claim, Claimed, Key, Ledger, RunId, Settlement, Ticket};

use crate::ledger_place::{Place, on_both_stores};

pub fn key(id: &str) -> Key {
    Key { page_id: "page".into(), bulk_id: "bulk".into(), id: id.into() }
}

pub fn claim(id: &str) -> Claim {
    Claim { key: key(id), fingerprint: [1; 16], resend: None }
}

pub fn resend(id: &str) -> Claim {
    resend_in("a run", id)
}

fn resend_in(run: &str, id: &str) -> Claim {
    Claim { resend: Some(RunId::of(run)), ..claim(id) }
}

pub async fn claim_one(ledger: &Ledger, claim: Claim) -> Claimed {
    let mut claimed = ledger.claim(vec![claim]).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

pub fn ticket(claimed: Claimed) -> Ticket {
    let Claimed::New(ticket) = claimed else { panic!("not new: {claimed:?}") };
    ticket
}

pub fn outcome(claimed: Claimed) -> Outcome {
    let Claimed::Settled(outcome) = claimed else { panic!("not settled: {claimed:?}") };
    outcome
}

pub fn is_new(claimed: &Claimed) -> bool {
    matches!(claimed, Claimed::New(_))
}

pub async fn settle(ledger: &Ledger, ticket: Ticket, outcome: &Outcome) {
    ledger.settle(vec![Settlement::new(ticket, outcome)]).await.unwrap();
}

/// What becomes of a message, whose row then reads as [`recorded`].
pub fn sent(message_id: &str) -> Outcome {
    Outcome::Sent(Receipt {
        message_id: message_id.to_owned(),
        recipient_id: "5512".to_owned(),
        attachment_id: String::new(),
        replayed: false,
        attempts: 1,
        sent_time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_000_000_123),
    })
}

/// A receipt as the ledger gives it back.
pub fn recorded(outcome: Outcome) -> Outcome {
    let Outcome::Sent(receipt) = outcome else { panic!("only receipts come back whole: {outcome:?}") };
    Outcome::Sent(Receipt { recipient_id: String::new(), replayed: true, ..receipt })
}

pub fn failed() -> Outcome {
    let graph = GraphError {
        code: 10,
        subcode: 2_018_278,
        kind: "OAuthException".to_owned(),
        message: "no hay ventana".to_owned(),
        fbtrace_id: "AbC".to_owned(),
        user_title: "title".to_owned(),
        user_message: "message".to_owned(),
    };
    let error = SendError::new(Reason::OutsideWindow, "outside the window");
    Outcome::Failed(SendError { graph: Some(Box::new(graph)), ..error })
}

on_both_stores! {
    a_message_is_claimed_once_and_then_has_its_outcome
    another_request_under_the_same_key_is_refused
    a_release_makes_the_message_new_again
    every_outcome_comes_back_without_content
    an_unknown_message_is_sent_again_only_if_asked
    a_run_sends_again_only_what_it_did_not_send_itself
    a_group_is_answered_message_by_message
    a_key_twice_in_a_group_is_claimed_once
    of_many_who_claim_at_once_exactly_one_gets_each_message
    what_a_process_left_claimed_is_unknown_to_the_next
    only_the_latest_claim_can_be_settled
    a_caller_that_leaves_has_claimed_nothing
    ids_may_hold_any_character_but_nul
}

async fn a_message_is_claimed_once_and_then_has_its_outcome(place: Place) {
    let ledger = place.open().await;
    let first = ticket(claim_one(&ledger, claim("a")).await);
    assert!(matches!(claim_one(&ledger, claim("a")).await, Claimed::InProgress));
    settle(&ledger, first, &sent("m_1")).await;
    assert_eq!(outcome(claim_one(&ledger, claim("a")).await), recorded(sent("m_1")));
    assert_eq!(outcome(claim_one(&ledger, resend("a")).await), recorded(sent("m_1")), "it is not unknown");

    let unary = Claim { key: Key { bulk_id: "".into(), ..key("a") }, ..claim("a") };
    let other_page = Claim { key: Key { page_id: "other".into(), ..key("a") }, ..claim("a") };
    let others = ledger.claim(vec![unary, other_page]).await.unwrap();
    assert!(others.iter().all(is_new), "the same id in another bulk or page is another message: {others:?}");
}

async fn another_request_under_the_same_key_is_refused(place: Place) {
    let ledger = place.open().await;
    let other = || Claim { fingerprint: [2; 16], ..resend("a") };
    let first = ticket(claim_one(&ledger, claim("a")).await);
    assert!(matches!(claim_one(&ledger, other()).await, Claimed::Reused));
    settle(&ledger, first, &Outcome::unknown("no answer")).await;
    assert!(matches!(claim_one(&ledger, other()).await, Claimed::Reused));
}

async fn a_release_makes_the_message_new_again(place: Place) {
    let ledger = place.open().await;
    for outcome in [
        Outcome::not_sent(Reason::Expired, "too late"),
        Outcome::Rejected(SendError::violation("text", "is empty")),
    ] {
        let first = ticket(claim_one(&ledger, claim("a")).await);
        settle(&ledger, first, &outcome).await;
    }
    let other = Claim { fingerprint: [2; 16], ..claim("a") };
    assert!(
        is_new(&claim_one(&ledger, other).await),
        "even with another request: nothing is left of the first"
    );
}

async fn every_outcome_comes_back_without_content(place: Place) {
    let ledger = place.open().await;
    let Outcome::Sent(receipt) = sent("m_\u{1f600}\"\\") else { panic!() };
    let with_everything = Outcome::Sent(Receipt { attachment_id: "77".into(), attempts: 3, ..receipt });
    let plain = Outcome::Failed(SendError::new(Reason::GraphRejected, "no"));
    let outcomes =
        [with_everything.clone(), sent(""), failed(), plain, Outcome::unknown("timed out on 5512")];
    let claims = (0..outcomes.len()).map(|number| claim(&number.to_string()));
    let claimed = ledger.claim(claims.clone().collect()).await.unwrap();
    let pairs = claimed.into_iter().zip(&outcomes);
    ledger.settle(pairs.map(|(new, outcome)| Settlement::new(ticket(new), outcome)).collect()).await.unwrap();

    let mut found = ledger.claim(claims.collect()).await.unwrap().into_iter().map(outcome);
    assert_eq!(found.next().unwrap(), recorded(with_everything));
    assert_eq!(found.next().unwrap(), recorded(sent("")));
    let Outcome::Failed(error) = found.next().unwrap() else { panic!() };
    let graph = GraphError {
        code: 10,
        subcode: 2_018_278,
        kind: "OAuthException".to_owned(),
        fbtrace_id: "AbC".to_owned(),
        ..GraphError::default()
    };
    assert_eq!((error.reason, error.graph.as_deref()), (Reason::OutsideWindow, Some(&graph)));
    assert!(error.message.contains("code 10, subcode 2018278"), "{error}");
    let Outcome::Failed(error) = found.next().unwrap() else { panic!() };
    assert_eq!((error.reason, error.graph), (Reason::GraphRejected, None));
    let Outcome::Unknown(error) = found.next().unwrap() else { panic!() };
    assert_eq!(error.reason, Reason::OutcomeUnknown);
    assert!(!error.message.contains("5512"), "our own sentences are not stored: {error}");
}

async fn an_unknown_message_is_sent_again_only_if_asked(place: Place) {
    let ledger = place.open().await;
    let is_unknown = |outcome| matches!(outcome, Outcome::Unknown(_));
    let first = ticket(claim_one(&ledger, claim("a")).await);
    settle(&ledger, first, &Outcome::unknown("no answer")).await;
    assert!(is_unknown(outcome(claim_one(&ledger, claim("a")).await)));

    let again = ticket(claim_one(&ledger, resend("a")).await);
    assert!(matches!(claim_one(&ledger, resend("a")).await, Claimed::InProgress));
    settle(&ledger, again, &Outcome::not_sent(Reason::Expired, "too late")).await;
    let found = outcome(claim_one(&ledger, claim("a")).await);
    assert!(is_unknown(found), "the first attempt may still have been sent");

    let third = ticket(claim_one(&ledger, resend("a")).await);
    settle(&ledger, third, &sent("m_3")).await;
    assert_eq!(outcome(claim_one(&ledger, resend("a")).await), recorded(sent("m_3")));
}

async fn a_run_sends_again_only_what_it_did_not_send_itself(place: Place) {
    let ledger = place.open().await;
    let unknown = Outcome::unknown("no answer");
    let is_unknown = |claimed| matches!(outcome(claimed), Outcome::Unknown(_));
    settle(&ledger, ticket(claim_one(&ledger, resend_in("first", "a")).await), &unknown).await;
    let claims = ["first", "second"].map(|run| resend_in(run, "a"));
    let found = ledger.look_up(&claims).await.unwrap();
    assert!(matches!(found[..], [Some(Claimed::Settled(Outcome::Unknown(_))), None]), "{found:?}");
    assert!(is_unknown(claim_one(&ledger, resend_in("first", "a")).await));

    let left = ticket(claim_one(&ledger, resend_in("second", "a")).await);
    ledger.close().await;
    let ledger = place.open().await;
    assert!(is_unknown(claim_one(&ledger, resend_in("second", "a")).await), "a crash is no decision");
    drop(left);

    assert!(is_unknown(claim_one(&ledger, resend_in("first", "a")).await), "a run that is over");
    let released = ticket(claim_one(&ledger, resend_in("third", "a")).await);
    settle(&ledger, released, &Outcome::not_sent(Reason::Draining, "later")).await;
    assert!(is_unknown(claim_one(&ledger, claim("a")).await));
    assert!(is_new(&claim_one(&ledger, resend_in("third", "a")).await), "it has not sent it yet");
}

async fn a_group_is_answered_message_by_message(place: Place) {
    let ledger = place.open().await;
    let group = |ids: std::ops::Range<usize>| ids.map(|id| claim(&id.to_string())).collect::<Vec<_>>();
    let claimed = ledger.claim(group(0..1000)).await.unwrap();
    assert!(claimed.iter().all(is_new));
    let mut held = Vec::new();
    let settlements = claimed.into_iter().enumerate().filter_map(|(id, claimed)| {
        let outcome = match id % 5 {
            0 => sent(&id.to_string()),
            1 => failed(),
            2 => Outcome::unknown("no answer"),
            3 => Outcome::not_sent(Reason::Draining, "later"),
            _ => {
                held.push(claimed);
                return None;
            }
        };
        Some(Settlement::new(ticket(claimed), &outcome))
    });
    ledger.settle(settlements.collect()).await.unwrap();
    for (id, claimed) in ledger.claim(group(0..1500)).await.unwrap().into_iter().enumerate() {
        let is_right = match (&claimed, id % 5) {
            (Claimed::Settled(outcome), 0) => *outcome == recorded(sent(&id.to_string())),
            (Claimed::Settled(Outcome::Failed(_)), 1) | (Claimed::Settled(Outcome::Unknown(_)), 2) => true,
            (Claimed::New(_), 3) | (Claimed::InProgress, 4) => true,
            _ => false,
        };
        assert!(is_right || id >= 1000 && is_new(&claimed), "{id}: {claimed:?}");
    }
}

async fn a_key_twice_in_a_group_is_claimed_once(place: Place) {
    let ledger = place.open().await;
    let other = Claim { fingerprint: [2; 16], ..claim("a") };
    let claimed = ledger.claim(vec![claim("a"), claim("b"), other, claim("a")]).await.unwrap();
    assert!(
        matches!(claimed[..], [Claimed::New(_), Claimed::New(_), Claimed::Reused, Claimed::InProgress]),
        "{claimed:?}"
    );
    let settlements = claimed.into_iter().take(2).map(ticket);
    let unknown = Outcome::unknown("no answer");
    ledger.settle(settlements.map(|ticket| Settlement::new(ticket, &unknown)).collect()).await.unwrap();
    let claimed = ledger.claim(vec![claim("a"), resend("a"), resend("a")]).await.unwrap();
    assert!(
        matches!(claimed[..], [Claimed::Settled(_), Claimed::New(_), Claimed::InProgress]),
        "{claimed:?}"
    );
}

async fn of_many_who_claim_at_once_exactly_one_gets_each_message(place: Place) {
    let ledger = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut new = 0;
            for group in 0..10 {
                let mut claims: Vec<_> = (0..40).map(|id| claim(&format!("{group}-{id}"))).collect();
                claims.rotate_left(task);
                new += ledger.claim(claims).await.unwrap().iter().filter(|claimed| is_new(claimed)).count();
            }
            new
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 400);
}

async fn what_a_process_left_claimed_is_unknown_to_the_next(place: Place) {
    let ledger = place.open().await;
    let mut claimed = ledger.claim(vec![claim("sent"), claim("left"), claim("twice")]).await.unwrap();
    let twice = ticket(claimed.pop().unwrap());
    settle(&ledger, twice, &Outcome::unknown("no answer")).await;
    let _held = ticket(claim_one(&ledger, resend("twice")).await);
    settle(&ledger, ticket(claimed.remove(0)), &sent("m_1")).await;
    ledger.close().await;
    assert!(
        ledger.claim(vec![claim("new")]).await.unwrap_err().to_string().ends_with("the ledger is closed")
    );

    let ledger = place.open().await;
    for id in ["left", "twice"] {
        let found = outcome(claim_one(&ledger, claim(id)).await);
        assert!(matches!(found, Outcome::Unknown(_)), "{id}: {found:?}");
    }
    assert_eq!(outcome(claim_one(&ledger, claim("sent")).await), recorded(sent("m_1")));
    assert!(is_new(&claim_one(&ledger, resend("left")).await));
    assert!(is_new(&claim_one(&ledger, claim("new")).await), "nothing was claimed after closing");
}

async fn only_the_latest_claim_can_be_settled(place: Place) {
    let ledger = place.open().await;
    let stale = [ticket(claim_one(&ledger, claim("a")).await), ticket(claim_one(&ledger, claim("b")).await)];
    ledger.close().await;
    let ledger = place.open().await;
    let [latest, _] = &ledger.claim(vec![resend("a"), resend("b")]).await.unwrap()[..] else { panic!() };
    assert!(is_new(latest));
    let [first, second] = stale;
    settle(&ledger, first, &failed()).await;
    settle(&ledger, second, &Outcome::not_sent(Reason::Expired, "too late")).await;
    let claimed = ledger.claim(vec![claim("a"), claim("b")]).await.unwrap();
    assert!(matches!(claimed[..], [Claimed::InProgress, Claimed::InProgress]), "{claimed:?}");
}

async fn a_caller_that_leaves_has_claimed_nothing(place: Place) {
    let ledger = place.open().await;
    let mut leaving = Box::pin(ledger.claim(vec![claim("a")]));
    assert!(futures_util::poll!(&mut leaving).is_pending(), "it waits for the answer");
    drop(leaving);
    let release = async { while !is_new(&claim_one(&ledger, claim("a")).await) {} };
    tokio::time::timeout(Duration::from_secs(10), release).await.expect("it is released");
}

async fn ids_may_hold_any_character_but_nul(place: Place) {
    let ledger = place.open().await;
    let ids =
        ["", "\"", "'; --", "\\u0041", "{\"a\":[1]}", "ü😀", "\u{1}\t\n\u{7f}\u{2028}", &"😀".repeat(128)];
    let keys = ids.map(|id| {
        let part: Arc<str> = id.into();
        Key { page_id: part.clone(), bulk_id: part.clone(), id: part }
    });
    let claims = || keys.clone().map(|key| Claim { key, ..claim("") }).to_vec();
    let claimed = ledger.claim(claims()).await.unwrap();
    let settlements = claimed.into_iter().zip(ids).map(|(new, id)| Settlement::new(ticket(new), &sent(id)));
    ledger.settle(settlements.collect()).await.unwrap();
    for (claimed, id) in ledger.claim(claims()).await.unwrap().into_iter().zip(ids) {
        assert_eq!(outcome(claimed), recorded(sent(id)), "{id:?}");
    }
    let error = ledger.claim(vec![claim("a"), claim("b\0")]).await.unwrap_err();
    assert_eq!(error.to_string(), "an id has a nul character, which no database takes");
    let nul = sent("m\0_1");
    settle(&ledger, ticket(claim_one(&ledger, claim("a")).await), &nul).await;
    assert_eq!(
        outcome(claim_one(&ledger, claim("a")).await),
        recorded(sent("m_1")),
        "nothing was claimed before"
    );
}
