//! The built binary: what a person at a terminal does with it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::harness::{self, Stack};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messenger-connector"));
    command.args(arguments).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(arguments: &[&str]) -> Output {
    command(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// Waits for a line on standard error that holds `wanted`.
async fn wait_for(lines: &mut Lines<BufReader<ChildStderr>>, wanted: &str) -> String {
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(wanted) {
            return line;
        }
    }
    panic!("the command ended without saying {wanted:?}");
}

fn audience(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("audience.csv");
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `bulk` on a file, with a text that has no variables.
fn bulk(stack: &Stack, file: &Path) -> Command {
    let arguments =
        ["bulk", file.to_str().unwrap(), "--address", &stack.address, "--messaging-type", "update"];
    command(&[&arguments[..], &["--text", "hello"]].concat())
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
    let ledger = format!("sqlite://{}", folder.path().join("ledger.db").display());
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--graph-url", &stack.sandbox_url, "--ledger", &ledger];
    let mut serve = command(&arguments).env("PAGE_ACCESS_TOKEN", "t").spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines();
    let line = wait_for(&mut lines, "listens").await;
    let address = format!("http://{}", line.rsplit('=').next().unwrap());
    while !run(&["healthcheck", "--address", &address]).await.status.success() {}
    let output =
        run(&["send", "text", "hi", "--to", "7", "--messaging-type", "update", "--address", &address]).await;
    assert!(output.status.success() && text(&output.stdout).contains("message_id"), "{output:?}");
    let refused =
        ["send", "text", "hi", "--to", "fail-551", "--messaging-type", "update", "--address", &address];
    let output = run(&refused).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("RECIPIENT_UNAVAILABLE"), "{output:?}");
    signal(&serve, "TERM");
    assert!(serve.wait().await.unwrap().success());
    let output = run(&["healthcheck", "--address", &address]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
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
