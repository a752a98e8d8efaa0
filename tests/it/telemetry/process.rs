//! The built binary, telling all that it has to tell.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// `serve` with a collector, an admin port, and logs in JSON.
pub struct Process {
    child: Child,
    pub address: String,
    pub admin_address: String,
    log: JoinHandle<String>,
    errors: JoinHandle<String>,
}

impl Process {
    /// Starts it with these options and variables more.
    pub async fn start(
        folder: &Path,
        collector: &str,
        graph_url: &str,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let ledger = format!("sqlite://{}", folder.join("ledger.db").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_messenger-connector"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--drain-delay-ms",
                "0",
            ])
            .args(["--log-format", "json", "--ledger", &ledger, "--graph-url", graph_url])
            .args(more)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .envs(variables.iter().copied())
            .kill_on_drop(true)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut addresses, mut said) = (Vec::new(), String::new());
        while addresses.len() < 2 {
            let Some(line) = lines.next_line().await.unwrap() else { panic!("it ended early: {said}") };
            let line_json: serde_json::Value = serde_json::from_str(&line).unwrap();
            let fields = &line_json["fields"];
            if fields["message"].as_str().is_some_and(|message| message.ends_with("listens")) {
                addresses.push(format!("http://{}", fields["address"].as_str().unwrap()));
            }
            said += &line;
        }
        let mut errors = child.stderr.take().unwrap();
        let [address, admin_address] = addresses.try_into().unwrap();
        let log = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                said += &line;
            }
            said
        });
        let errors = tokio::spawn(async move {
            let mut text = String::new();
            errors.read_to_string(&mut text).await.unwrap();
            text
        });
        Self { child, address, admin_address, log, errors }
    }

    pub async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("{}/metrics", self.admin_address)).await.unwrap();
        String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap()
    }

    /// Ends it as an operator would, and returns all that it wrote.
    pub async fn end(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.child.wait().await.unwrap().success());
        self.log.await.unwrap() + &self.errors.await.unwrap()
    }
}
