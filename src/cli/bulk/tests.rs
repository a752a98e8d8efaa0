//! A bulk without a terminal: against the real service and the sandbox, and against one that follows a script.

mod in_progress;
mod scripted;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use messenger_connector_client::Code;
use tonic::Status;

use super::*;
use crate::api::pb::ErrorReason::{Draining, LedgerUnavailable, RequestInProgress};
use crate::api::status;
use crate::cli::connection::ConnectOptions;
use crate::cli::demo;
use crate::config::ServeOptions;
use crate::error::{Reason, SendError};
use crate::sandbox::{self, Sandbox};
use crate::server::Server;
use scripted::{Act, Scripted, not_sent, sent};

struct Bench {
    client: MessengerClient,
    drain: CancellationToken,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn start(bulk_in_flight_max: usize, latency_ms: u64) -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let options = sandbox::Options { listen, latency_ms, ..sandbox::Options::default() };
        let sandbox = Sandbox::bind(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options =
            ServeOptions { bulk_in_flight_max, ..demo::serve_options(&sandbox.url(), folder.path()) };
        let server = Server::bind(options).await.unwrap();
        let connect = ConnectOptions::to(format!("http://{}", server.local_addr().unwrap()));
        let drain = CancellationToken::new();
        tokio::spawn(sandbox.serve(std::future::pending()));
        tokio::spawn(server.serve(drain.clone().cancelled_owned()));
        Self { client: connect.client().unwrap(), drain, folder }
    }

    /// On a service that follows a script.
    async fn scripted(acts: Vec<Act>) -> (Self, Scripted) {
        let (service, address) = Scripted::start(acts).await;
        let connect = ConnectOptions::to(address);
        let (client, drain) = (connect.client().unwrap(), CancellationToken::new());
        (Self { client, drain, folder: tempfile::tempdir().unwrap() }, service)
    }

    fn plan(&self, audience: &str) -> Plan {
        let path = self.folder.path().join("audience.csv");
        std::fs::write(&path, audience).unwrap();
        let results = ResultsFile { path: self.results_path(), overwrite: false };
        Plan::text(path, "Hello", results)
    }

    fn results_path(&self) -> PathBuf {
        self.folder.path().join("results.csv")
    }

    /// Runs the plan; `watch` sees the progress and may end it.
    async fn run(
        &self,
        plan: &Plan,
        watch: impl Fn(&Progress, &CancellationToken, &CancellationToken),
    ) -> Finished {
        self.run_rows(plan, read(plan.audience.open().unwrap()).unwrap(), watch).await
    }

    async fn run_rows(
        &self,
        plan: &Plan,
        rows: run::RowReceiver,
        watch: impl Fn(&Progress, &CancellationToken, &CancellationToken),
    ) -> Finished {
        let (progress, mut watched) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let client = self.client.with_reconnect_timeout(plan.reconnect_timeout);
        let run = run::run(&client, plan, rows, &progress, stop.clone());
        let run = tokio::time::timeout(PATIENCE, run);
        tokio::pin!(run);
        let report = loop {
            tokio::select! {
                report = &mut run => break report.unwrap().unwrap(),
                _ = watched.changed() => watch(&watched.borrow_and_update(), &stop, &self.drain),
            }
        };
        let progress = watched.borrow().clone();
        Finished { report, progress, elapsed: Duration::ZERO }
    }

    /// Lines of the results file in the order of the audience, without what differs from run to run.
    fn results(&self) -> Vec<String> {
        let mut reader = csv::Reader::from_path(self.results_path()).unwrap();
        let records: BTreeMap<u64, String> = reader
            .records()
            .map(|record| {
                let record = record.unwrap();
                let fields = [1, 2, 4, 6, 7, 8, 9].map(|index| &record[index]);
                (record[0].parse().unwrap(), fields.join(" "))
            })
            .collect();
        records.into_iter().map(|(line, fields)| format!("{line} {fields}")).collect()
    }

    fn count(&self, state: &str) -> usize {
        self.results().iter().filter(|line| line.split(' ').nth(2) == Some(state)).count()
    }
}

/// A bulk that gets no further fails, and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any test takes.
const ENOUGH: Duration = Duration::from_secs(3600);

fn audience_of(rows: u64) -> String {
    (1..=rows).fold("recipient\n".to_owned(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    })
}

