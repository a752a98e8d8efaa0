//! A bulk against the real service and the sandbox, without a terminal.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::*;
use crate::cli::connection::ConnectOptions;
use crate::cli::demo;
use crate::config::ServeOptions;
use crate::sandbox::{self, Sandbox};
use crate::server::Server;

struct Bench {
    client: Client,
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
        let connect = ConnectOptions { address: format!("http://{}", server.local_addr().unwrap()) };
        let drain = CancellationToken::new();
        tokio::spawn(sandbox.serve(std::future::pending()));
        tokio::spawn(server.serve(drain.clone().cancelled_owned()));
        Self { client: connect.client().await.unwrap(), drain, folder }
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
        &mut self,
        plan: &Plan,
        watch: impl Fn(&Progress, &CancellationToken, &CancellationToken),
    ) -> Finished {
        let (progress, mut watched) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let rows = read(plan.audience.open().unwrap()).unwrap();
        let (client, start) = (self.client.clone(), plan.start.clone());
        let opener = resume::Opener::new(client, start, plan.reconnect_timeout, &progress, stop.clone());
        let run = resume::run(opener, rows, &plan.results);
        tokio::pin!(run);
        let report = loop {
            tokio::select! {
                report = &mut run => break report.unwrap(),
                _ = watched.changed() => watch(&watched.borrow_and_update(), &stop, &self.drain),
            }
        };
        let progress = watched.borrow().clone();
        Finished { report, progress, elapsed: std::time::Duration::ZERO }
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

fn audience_of(rows: u64) -> String {
    (1..=rows).fold("recipient\n".to_owned(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    })
}

#[tokio::test]
async fn every_row_has_its_line_in_the_results() {
    let mut bench = Bench::start(100, 0).await;
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
    let mut bench = Bench::start(3, 0).await;
    let plan = bench.plan(&audience_of(100));
    let finished = bench.run(&plan, |progress, _, _| assert!(progress.in_flight() <= 3)).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(bench.count("SENT"), 100);
}

#[tokio::test]
async fn rows_of_one_item_id_all_get_its_result() {
    let mut bench = Bench::start(100, 0).await;
    let plan = bench.plan("recipient,item_id\n1,a\n1,a\n1,a\n2,b\n");
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(bench.results(), ["2 a SENT 1    ", "3 a SENT 1    ", "4 a SENT 1    ", "5 b SENT 1    "]);
}

#[tokio::test]
async fn stopping_waits_for_the_results_of_what_was_taken() {
    let mut bench = Bench::start(50, 20).await;
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
    let mut bench = Bench::start(50, 20).await;
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
    let mut bench = Bench::start(50, 0).await;
    let mut plan = bench.plan(&audience_of(1));
    plan.start.page_id = "77".to_owned();
    let finished = bench.run(&plan, |_, _, _| {}).await;
    assert!(matches!(finished.report.end, summary::End::Refused(_)), "{finished:?}");
    assert!(!bench.results_path().exists());
}
