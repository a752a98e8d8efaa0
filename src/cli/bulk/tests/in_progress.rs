//! Rows that are in progress elsewhere, on a service that follows a script.

use super::scripted::MAX_IN_FLIGHT;
use super::*;
use crate::api::pb::item_result::Outcome;

/// Rows of which none is waited for.
async fn all_rows(plan: &Plan) -> run::RowReceiver {
    let rows = read(plan.audience.open().unwrap()).unwrap();
    while !rows.is_closed() {
        tokio::task::yield_now().await;
    }
    rows
}

/// The first stream goes on with the other rows, and later ones bring nothing else.
#[tokio::test]
async fn a_row_in_progress_holds_up_no_other() {
    fn first_in_progress(id: u64) -> Option<Outcome> {
        Some(if id == 0 { not_sent(RequestInProgress) } else { sent() })
    }
    let (bench, service) = Bench::scripted(vec![
        Act::Answer(first_in_progress, usize::MAX, Ok(())),
        Act::Answer(first_in_progress, usize::MAX, Ok(())),
        Act::Answer(|_| Some(sent()), usize::MAX, Ok(())),
    ])
    .await;
    let plan = Plan { reconnect_timeout: ENOUGH, ..bench.plan(&named_audience_of(300)) };
    let rows = all_rows(&plan).await;
    let in_flight_at_most = |progress: &Progress, _: &CancellationToken, _: &CancellationToken| {
        assert!(progress.in_flight() <= MAX_IN_FLIGHT, "what is put off is held, too");
    };
    let finished = bench.run_rows(&plan, rows, in_flight_at_most).await;
    assert!(finished.is_success() && bench.count("SENT") == 300, "{finished:?}");
    assert_eq!(service.item_ids(), [(0..300).collect(), vec![0], vec![0]]);
}

/// There is no room for others.
#[tokio::test]
async fn a_stream_that_holds_only_rows_in_progress_ends() {
    fn many_in_progress(id: u64) -> Option<Outcome> {
        Some(if id < MAX_IN_FLIGHT { not_sent(RequestInProgress) } else { sent() })
    }
    let (bench, service) = Bench::scripted(vec![
        Act::Answer(many_in_progress, usize::MAX, Ok(())),
        Act::Answer(|_| Some(sent()), usize::MAX, Ok(())),
    ])
    .await;
    let plan = Plan { reconnect_timeout: ENOUGH, ..bench.plan(&named_audience_of(150)) };
    let finished = bench.run_rows(&plan, all_rows(&plan).await, |_, _, _| {}).await;
    assert!(finished.is_success() && bench.count("SENT") == 150, "{finished:?}");
    assert_eq!(service.item_ids(), [(0..MAX_IN_FLIGHT).collect(), (0..150).collect::<Vec<_>>()]);
}

/// The audience gives no further row until the first has its result.
#[tokio::test]
async fn a_stream_of_a_slow_audience_ends_for_a_row_in_progress() {
    let (bench, service) = Bench::scripted(vec![
        Act::Answer(|_| Some(not_sent(RequestInProgress)), usize::MAX, Ok(())),
        Act::Answer(|_| Some(sent()), usize::MAX, Ok(())),
    ])
    .await;
    let plan = Plan { reconnect_timeout: ENOUGH, ..bench.plan(&named_audience_of(2)) };
    let mut source = plan.audience.open().unwrap();
    let (sender, rows) = mpsc::channel(2);
    sender.try_send(source.next().unwrap()).unwrap();
    let waiting = std::cell::RefCell::new(Some((sender, source.next().unwrap())));
    let send_second = |progress: &Progress, _: &CancellationToken, _: &CancellationToken| {
        if progress.settled() > 0
            && let Some((sender, row)) = waiting.take()
        {
            sender.try_send(row).unwrap();
        }
    };
    let finished = bench.run_rows(&plan, rows, send_second).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(service.item_ids(), [vec![0], vec![0, 1]]);
}