#[tokio::test]
async fn every_row_has_its_line_in_the_results() {
    let bench = Bench::start(100, 0).await;
    let plan = bench.plan("recipient,item_id\n1,a\nfail-551,b\n,c\n2,d\n3\nfail-10-2018278,e\n");
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert_eq!(
        bench.results(),
        [
            "2 a SENT 1    ",
            "3 b FAILED  RECIPIENT_UNAVAILABLE 551 0 false",
            "4  INVALID_ROW     ",
            "5 d SENT 1    ",
            "6  INVALID_ROW     ",
            "7 e FAILED  OUTSIDE_WINDOW 10 2018278 false",
        ]
    );
    assert_eq!(finished.progress.counts_text(), "2 sent, 2 failed, 2 bad rows");
    assert!(!finished.is_success());
}

#[tokio::test]
async fn a_narrow_window_does_not_stop_the_stream() {
    let bench = Bench::start(3, 0).await;
    let plan = bench.plan(&audience_of(100));
    let finished = bench.run(&plan, |progress, _, _| assert!(progress.in_flight() <= 3)).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(bench.count("SENT"), 100);
}

#[tokio::test]
async fn rows_of_one_item_id_all_get_its_result() {
    let bench = Bench::start(100, 0).await;
    let plan = bench.plan("recipient,item_id\n1,a\n1,a\n1,a\n2,b\n");
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(bench.results(), ["2 a SENT 1    ", "3 a SENT 1    ", "4 a SENT 1    ", "5 b SENT 1    "]);
}

#[tokio::test]
async fn stopping_waits_for_the_results_of_what_was_taken() {
    let bench = Bench::start(50, 20).await;
    let plan = bench.plan(&audience_of(10_000));
    let stop_at_first = |progress: &Progress, stop: &CancellationToken, _: &CancellationToken| {
        if progress.settled() > 0 {
            stop.cancel();
        }
    };
    let finished = bench.run(&plan, stop_at_first).await;
    assert!(matches!(finished.report.end, summary::End::Complete), "{finished:?}");
    assert!(finished.progress.rows < 10_000 && !finished.is_success());
    assert_eq!(bench.count("SENT") as u64, finished.progress.rows);
}

#[tokio::test]
async fn a_service_that_drains_leaves_no_row_in_doubt() {
    let bench = Bench::start(50, 20).await;
    let plan = bench.plan(&audience_of(10_000));
    let drain_at_first = |progress: &Progress, _: &CancellationToken, drain: &CancellationToken| {
        if progress.settled() > 0 {
            drain.cancel();
        }
    };
    let finished = bench.run(&plan, drain_at_first).await;
    assert!(matches!(finished.report.end, summary::End::Broken(_)), "{finished:?}");
    let (sent, not_sent) = (bench.count("SENT") as u64, bench.count("NOT_SENT") as u64);
    assert!(sent > 0 && sent + not_sent == finished.progress.rows, "{sent} {not_sent} {finished:?}");
}

#[tokio::test]
async fn a_start_that_is_refused_leaves_no_results_file() {
    let bench = Bench::start(50, 0).await;
    let mut plan = bench.plan(&audience_of(1));
    plan.start.page_id = "77".to_owned();
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert!(matches!(finished.report.end, summary::End::Refused(_)), "{finished:?}");
    assert!(!bench.results_path().exists());
}

fn named_audience_of(rows: u64) -> String {
    let rows: String = (0..rows).map(|number| format!("{number},{number}\n")).collect();
    format!("recipient,item_id\n{rows}")
}

fn gone() -> Result<(), Status> {
    Err(Status::unavailable("gone"))
}

