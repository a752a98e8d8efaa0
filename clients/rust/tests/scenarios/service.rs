//! A sandbox and a service in processes of their own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use messenger_connector_client::{MessengerClient, Options, Tls};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::scenario::{Connect, Service};

/// Nobody listens there.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

fn binary() -> PathBuf {
    let binary = match std::env::var_os("MESSENGER_CONNECTOR") {
        Some(binary) => PathBuf::from(binary),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/messenger-connector"),
    };
    assert!(
        binary.exists(),
        "{}: there is no service: cargo build makes it, MESSENGER_CONNECTOR names another one",
        binary.display()
    );
    binary
}

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../certificates")
}

/// What a scenario runs on.
pub(crate) struct Stack {
    folder: TempDir,
    service: Service,
    sandbox: Option<Process>,
    serve: Option<Process>,
    http: reqwest::Client,
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    /// Starts a command, and waits until it listens.
    async fn start(mut command: Command) -> Self {
        let mut child = command.kill_on_drop(true).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let Some(line) = lines.next_line().await.unwrap() else { panic!("it does not listen: {said}") };
            if line.contains("listens") {
                break line.rsplit(['=', '/', ' ']).next().unwrap().to_owned();
            }
            said += &line;
        };
        // Read to their end, or the process would stop once the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }
}

impl Stack {
    pub(crate) async fn start(service: Service) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in &service.files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut stack = Self { folder, service, sandbox: None, serve: None, http: reqwest::Client::new() };
        if let Some(arguments) = &stack.service.sandbox {
            let mut command = Command::new(binary());
            command.args(["sandbox", "--listen", "127.0.0.1:0"]).args(arguments);
            stack.sandbox = Some(Process::start(command).await);
        }
        stack.serve("127.0.0.1:0").await;
        stack
    }

    async fn serve(&mut self, listen: &str) {
        let Some(arguments) = &self.service.serve else { return };
        let graph_url = self.sandbox_url("");
        let ledger = format!("sqlite://{}", self.folder.path().join("ledger.db").display());
        let mut command = Command::new(binary());
        command
            .args(["serve", "--listen", listen, "--graph-url", &graph_url, "--ledger", &ledger])
            .args(["--rate-per-second", "0", "--media-rate-per-second", "0", "--admin-listen", "none"])
            .args(arguments.iter().map(|argument| self.fill(argument)))
            .env("PAGE_ACCESS_TOKEN", "token")
            .envs(&self.service.environment);
        self.serve = Some(Process::start(command).await);
    }

    /// Ends the service by a signal, and starts it again at its address.
    pub(crate) async fn restart(&mut self, signal: &str) -> ExitStatus {
        let mut process = self.serve.take().unwrap();
        let pid = process.child.id().unwrap().to_string();
        let signal = signal.trim_start_matches("SIG");
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap().success());
        let ended = process.child.wait().await.unwrap();
        self.serve(&process.address).await;
        ended
    }

    pub(crate) fn connect(&self, connect: &Connect) -> MessengerClient {
        let file = |name: &str| std::fs::read(self.fill(name)).unwrap();
        let tls = connect.tls.as_ref().map(|files| {
            let tls = Tls::default();
            let tls = if let Some(ca) = &files.ca { tls.with_ca(file(ca)) } else { tls };
            match (&files.certificate, &files.key) {
                (Some(certificate), Some(key)) => tls.with_identity(file(certificate), file(key)),
                (None, None) => tls,
                _ => panic!("a certificate goes with its key"),
            }
        });
        let options = Options { key: connect.key.clone(), tls, ..Options::default() };
        MessengerClient::connect(self.address(), options).unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.serve.as_ref().map_or(NOBODY, |serve| &serve.address)
    }

    fn fill(&self, text: &str) -> String {
        let folder = self.folder.path().to_str().unwrap();
        text.replace("{folder}", folder).replace("{certificates}", certificates().to_str().unwrap())
    }

    fn sandbox_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.sandbox.as_ref().map_or(NOBODY, |sandbox| &sandbox.address))
    }

    pub(crate) async fn ask_sandbox(&self, path: &str) -> Value {
        let answer = self.http.get(self.sandbox_url(path)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    pub(crate) async fn delivered(&self) -> u64 {
        self.ask_sandbox("/sandbox/state").await["delivered"].as_u64().unwrap()
    }

    pub(crate) async fn wait_for_delivered(&self, count: u64) {
        while self.delivered().await < count {
            tokio::task::yield_now().await;
        }
    }
}
