use super::*;

/// How long after a message was taken its call begins: the ledger writes in between.
const CLAIM: Duration = Duration::from_millis(2);

/// Sends as fast as the pace allows for a minute; returns when how many went out. Timers and claims are late, never
/// early.
fn a_minute(rate: f64, rank: Rank) -> Vec<(Duration, usize)> {
    let start = Instant::now();
    let mut now = start;
    let mut pace = Pace::new(Some(rate), start);
    let mut sent = Vec::new();
    while now - start < Duration::from_secs(60) {
        let wanted = if rank == Rank::Bulk { pace.collected() } else { 1 };
        pace.advance(now);
        match pace.available(rank, wanted, now).min(BATCH_SIZE_MAX) {
            0 => now = pace.ready_at(rank, wanted, now).unwrap() + Duration::from_micros(100),
            count => {
                let number = pace.take(count);
                pace.began(number, count, now + CLAIM);
                sent.push((now + CLAIM - start, count));
            }
        }
    }
    sent
}

#[test]
fn a_rate_is_held_within_one_percent_and_no_second_exceeds_it() {
    for rate in [1.0, 10.0, 40.0, 300.0, 1000.0, 5000.0] {
        for rank in [Rank::Bulk, Rank::Unary] {
            let sent = a_minute(rate, rank);
            let total: usize = sent.iter().map(|(_, count)| count).sum();
            let expected = rate * 60.0;
            assert!(
                (expected * 0.99..=expected * 1.01).contains(&(total as f64)),
                "{rate}/s, {rank:?}: {total} in a minute"
            );
            let (mut first, mut in_window) = (0, 0);
            for (at, count) in &sent {
                in_window += count;
                while sent[first].0 + Duration::from_secs(1) <= *at {
                    in_window -= sent[first].1;
                    first += 1;
                }
                assert!(
                    in_window as f64 <= rate,
                    "{rate}/s, {rank:?}: {in_window} in the second before {at:?}"
                );
            }
        }
    }
}

#[test]
fn a_share_that_is_no_whole_number_is_held_too() {
    for rate in [0.5, 3.33, 42.857] {
        let total: usize = a_minute(rate, Rank::Bulk).iter().map(|(_, count)| count).sum();
        let expected = rate * 60.0;
        assert!(
            (total as f64 - expected).abs() <= (expected * 0.02).max(1.0),
            "{rate}/s: {total} in a minute"
        );
    }
}

#[test]
fn a_pause_is_not_made_up_for_by_a_burst() {
    let start = Instant::now();
    let mut pace = Pace::new(Some(300.0), start);
    let later = start + Duration::from_secs(3600);
    pace.advance(later);
    assert_eq!(pace.available(Rank::Bulk, 1, later), 30, "a tenth of a second's worth");
    pace.take(30);
    assert_eq!(pace.available(Rank::Bulk, 1, later), 0);
}

#[test]
fn a_unary_message_goes_at_once_on_a_page_that_a_bulk_uses_up() {
    let mut now = Instant::now();
    let mut pace = Pace::new(Some(300.0), now);
    let (mut bulk, mut unary) = (0, 0);
    let end = now + Duration::from_secs(20);
    let mut next_unary = now;
    while now < end {
        now += Duration::from_millis(1);
        for (rank, wanted) in [(Rank::Bulk, pace.collected()), (Rank::Unary, 1)] {
            let is_due = rank == Rank::Bulk || now >= next_unary;
            pace.advance(now);
            if rank == Rank::Unary && is_due {
                pace.note_unary(now);
            }
            let available = if is_due { pace.available(rank, wanted, now) } else { 0 };
            if rank == Rank::Unary && is_due {
                assert!(available > 0, "{:?} before the end", end - now);
                next_unary += Duration::from_millis(50);
                unary += 1;
            }
            let count = if rank == Rank::Bulk { available.min(BATCH_SIZE_MAX) } else { available.min(1) };
            if count > 0 {
                let number = pace.take(count);
                pace.began(number, count, now);
                bulk += if rank == Rank::Bulk { count } else { 0 };
            }
        }
    }
    assert!(bulk + unary >= 20 * 297, "{bulk} bulk and {unary} unary messages");
}

#[test]
fn what_a_call_does_not_send_after_all_is_given_back() {
    let now = Instant::now();
    let mut pace = Pace::new(Some(10.0), now);
    let number = pace.take(1);
    assert_eq!(pace.available(Rank::Bulk, 1, now), 0);
    pace.began(number, 0, now);
    assert_eq!(pace.available(Rank::Bulk, 1, now), 1);
}

#[test]
fn what_has_not_begun_stays_counted() {
    let now = Instant::now();
    let mut pace = Pace::new(Some(1.0), now);
    let number = pace.take(1);
    let later = now + Duration::from_secs(60);
    pace.advance(later);
    assert_eq!(pace.available(Rank::Bulk, 1, later), 0);
    assert_eq!(pace.ready_at(Rank::Bulk, 1, later), None, "nobody knows when");
    pace.began(number, 1, later);
    assert!(pace.ready_at(Rank::Bulk, 1, later) >= Some(later + Duration::from_secs(1)));
}

#[test]
fn no_rate_is_no_limit_and_a_new_rate_holds_at_once() {
    let now = Instant::now();
    let mut pace = Pace::new(None, now);
    pace.take(1_000_000);
    assert_eq!(pace.available(Rank::Bulk, 1, now), usize::MAX);
    pace.set_rate(Some(10.0), now);
    assert_eq!(pace.available(Rank::Bulk, 1, now), 1);
    pace.take(1);
    assert_eq!(pace.available(Rank::Bulk, 1, now), 0);
    assert!(pace.ready_at(Rank::Bulk, 1, now) > Some(now));
    pace.set_rate(Some(0.0), now);
    assert_eq!(pace.available(Rank::Unary, 1, now), 0, "a page without a share sends nothing");
    assert_eq!(pace.ready_at(Rank::Unary, 1, now), None);
}

#[test]
fn it_wants_its_whole_rate_if_something_has_or_had_to_wait_and_little_otherwise() {
    let now = Instant::now();
    let mut pace = Pace::new(Some(300.0), now);
    assert_eq!(pace.wanted(300.0, false, now), 2.0);
    assert_eq!(pace.wanted(300.0, true, now), 300.0);
    let number = pace.take(30);
    pace.began(number, 30, now);
    assert_eq!(pace.wanted(300.0, false, now), 38.0);
    pace.note_held_back(now);
    assert_eq!(pace.wanted(300.0, false, now + SHARE_INTERVAL), 300.0);
    assert_eq!(pace.wanted(300.0, false, now + 2 * SHARE_INTERVAL), 38.0);
    assert_eq!(pace.wanted(300.0, false, now + 4 * SHARE_INTERVAL), 2.0, "the window has passed");
}