/// The first stream ends in the middle: half of what was read has a result. The second one puts three rows off. All are
/// of one bulk and one run, which the client names.
#[tokio::test]
async fn later_streams_get_what_has_no_result_and_no_more() {
    let (bench, service) = Bench::scripted(vec![
        Act::Answer(|id| (id % 2 == 0).then(sent), 20, gone()),
        Act::Refuse(Status::unavailable("not yet")),
        Act::Answer(
            |id| match id {
                7 => Some(not_sent(LedgerUnavailable)),
                17 => Some(not_sent(RequestInProgress)),
                27 => Some(not_sent(Draining)),
                _ => Some(sent()),
            },
            usize::MAX,
            Ok(()),
        ),
        Act::Answer(|_| Some(sent()), usize::MAX, Ok(())),
    ])
    .await;
    let plan = Plan { reconnect_timeout: ENOUGH, ..bench.plan(&named_audience_of(30)) };
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(finished.progress.rows, 30);
    let expected: Vec<String> = (0..30).map(|id| format!("{} {id} SENT 1    ", id + 2)).collect();
    assert_eq!(bench.results(), expected);
    let seen = service.seen.lock().unwrap();
    let streams: Vec<_> = seen.iter().map(|seen| seen.item_ids.clone()).collect();
    assert_eq!(streams, [(0..20).collect(), (1..20).step_by(2).chain(20..30).collect(), vec![7, 17, 27]]);
    assert!(seen.iter().all(|seen| seen.bulk_id == finished.report.bulk_id), "{seen:?}");
    assert!(
        seen.iter().all(|stream| !stream.run_id.is_empty() && stream.run_id == seen[0].run_id),
        "{seen:?}"
    );
}

/// What a row without a final result is called depends on whether it may have been sent.
#[tokio::test]
async fn a_bulk_that_is_given_up_says_what_it_knows_of_each_row() {
    let refused = || Act::Refuse(Status::permission_denied("not this page"));
    let cases = [
        (
            "an end that will not pass",
            vec![Act::Answer(|_| None, 3, gone()), refused()],
            ENOUGH,
            "NO_RESULT",
            Code::PermissionDenied,
        ),
        (
            "a stream that ends so",
            vec![Act::Answer(|_| None, 3, Err(Status::not_found("no such page")))],
            ENOUGH,
            "NO_RESULT",
            Code::NotFound,
        ),
        (
            "no time left",
            vec![Act::Answer(|_| Some(not_sent(LedgerUnavailable)), 3, Ok(()))],
            Duration::ZERO,
            "NOT_SENT",
            Code::Unavailable,
        ),
        (
            "sent by somebody else",
            vec![Act::Answer(|_| Some(not_sent(RequestInProgress)), 3, Ok(()))],
            Duration::ZERO,
            "NO_RESULT",
            Code::Unavailable,
        ),
    ];
    for (case, acts, reconnect_timeout, state, code) in cases {
        let (bench, _) = Bench::scripted(acts).await;
        let plan = Plan { reconnect_timeout, ..bench.plan(&named_audience_of(3)) };
        let finished = bench.run(&plan, |_, _, _| {}).await;
        let summary::End::Broken(error) = &finished.report.end else { panic!("{case}: {finished:?}") };
        assert_eq!((error.code, bench.count(state), bench.results().len()), (code, 3, 3), "{case}");
        let go_on = format!("--bulk-id {} --overwrite", finished.report.bulk_id);
        assert!(finished.advice(&plan, "").contains(&go_on), "{case}");
    }
}

/// Its own streams of before may count until the service has noticed that they are gone.
#[tokio::test]
async fn a_caller_over_its_limit_of_streams_tries_again() {
    let over = status::status(SendError::new(Reason::RateLimited, "too many streams"));
    let (bench, service) = Bench::scripted(vec![
        Act::Answer(|_| None, 3, gone()),
        Act::Refuse(over),
        Act::Answer(|_| Some(sent()), usize::MAX, Ok(())),
    ])
    .await;
    let plan = Plan { reconnect_timeout: ENOUGH, ..bench.plan(&named_audience_of(3)) };
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(service.item_ids(), [[0, 1, 2], [0, 1, 2]]);
}

/// Ctrl-C while there is no service.
#[tokio::test]
async fn stopping_ends_the_wait_for_a_new_stream() {
    let status = status::status(SendError {
        retry_after: Some(ENOUGH),
        ..SendError::new(Reason::LedgerUnavailable, "not before an hour")
    });
    let acts = vec![Act::Answer(|_| None, 3, Err(status))];
    let (bench, _) = Bench::scripted(acts).await;
    let plan = Plan { reconnect_timeout: 2 * ENOUGH, ..bench.plan(&named_audience_of(3)) };
    let stop_when_lost = |progress: &Progress, stop: &CancellationToken, _: &CancellationToken| {
        if progress.reconnecting.is_some() {
            stop.cancel();
        }
    };
    let finished = bench.run(&plan, stop_when_lost).await;
    assert!(finished.progress.is_stopping && !finished.is_success(), "{finished:?}");
    assert_eq!(bench.count("NO_RESULT"), 3);
}
