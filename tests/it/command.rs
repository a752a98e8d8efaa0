//! The built binary: what a person at a terminal does with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{self, Stack};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messenger-connector"));
    command.args(arguments).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub async fn run(arguments: &[&str]) -> Output {
    command(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// Waits for a line that holds `wanted`.
async fn wait_for(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>, wanted: &str) -> String {
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(wanted) {
            return line;
        }
    }
    panic!("the command ended without saying {wanted:?}");
}

/// `serve` in a process of its own, on the sandbox of a stack.
struct Service {
    process: Child,
    /// Read to its end, or the process would stop once the pipe is full.
    _lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Service {
    /// Starts it with its ledger in `folder`, and waits until it listens.
    async fn start(stack: &Stack, folder: &Path, listen: &str) -> Self {
        let ledger = format!("sqlite://{}", folder.join("ledger.db").display());
        let arguments = ["serve", "--listen", listen, "--graph-url", &stack.sandbox_url, "--ledger", &ledger];
        let more = ["--bulk-in-flight-max", IN_FLIGHT_MAX, "--drain-delay-ms", "0", "--admin-listen", "none"];
        let mut serve = command(&[&arguments[..], &more].concat());
        serve.env("PAGE_ACCESS_TOKEN", "t").env("CONNECTOR_RATE_PER_SECOND", "0");
        let mut process = serve.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = wait_for(&mut lines, "listens").await;
        Self { process, _lines: lines, address: line.rsplit('=').next().unwrap().to_owned() }
    }

    async fn end(mut self, with: &str) -> ExitStatus {
        signal(&self.process, with);
        self.process.wait().await.unwrap()
    }
}

/// Items that a [`Service`] holds for one stream.
const IN_FLIGHT_MAX: &str = "200";

/// Waits until the sandbox has delivered so many messages.
async fn wait_for_delivered(stack: &Stack, count: u64) {
    while stack.sandbox("/sandbox/state").await["delivered"].as_u64().unwrap() < count {
        tokio::task::yield_now().await;
    }
}

/// Lines of a results file by item id, as state and the rest. Fails if an item has two.
fn results(file: &Path) -> BTreeMap<String, (String, String)> {
    let text = std::fs::read_to_string(file.with_extension("csv.results.csv")).unwrap();
    let mut results = BTreeMap::new();
    for line in text.lines().skip(1) {
        let mut fields = line.splitn(4, ',').skip(1).map(str::to_owned);
        let (item_id, state, rest) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        assert!(results.insert(item_id, (state, rest)).is_none(), "two lines: {line}");
    }
    results
}

fn count(results: &BTreeMap<String, (String, String)>, state: &str) -> u64 {
    results.values().filter(|result| result.0 == state).count() as u64
}

fn audience(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("audience.csv");
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `bulk` on a file, with a text that has no variables.
fn bulk(stack: &Stack, file: &Path) -> Command {
    bulk_at(&stack.address, file, &[])
}

fn bulk_at(address: &str, file: &Path, more: &[&str]) -> Command {
    let arguments = ["bulk", file.to_str().unwrap(), "--address", address, "--messaging-type", "update"];
    command(&[&arguments[..], &["--text", "hello"], more].concat())
}

/// An audience of recipients that Graph answers slowly, so that there is a middle to end things in.
fn slow_audience(folder: &Path, rows: u64) -> PathBuf {
    let rows: String = (0..rows).map(|n| format!("slow-20.{n},{n}\n")).collect();
    audience(folder, &format!("recipient,item_id\n{rows}"))
}

/// A bulk that has run, and the service that it ran on.
struct BulkRun {
    results: BTreeMap<String, (String, String)>,
    code: Option<i32>,
    service: Service,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

/// Runs a bulk whose service ends by a signal in the middle and starts again on the same port and ledger. The bulk
/// has no name of its own.
async fn bulk_over_a_restart(stack: &Stack, rows: u64, by: &str, more: &[&str]) -> BulkRun {
    let folder = tempfile::tempdir().unwrap();
    let file = slow_audience(folder.path(), rows);
    let service = Service::start(stack, folder.path(), "127.0.0.1:0").await;
    let address = service.address.clone();
    let mut child = bulk_at(&address, &file, more).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let name = wait_for(&mut lines, "bulk: ").await;
    wait_for_delivered(stack, rows / 4).await;
    let ended = service.end(by).await;
    assert_eq!(ended.success(), by == "TERM", "{ended:?}");
    wait_for(&mut lines, "reconnecting: ").await;
    let service = Service::start(stack, folder.path(), &address).await;
    wait_for(&mut lines, "connected again").await;
    let last = wait_for(&mut lines, "results: ").await;
    assert!(last.starts_with(&name), "still the same bulk: {last}, {name}");
    while lines.next_line().await.unwrap().is_some() {}
    let code = child.wait().await.unwrap().code();
    BulkRun { results: results(&file), code, service, file, _folder: folder }
}

#[tokio::test]
async fn a_bulk_outlives_a_service_that_is_killed() {
    let (stack, rows) = (harness::start().await, 2000);
    let BulkRun { results, code, .. } = bulk_over_a_restart(&stack, rows, "KILL", &[]).await;
    let (sent, unknown) = (count(&results, "SENT"), count(&results, "UNKNOWN"));
    assert_eq!((results.len() as u64, sent + unknown), (rows, rows), "{results:?}");
    assert!(unknown <= IN_FLIGHT_MAX.parse().unwrap(), "only what was in flight: {unknown}");
    assert_eq!(code, Some(if unknown == 0 { 0 } else { 1 }));
    let state = stack.sandbox("/sandbox/state").await;
    assert_eq!(state["duplicates"], 0, "{state}");
    let delivered = state["delivered"].as_u64().unwrap();
    assert!((sent..=rows).contains(&delivered), "{sent} {delivered}");
}

#[tokio::test]
async fn a_bulk_outlives_a_service_that_drains_without_a_doubt() {
    let (stack, rows) = (harness::start().await, 2000);
    let BulkRun { results, code, service, .. } = bulk_over_a_restart(&stack, rows, "TERM", &[]).await;
    assert!(service.end("TERM").await.success());
    assert_eq!((results.len() as u64, count(&results, "SENT"), code), (rows, rows, Some(0)));
    let state = stack.sandbox("/sandbox/state").await;
    assert_eq!((&state["delivered"], &state["duplicates"]), (&rows.into(), &0.into()), "{state}");
}

/// What a crash leaves unknown is not sent again by the command's own reconnect, but by the next command.
#[tokio::test]
async fn a_command_that_resends_is_one_decision() {
    let (stack, rows) = (harness::start().await, 2000);
    let resend = ["--on-unknown", "resend"];
    let BulkRun { results: first, service, file, _folder, .. } =
        bulk_over_a_restart(&stack, rows, "KILL", &resend).await;
    let (sent, unknown) = (count(&first, "SENT"), count(&first, "UNKNOWN"));
    assert_eq!(sent + unknown, rows, "{first:?}");
    assert_eq!(stack.sandbox("/sandbox/state").await["duplicates"], 0);

    let mut again = bulk_at(&service.address, &file, &[&resend[..], &["--overwrite"]].concat());
    let output = again.output().await.unwrap();
    assert!(output.status.success() && count(&results(&file), "SENT") == rows, "{output:?}");
    let duplicates = stack.sandbox("/sandbox/state").await["duplicates"].as_u64().unwrap();
    assert!(duplicates <= unknown, "only what was unknown is sent again: {duplicates} of {unknown}");
}

#[tokio::test]
async fn a_bulk_whose_command_was_killed_goes_on_under_its_name() {
    a_killed_command_goes_on(&["--bulk-id", "sale"]).await;
}

#[tokio::test]
async fn a_bulk_whose_command_was_killed_goes_on_by_the_same_command() {
    a_killed_command_goes_on(&[]).await;
}

/// Nobody is sent to twice, however often the command runs.
async fn a_killed_command_goes_on(name: &[&str]) {
    let (stack, rows) = (harness::start().await, 2000);
    let folder = tempfile::tempdir().unwrap();
    let file = slow_audience(folder.path(), rows);
    let service = Service::start(&stack, folder.path(), "127.0.0.1:0").await;
    let named = |more: &[&str]| bulk_at(&service.address, &file, &[name, more].concat());
    let mut child = named(&[]).spawn().unwrap();
    wait_for_delivered(&stack, rows / 4).await;
    child.kill().await.unwrap();
    let output = named(&[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--overwrite"), "{output:?}");

    let output = named(&["--overwrite"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let results = results(&file);
    assert_eq!((results.len() as u64, count(&results, "SENT")), (rows, rows));
    let replayed = results.values().filter(|result| result.1.contains(",true,")).count() as u64;
    assert!((rows / 4..rows).contains(&replayed), "{replayed}");
    let output = named(&["--overwrite"]).output().await.unwrap();
    let says_so = text(&output.stderr).contains("nothing was sent anew");
    assert!(output.status.success() && says_so == name.is_empty(), "{output:?}");
    let state = stack.sandbox("/sandbox/state").await;
    assert_eq!((&state["delivered"], &state["duplicates"]), (&rows.into(), &0.into()), "{state}");
}

#[tokio::test]
async fn ctrl_c_ends_a_bulk_that_has_lost_its_service() {
    let stack = harness::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = slow_audience(folder.path(), 2000);
    let service = Service::start(&stack, folder.path(), "127.0.0.1:0").await;
    let mut child = bulk_at(&service.address, &file, &["--bulk-id", "big sale"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    wait_for_delivered(&stack, 500).await;
    service.end("KILL").await;
    wait_for(&mut lines, "reconnecting: ").await;
    signal(&child, "INT");
    wait_for(&mut lines, "NO_RESULT").await;
    wait_for(&mut lines, "--bulk-id 'big sale' --overwrite").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(1));
    let results = results(&file);
    let (sent, in_doubt) = (count(&results, "SENT"), count(&results, "NO_RESULT"));
    assert!(sent > 0 && in_doubt > 0 && sent + in_doubt == results.len() as u64, "{results:?}");
}

#[tokio::test]
async fn the_record_of_a_bulk_is_listed_and_counted() {
    let stack = harness::start().await;
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..2500).map(|n| format!("{n},good-{n:04}\n")).collect();
    let file =
        audience(folder.path(), &format!("recipient,item_id\n{rows}fail-551,bad\nnull-in-batch,lost\n"));
    let output = bulk_at(&stack.address, &file, &["--bulk-id", "sale"]).output().await.unwrap();
    let hint = format!("bulk results sale --state unknown --address {}", stack.address);
    assert!(text(&output.stderr).contains(&hint), "{output:?}");

    let ask = async |question: &str| {
        let arguments: Vec<&str> = ["bulk"].into_iter().chain(question.split(' ')).collect();
        run(&[&arguments[..], &["--address", &stack.address]].concat()).await
    };
    let failed = ask("results sale --state failed").await;
    let expected = "item_id,state,message_id,attempts,reason,graph_code,graph_subcode,retryable,error\n\
                    bad,FAILED,,,RECIPIENT_UNAVAILABLE,551,0,false,";
    assert!(failed.status.success() && text(&failed.stdout).starts_with(expected), "{failed:?}");
    assert_eq!(text(&failed.stdout).lines().count(), 2);
    let json = text(&ask("results sale --state failed --json").await.stdout);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["item_id"], &json["graph_code"]), (&"bad".into(), &551.into()));
    assert!(json["message_id"].is_null() && json["retryable"] == false, "{json}");

    let unknown = text(&ask("results sale --state unknown").await.stdout);
    assert!(unknown.lines().count() == 2 && unknown.contains("\nlost,UNKNOWN,"), "{unknown}");
    let list = folder.path().join("list.csv");
    let to_file = format!("results sale -o {}", list.display());
    assert!(ask(&to_file).await.status.success());
    let listed = std::fs::read_to_string(&list).unwrap();
    let ids: Vec<_> = listed.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert!(ids.len() == 2502 && ids.is_sorted(), "all pages: {}", ids.len());
    assert_eq!(ask(&to_file).await.status.code(), Some(1), "a list is not overwritten");

    let status = text(&ask("status sale").await.stdout);
    assert!(status.contains("sent: 2500\nfailed: 1\nunknown: 1\nin_flight: 0\n"), "{status}");
    let nothing = ask("status no-such-bulk").await;
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).contains("BULK_NOT_FOUND"), "{nothing:?}");
}

#[tokio::test]
async fn the_demo_sends_its_audience() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results.csv");
    let output = run(&["demo", "--messages", "500", "--results", results.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    let results = std::fs::read_to_string(results).unwrap();
    assert_eq!(results.lines().filter(|line| line.contains(",SENT,")).count(), 500);
}

#[tokio::test]
async fn bad_rows_are_named_by_line_and_sent_nowhere() {
    let stack = harness::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = audience(folder.path(), "recipient,item_id\n1,a\n,b\n\"x\ny\",c\nonly-one-column\n4,d\n");
    let output = bulk(&stack, &file).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "not every row was sent");
    let shown = text(&output.stderr);
    assert!(shown.contains("line 3") && shown.contains("line 6"), "{shown}");
    let results = std::fs::read_to_string(folder.path().join("audience.csv.results.csv")).unwrap();
    assert_eq!(results.lines().filter(|line| line.contains("INVALID_ROW")).count(), 2, "{results}");
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], 3);
    let again = bulk(&stack, &file).output().await.unwrap();
    assert!(text(&again.stderr).contains("--overwrite"), "results are not overwritten unasked");
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], 3);
}

