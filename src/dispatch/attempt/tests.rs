use std::sync::Arc;

use tokio::sync::oneshot;

use super::*;
use crate::dispatch::queued::Reply;
use crate::graph::response::{Accepted, Refusal};
use crate::graph::usage::Usage;
use crate::ledger::{Claim, Key};
use crate::message::{Action, Options, SenderAction};

fn message(person: u64) -> Message {
    Message {
        recipient: Recipient::Id(person.to_string()),
        options: Arc::new(Options::default()),
        action: Arc::new(Action::SenderAction(SenderAction::TypingOn)),
    }
}

fn claim(id: &str) -> Claim {
    let key = Key { page_id: "1".into(), bulk_id: "b".into(), id: id.into() };
    Claim { key, fingerprint: [0; 16], resend: None }
}

fn unary(
    person: u64,
    claim: Option<Claim>,
    deadline: Option<Instant>,
) -> (Queued, oneshot::Receiver<Outcome>) {
    let (sender, receiver) = oneshot::channel();
    let queued = Queued::new(message(person), claim, Source::Unary, deadline, Reply::to_unary(sender));
    (Queued { recipient: person, ..queued }, receiver)
}

fn bulk(person: u64, deadline: Option<Instant>) -> Queued {
    let (sender, _) = tokio::sync::mpsc::unbounded_channel();
    let reply = Reply::to_bulk(person.to_string().into(), sender);
    let queued =
        Queued::new(message(person), Some(claim(&person.to_string())), Source::Bulk(1), deadline, reply);
    Queued { recipient: person, ..queued }
}

fn reason(outcome: &Outcome) -> Reason {
    match outcome {
        Outcome::NotSent(error)
        | Outcome::Failed(error)
        | Outcome::Unknown(error)
        | Outcome::Rejected(error) => error.reason,
        Outcome::Sent(_) => panic!("it was sent"),
    }
}

#[test]
fn what_nobody_waits_for_and_what_is_late_is_not_sent() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let (waits, _caller) = unary(1, None, Some(now + second));
    let (late, _late_caller) = unary(2, None, Some(now));
    let (left, _) = unary(3, None, None);
    // A bulk's stream that has gone is told to the lane, which drops what waits of it.
    let mut messages = vec![waits, late, left, bulk(4, None), bulk(5, Some(now - second))];
    let unwanted = take_unwanted(&mut messages, now);
    let people = |messages: &[Queued]| messages.iter().map(|queued| queued.recipient).collect::<Vec<_>>();
    assert_eq!(people(&messages), [1, 4]);
    let told: Vec<_> = unwanted.iter().map(|(queued, outcome)| (queued.recipient, reason(outcome))).collect();
    assert_eq!(told, [(2, Reason::Expired), (3, Reason::Expired), (5, Reason::Expired)]);
    let cleared = messages.into_iter().map(|queued| Cleared { queued, ticket: None }).collect();
    let (in_time, ends) = split_late(cleared, now + second);
    assert_eq!(in_time.iter().map(|cleared| cleared.queued.recipient).collect::<Vec<_>>(), [4]);
    let ended: Vec<_> =
        ends.iter().map(|end| (end.queued.recipient, reason(&end.outcome), end.retry)).collect();
    assert_eq!(ended, [(1, Reason::Expired, Retry::No)]);
}

#[test]
fn claims_decide_what_may_be_sent_and_what_is_on_record_corrects_what_is_not() {
    let sent = || {
        let receipt = Receipt {
            message_id: "m".into(),
            recipient_id: String::new(),
            attachment_id: String::new(),
            replayed: true,
            attempts: 1,
            sent_time: SystemTime::UNIX_EPOCH,
        };
        Outcome::Sent(receipt)
    };
    let (recorded, _caller) = unary(1, Some(claim("a")), None);
    let (plain, _other) = unary(2, None, None);
    let messages = vec![recorded, plain, bulk(3, None), bulk(4, None)];
    let claimed = vec![Claimed::Settled(sent()), Claimed::InProgress, Claimed::Reused];
    let (cleared, answered) = clear(messages, claimed);
    assert_eq!(cleared.iter().map(|cleared| cleared.queued.recipient).collect::<Vec<_>>(), [2]);
    let [(_, Outcome::Sent(receipt)), (_, in_progress), (_, reused)] = &answered[..] else {
        panic!("{answered:?}")
    };
    assert_eq!(
        (receipt.recipient_id.as_str(), receipt.message_id.as_str()),
        ("1", "m"),
        "as the request names it"
    );
    assert_eq!((reason(in_progress), reason(reused)), (Reason::RequestInProgress, Reason::RequestIdReused));

    let (plain, _other) = unary(2, None, None);
    let (cleared, answered) = clear_unrecorded(vec![bulk(3, None), plain], &LedgerError::passing("away"));
    assert_eq!((cleared.len(), reason(&answered[0].1)), (1, Reason::LedgerUnavailable));

    let late = |queued| (queued, late());
    let (plain, _other) = unary(2, None, None);
    let refused = vec![late(bulk(3, None)), late(plain), late(bulk(4, None)), late(bulk(5, None))];
    let corrected = correct(refused, vec![None, Some(Claimed::Settled(sent())), Some(Claimed::InProgress)]);
    assert!(matches!(corrected[2].1, Outcome::Sent(_)), "it was sent before");
    let reasons = [0, 1, 3].map(|place| reason(&corrected[place].1));
    assert_eq!(reasons, [Reason::Expired, Reason::Expired, Reason::RequestInProgress]);
}

fn refused(disposition: Disposition, reason: Reason) -> Verdict {
    Verdict::Refused(Refusal { error: SendError::new(reason, "x"), disposition })
}

