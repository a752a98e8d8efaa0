use super::*;

fn answered(count: usize) -> Signs {
    Signs { answered: count, breaks_row: true, ..Signs::default() }
}

fn troubled(count: usize) -> Signs {
    Signs { troubled: count, ..Signs::default() }
}

const TOKEN: TokenDigest = TokenDigest::of_sample(1);

fn throttled(wait: Option<Duration>) -> Signs {
    let error = SendError::new(Reason::RateLimited, "x");
    Signs { throttled: Some(Throttle { error, wait }), ..Signs::default() }
}

fn stopped() -> Signs {
    Signs { stopped: Some(SendError::new(Reason::PageRestricted, "x")), ..Signs::default() }
}

fn suspected(recipients: std::ops::Range<u64>) -> Signs {
    let error = SendError::new(Reason::PagePermissionMissing, "x");
    let recipients: Vec<_> = recipients.collect();
    Signs { answered: recipients.len(), suspected: Some(Suspicion { error, recipients }), ..Signs::default() }
}

fn end(gate: &mut Gate, era: u64, messages: usize, signs: Signs, now: Instant) {
    gate.end_call(&EndedCall { era, messages, token: TOKEN }, signs, now);
}

/// A call that begins and ends.
fn call(gate: &mut Gate, signs: Signs, now: Instant) {
    let messages = signs.answered + signs.troubled;
    let era = gate.begin_call(messages);
    end(gate, era, messages, signs, now);
}

fn paused_for(gate: &Gate, now: Instant) -> Option<Duration> {
    match gate.standing() {
        Standing::Paused { until, .. } => Some(until.saturating_duration_since(now)),
        Standing::Open | Standing::Suspended { .. } => None,
    }
}

#[test]
fn a_throttled_page_pauses_for_as_long_as_graph_says_or_longer_each_time() {
    let mut now = Instant::now();
    let two_minutes = Duration::from_secs(120);
    let mut gate = Gate::new(now);
    call(&mut gate, throttled(Some(two_minutes)), now);
    assert_eq!(paused_for(&gate, now), Some(two_minutes));
    assert_eq!((gate.allows(now), gate.opens_at()), (0, Some(now + two_minutes)));
    let mut gate = Gate::new(now);
    for wait in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
        let (under_way, last) = (gate.begin_call(1), gate.begin_call(1));
        end(&mut gate, last, 1, throttled(None), now);
        assert_eq!(paused_for(&gate, now), Some(wait));
        for signs in [throttled(None), troubled(50), answered(50), stopped()] {
            end(&mut gate, under_way, 1, signs, now);
            assert_eq!(paused_for(&gate, now), Some(wait), "calls that were under way change nothing");
        }
        now += wait;
        assert_eq!(gate.allows(now), 1, "one message goes to see");
        gate.begin_call(1);
        assert_eq!(gate.allows(now), 0);
    }
    call(&mut gate, answered(1), now);
    assert_eq!(gate.allows(now), usize::MAX);
}

#[test]
fn a_try_that_sent_nothing_leaves_the_next_one_to_another_message() {
    let now = Instant::now();
    let mut gate = Gate::new(now);
    call(&mut gate, throttled(Some(Duration::ZERO)), now);
    let era = gate.begin_call(1);
    assert_eq!(gate.allows(now), 0);
    end(&mut gate, era, 1, Signs::default(), now);
    assert_eq!(gate.allows(now), 1);
}

#[test]
fn the_circuit_opens_at_its_share_of_trouble_and_not_before() {
    let now = Instant::now();
    let mut gate = Gate::new(now);
    call(&mut gate, answered(60), now);
    call(&mut gate, troubled(39), now);
    assert_eq!(paused_for(&gate, now), None, "too few attempts to tell");
    call(&mut gate, answered(1), now);
    assert_eq!(paused_for(&gate, now), None, "39 of 100");
    call(&mut gate, answered(59), now);
    assert_eq!(paused_for(&gate, now), None, "answers push trouble out");
    call(&mut gate, troubled(1), now);
    assert_eq!(paused_for(&gate, now), Some(PAUSE_FIRST), "40 of 100");
    let later = now + PAUSE_FIRST;
    assert_eq!(gate.allows(later), CIRCUIT_TRIES);
    call(&mut gate, troubled(CIRCUIT_TRIES - 1), later);
    assert_eq!((paused_for(&gate, later), gate.allows(later)), (Some(Duration::ZERO), 1));
    call(&mut gate, troubled(1), later);
    assert_eq!(paused_for(&gate, later), Some(2 * PAUSE_FIRST), "all that went to see");
    let even_later = later + 2 * PAUSE_FIRST;
    call(&mut gate, troubled(3), even_later);
    call(&mut gate, answered(6), even_later);
    assert_eq!(gate.allows(even_later), 1);
    call(&mut gate, answered(1), even_later);
    assert_eq!(gate.standing(), &Standing::Open, "most found all well");
}

#[test]
fn a_suspended_page_is_probed_less_and_less_often_and_recovers_with_a_message() {
    let mut now = Instant::now();
    let mut gate = Gate::new(now);
    call(&mut gate, stopped(), now);
    for wait in [10, 20, 40].map(Duration::from_secs) {
        assert_eq!((gate.allows(now + wait), gate.opens_at()), (0, None), "no message is burned");
        gate.probe_succeeded(now);
        assert_eq!(gate.allows(now), 1, "a restricted page answers probes all the same");
        call(&mut gate, stopped(), now);
        assert!(matches!(gate.standing(), Standing::Suspended { until, .. } if *until == now + wait));
        now += wait;
    }
    let unreachable = SendError::new(Reason::GraphUnavailable, "x");
    gate.probe_failed(Refusal { error: unreachable, disposition: Disposition::Transient }, now);
    assert!(
        matches!(gate.standing(), Standing::Suspended { error, .. } if error.reason == Reason::PageRestricted)
    );
    gate.probe_succeeded(now);
    call(&mut gate, answered(1), now);
    assert_eq!(gate.standing(), &Standing::Open);
}

#[test]
fn refusals_that_may_be_about_the_page_stop_it_when_enough_people_in_a_row_got_them() {
    let now = Instant::now();
    let enough = SUSPECTED_IN_A_ROW as u64;
    let is_suspended = |gate: &Gate| matches!(gate.standing(), Standing::Suspended { .. });
    let mut gate = Gate::new(now);
    call(&mut gate, suspected(0..enough - 1), now);
    call(&mut gate, suspected(0..enough - 1), now);
    assert!(!is_suspended(&gate), "the same people again");
    call(&mut gate, answered(1), now);
    call(&mut gate, suspected(0..enough - 1), now);
    assert!(!is_suspended(&gate), "one that was taken in between shows that the page sends");
    call(&mut gate, suspected(100..101), now);
    assert!(is_suspended(&gate));
    gate.probe_succeeded(now);
    assert_eq!(gate.allows(now), 1, "a probe does not tell, so a message goes to see");
    call(&mut gate, suspected(7..8), now);
    assert!(is_suspended(&gate), "one that went to see is enough");
    gate.probe_succeeded(now);
    call(&mut gate, answered(1), now);
    assert_eq!(gate.standing(), &Standing::Open);
}

#[test]
fn however_long_a_pause_is_said_to_last_a_message_goes_to_see() {
    let now = Instant::now();
    let mut gate = Gate::new(now);
    call(&mut gate, throttled(Some(Duration::from_secs(24 * 3600))), now);
    assert_eq!(paused_for(&gate, now), Some(PAUSE_TOLD_MAX));
}