#[tokio::test]
async fn ctrl_c_ends_a_bulk_with_the_results_of_what_was_sent() {
    let stack = harness::start_with(&["--page-access-token", "t", "--bulk-in-flight-max", "50"]).await;
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..100_000).map(|n| format!("slow-50.{n},{n}\n")).collect();
    let file = audience(folder.path(), &format!("recipient,item_id\n{rows}"));
    let child = bulk(&stack, &file).spawn().unwrap();
    while stack.sandbox("/sandbox/state").await["delivered"] == 0 {
        tokio::task::yield_now().await;
    }
    signal(&child, "INT");
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let results = std::fs::read_to_string(folder.path().join("audience.csv.results.csv")).unwrap();
    let sent = results.lines().filter(|line| line.contains(",SENT,")).count();
    assert!(sent > 0 && sent < 100_000, "{sent}");
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], sent);
}

#[tokio::test]
async fn a_service_is_healthy_until_it_is_told_to_stop() {
    let stack = harness::start().await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(&stack, folder.path(), "127.0.0.1:0").await;
    let address = format!("http://{}", service.address);
    while !run(&["healthcheck", "--address", &address]).await.status.success() {}
    let send = ["send", "text", "hi", "--messaging-type", "update", "--address", &address];
    let output = run(&[&send[..], &["--to", "7"]].concat()).await;
    assert!(output.status.success() && text(&output.stdout).contains("message_id"), "{output:?}");
    let output = run(&[&send[..], &["--to", "fail-551"]].concat()).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("RECIPIENT_UNAVAILABLE"), "{output:?}");
    assert!(service.end("TERM").await.success());
    let output = run(&["healthcheck", "--address", &address]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[tokio::test]
async fn send_says_that_a_receipt_is_from_the_record() {
    let stack = harness::start().await;
    let send = ["send", "text", "hi", "--to", "7", "--messaging-type", "update", "--request-id", "order-1"];
    let send = [&send[..], &["--address", &stack.address]].concat();
    let (first, again) = (run(&send).await, run(&send).await);
    assert!(first.status.success() && again.status.success(), "{first:?} {again:?}");
    assert!(first.stderr.is_empty(), "{first:?}");
    assert!(text(&again.stderr).contains("nothing was sent now"), "{again:?}");
    let message_id = |output: &Output| text(&output.stdout).lines().next().unwrap().to_owned();
    assert_eq!(message_id(&first), message_id(&again));
    assert_eq!(stack.sandbox("/sandbox/state").await["delivered"], 1);
}

#[tokio::test]
async fn check_tells_good_tokens_from_bad_ones() {
    let stack = harness::start().await;
    let check = |token: &'static str| {
        let mut command = command(&["check", "--graph-url", &stack.sandbox_url]);
        command.env("PAGE_ACCESS_TOKEN", token);
        command
    };
    assert!(check("good").output().await.unwrap().status.success());
    let output = check("expired-1").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert!(shown.contains("PAGE_TOKEN_INVALID") && !shown.contains("expired-1"), "{shown}");
}