fn accepted() -> Verdict {
    let id = || "1".to_owned();
    Verdict::Accepted(Accepted { message_id: id(), recipient_id: id(), attachment_id: String::new() })
}

fn seen() -> Seen {
    Seen { has_old_token: false, was_try: false, ended: Instant::now() }
}

/// Concludes a call whose messages are for the people 0, 1, 2, …
fn concluded(verdicts: Vec<Verdict>, seen: &Seen) -> (Vec<End>, Report) {
    let people = 0..verdicts.len() as u64;
    let cleared = people.map(|person| Cleared { queued: bulk(person, None), ticket: None }).collect();
    conclude(cleared, CallAnswer { verdicts, usage: None }, &RetryBudget::default(), seen, || 1.0)
}

#[test]
fn each_message_ends_as_its_verdict_says_and_the_call_tells_of_its_page() {
    let verdicts = vec![
        accepted(),
        refused(Disposition::Final, Reason::RecipientUnavailable),
        refused(Disposition::Unknown, Reason::OutcomeUnknown),
        refused(Disposition::Transient, Reason::GraphUnavailable),
        refused(Disposition::Throttled, Reason::RateLimited),
        refused(Disposition::Later, Reason::ThreadControlledElsewhere),
    ];
    let seen = seen();
    let (ends, report) = concluded(verdicts, &seen);
    assert!(ends.iter().all(|end| end.queued.attempts == 1));
    assert!(matches!(&ends[0].outcome, Outcome::Sent(receipt) if receipt.attempts == 1));
    assert!(
        matches!(&ends[1].outcome, Outcome::Failed(_)) && matches!(&ends[2].outcome, Outcome::Unknown(_))
    );
    assert!(matches!(ends[3].retry, Retry::At(at) if at > seen.ended));
    assert_eq!((ends[4].retry, ends[4].queued.throttled), (Retry::WithPage, 1));
    assert!(matches!(&ends[3].outcome, Outcome::NotSent(_)), "its claim is released until then");
    assert_eq!((ends[5].retry, reason(&ends[5].outcome)), (Retry::No, Reason::ThreadControlledElsewhere));
    let signs = report.signs;
    assert_eq!((signs.answered, signs.troubled), (3, 2));
    assert!(
        signs
            .throttled
            .is_some_and(|throttle| throttle.wait.is_none() && throttle.error.reason == Reason::RateLimited)
    );
    assert!(signs.stopped.is_none() && signs.suspected.is_none() && signs.breaks_row);
}

#[test]
fn refusals_that_may_be_about_the_page_are_in_a_row_until_something_else_comes() {
    let suspected = || refused(Disposition::PageSuspected, Reason::PagePermissionMissing);
    let (ends, report) =
        concluded(vec![suspected(), suspected(), accepted(), suspected(), suspected()], &seen());
    let suspicion = report.signs.suspected.unwrap();
    assert_eq!((suspicion.recipients, report.signs.breaks_row), (vec![3, 4], true));
    assert!(matches!(ends[0].outcome, Outcome::NotSent(_)), "it is not booked on the message");
    let (_, report) = concluded(vec![suspected(), suspected()], &seen());
    assert_eq!(report.signs.suspected.map(|suspicion| suspicion.recipients), Some(vec![0, 1]));
    assert!(!report.signs.breaks_row && report.signs.answered == 2);
}

#[test]
fn a_refused_token_stops_the_page_and_one_that_it_has_no_more_only_costs_a_try() {
    let stopped = || refused(Disposition::PageStopped, Reason::PageTokenInvalid);
    let (ends, report) = concluded(vec![stopped()], &seen());
    assert_eq!((ends[0].retry, reason(&ends[0].outcome)), (Retry::No, Reason::PageTokenInvalid));
    assert_eq!(report.signs.stopped.map(|error| error.reason), Some(Reason::PageTokenInvalid));
    let (ends, _) = concluded(vec![stopped()], &Seen { has_old_token: true, ..seen() });
    assert_eq!(ends[0].retry, Retry::WithPage);
}

#[test]
fn a_message_that_is_throttled_again_while_others_go_through_is_throttled_of_itself() {
    let throttled =
        || CallAnswer { verdicts: vec![refused(Disposition::Throttled, Reason::RateLimited)], usage: None };
    for (before, was_try, of_itself) in [(0, false, false), (1, false, true), (1, true, false)] {
        let queued = Queued { throttled: before, ..bulk(1, None) };
        let cleared = vec![Cleared { queued, ticket: None }];
        let seen = Seen { was_try, ..seen() };
        let (ends, report) = conclude(cleared, throttled(), &RetryBudget::default(), &seen, || 1.0);
        assert_eq!(ends[0].queued.throttled, before + 1);
        assert_eq!(matches!(ends[0].retry, Retry::At(_)), of_itself, "{before} {was_try}");
        assert_eq!(report.signs.throttled.is_none(), of_itself, "{before} {was_try}");
    }
}

#[test]
fn usage_headers_tell_how_full_the_budget_is_and_how_long_it_stays_so() {
    let minute = Duration::from_secs(60);
    let usage = Some(Usage { percent: 101.0, regain_access: Some(minute) });
    let cleared = vec![Cleared { queued: bulk(1, None), ticket: None }];
    let answer = CallAnswer { verdicts: vec![accepted()], usage };
    let (_, report) = conclude(cleared, answer, &RetryBudget::default(), &seen(), || 1.0);
    assert_eq!(report.usage_percent, Some(101.0));
    assert_eq!(report.signs.throttled.and_then(|throttle| throttle.wait), Some(minute));
}
