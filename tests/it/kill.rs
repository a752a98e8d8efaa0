//! The built binary, serving, and what may be said of a bulk after it was killed.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use messenger_connector::api::pb::ItemState;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::account::{Account, Deliveries, Records, Tally, Told};

/// The binary, serving.
pub struct Service {
    pub child: Child,
    pub address: String,
    pub lines: Lines<BufReader<ChildStdout>>,
}

/// Starts it, and does not wait until it listens.
pub fn spawn(ledger: &str, sandbox_url: &str, more: &[&str]) -> Child {
    let no_admin = if more.contains(&"--admin-listen") { &[][..] } else { &["--admin-listen", "none"] };
    Command::new(env!("CARGO_BIN_EXE_messenger-connector"))
        .args(["serve", "--listen", "127.0.0.1:0", "--graph-url", sandbox_url, "--ledger", ledger])
        .args(no_admin)
        .args(more)
        .env("PAGE_ACCESS_TOKEN", "token")
        .env("CONNECTOR_RATE_PER_SECOND", "0")
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Service {
    /// Starts it with these options more.
    pub async fn start_with(ledger: &str, sandbox_url: &str, more: &[&str]) -> Self {
        let mut child = spawn(ledger, sandbox_url, more);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("listens address=") {
                return Self { child, address: format!("http://{address}"), lines };
            }
            log.push_str(&line);
        }
        panic!("the service ended before it listened: {log}");
    }

    /// Waits until it logs this.
    pub async fn wait_for(&mut self, wanted: &str) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if line.contains(wanted) {
                return line;
            }
        }
        panic!("the service ended without saying {wanted:?}");
    }

    /// Sends it a signal, such as TERM.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Reads its log from now on, so that it never waits for a reader.
    pub fn read_log(self) -> (Child, Arc<Mutex<Vec<String>>>) {
        let Self { child, mut lines, .. } = self;
        let log = Arc::<Mutex<Vec<String>>>::default();
        let read = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                read.lock().unwrap().push(line);
            }
        });
        (child, log)
    }
}

/// Sends a process a signal, such as TERM.
pub fn signal(process: &Child, name: &str) {
    let pid = process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

/// What is wrong with a bulk, of which every item can be sent, by what was delivered and what is on record of it.
pub fn judge(account: &Account, delivered: &Deliveries, records: &Records) -> (Vec<String>, Tally) {
    let (mut violations, tally) = account.audit(delivered, records);
    let is_unknown = |told: &Told| told.state == ItemState::Unknown;
    let unknown: BTreeSet<_> =
        account.told().into_iter().filter(|(_, told)| is_unknown(told)).map(|(id, _)| id).collect();
    for item_id in unknown.difference(&account.in_flight()) {
        violations.push(format!("{item_id}: unknown, though it was never in flight at a kill"));
    }
    if tally.sent + tally.unknown != tally.items {
        violations.push("everything can be sent".to_owned());
    }
    (violations, tally)
}
