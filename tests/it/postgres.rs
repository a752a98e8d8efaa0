//! A throwaway Postgres server for this run of the tests, and a wire to it that can be cut.
//!
//! `TEST_POSTGRES_URL=postgres://user@host:port/postgres` names a server to use instead; the tests make databases there.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use url::Url;

/// The server of this run, started when it is first asked for. It ends with the tests, because the pipe to its
/// standard input does.
struct Server {
    url: Url,
    _process: Option<Child>,
}

static SERVER: OnceLock<Server> = OnceLock::new();

impl Server {
    fn start() -> Self {
        if let Some(url) = std::env::var_os("TEST_POSTGRES_URL") {
            let url = Url::parse(&url.into_string().unwrap()).expect("TEST_POSTGRES_URL is no address");
            return Self { url, _process: None };
        }
        let (url, mut process) = launch();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "postgres did not start");
        Self { url, _process: Some(process) }
    }
}

/// Starts a server; its address, and the process that says when it is ready and takes commands.
fn launch() -> (Url, Child) {
    // The port is free again for the moment until Postgres takes it.
    let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let process = command()
        .arg(include_str!("../postgres.sh"))
        .arg("postgres.sh")
        .arg(binaries())
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    (Url::parse(&format!("postgres://test@127.0.0.1:{port}/postgres")).unwrap(), process)
}

/// A server of a test's own, which may stop it, kill it and take it back to an earlier state.
pub struct OwnServer {
    pub url: Url,
    commands: ChildStdin,
    answers: Arc<Mutex<BufReader<ChildStdout>>>,
    /// The script that the server belongs to.
    _process: Child,
}

impl OwnServer {
    pub async fn start() -> Self {
        let (url, mut process) = launch();
        let commands = process.stdin.take().unwrap();
        let answers = Arc::new(Mutex::new(BufReader::new(process.stdout.take().unwrap())));
        let server = Self { url, commands, answers, _process: process };
        server.ready().await;
        server
    }

    async fn ready(&self) {
        let answers = self.answers.clone();
        let mut line = String::new();
        let read = move || answers.lock().unwrap().read_line(&mut line).map(|_| line);
        assert_eq!(tokio::task::spawn_blocking(read).await.unwrap().unwrap(), "ready\n");
    }

    async fn order(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        self.ready().await;
    }

    /// Kills it, as a crash does, and starts it again.
    pub async fn kill(&mut self) {
        self.order("kill").await;
    }

    /// Keeps a copy of all its data as they are now. It is away meanwhile.
    pub async fn save(&mut self) {
        self.order("save").await;
    }

    /// Puts a server in its place that has only what the copy has.
    pub async fn restore(&mut self) {
        self.order("restore").await;
    }

    /// Stops all its processes for so long, and lets them go on.
    pub async fn stop_for(&self, pause: Duration) {
        let mut connection = PgConnection::connect(self.url.as_str()).await.unwrap();
        let postmaster = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int";
        let postmaster: i32 = sqlx::query_scalar(postmaster).fetch_one(&mut connection).await.unwrap();
        // It starts no other ones from then on.
        signal("STOP", &[postmaster]);
        let others = "SELECT pid FROM pg_stat_activity ORDER BY pid = pg_backend_pid()";
        let others: Vec<i32> = sqlx::query_scalar(others).fetch_all(&mut connection).await.unwrap();
        signal("STOP", &others);
        tokio::time::sleep(pause).await;
        signal("CONT", &others);
        signal("CONT", &[postmaster]);
    }
}

/// Signals processes, of which some may be gone.
fn signal(name: &str, processes: &[i32]) {
    for process in processes {
        drop(Command::new("kill").args(["-s", name, &process.to_string()]).stderr(Stdio::null()).status());
    }
}

/// Postgres refuses to run as root.
fn command() -> Command {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if !is_root {
        let mut command = Command::new("sh");
        command.arg("-c");
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c"]);
    command
}

/// Where `initdb` and `pg_ctl` are: Debian keeps them out of the path.
fn binaries() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = debian.map(|version| version.unwrap().path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = debian.chain(std::env::split_paths(&path)).collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.pop().expect("these tests need a Postgres server: install it (Debian: postgresql), or name one in TEST_POSTGRES_URL")
}

/// The address of a new, empty database.
pub async fn new_database() -> Url {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Server::start)).await.unwrap();
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(server.url.as_str()).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let mut url = server.url.clone();
    url.set_path(&name);
    url
}

/// A wire to a database. Cut, it ends every connection and takes no new ones.
pub struct Wire {
    address: SocketAddr,
    server: String,
    cut: CancellationToken,
}

impl Wire {
    /// A wire to the server at `url`, and the address that leads through it.
    pub async fn to(url: &Url) -> (Self, Url) {
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut through = url.clone();
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(address.port())).unwrap();
        let mut wire = Self { address, server, cut: CancellationToken::new() };
        wire.carry(listener);
        (wire, through)
    }

    fn carry(&mut self, listener: TcpListener) {
        self.cut = CancellationToken::new();
        let (cut, server) = (self.cut.clone(), self.server.clone());
        tokio::spawn(self.cut.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(cut.clone().run_until_cancelled_owned(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                }));
            }
        }));
    }

    pub fn cut(&self) {
        self.cut.cancel();
    }

    pub fn mend(&mut self) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(64).unwrap();
        self.carry(listener);
    }
}
