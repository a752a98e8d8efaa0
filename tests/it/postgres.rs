//! A throwaway Postgres server for this run of the tests, and a wire to it that can be cut.
//!
//! `TEST_POSTGRES_URL=postgres://user@host:port/postgres` names a server to use instead; the tests make databases there.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

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
        // The port is free again for the moment until Postgres takes it.
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = command()
            .arg(include_str!("../postgres.sh"))
            .arg("postgres.sh")
            .arg(binaries())
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "postgres did not start");
        let url = Url::parse(&format!("postgres://test@127.0.0.1:{port}/postgres")).unwrap();
        Self { url, _process: Some(process) }
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
