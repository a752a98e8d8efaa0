//! The house rules: who may name whom, and how long things may be.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MEDIAN_MAX: usize = 200;

pub struct File {
    pub path: String,
    text: String,
}

fn files_under(folder: &str) -> Vec<File> {
    fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, paths);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(folder), &mut paths);
    paths.sort();
    let read = |path: PathBuf| File {
        path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(read).collect()
}

pub fn source_files() -> Vec<File> {
    let files = files_under("src");
    assert!(files.len() > 20, "the sources are there to be looked at");
    files
}

/// The code of a file: without comments and without the tests at its end.
pub fn code(file: &File) -> String {
    let text = file.text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn is_under(path: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| path.starts_with(&format!("src/{room}/")) || path == format!("src/{room}.rs"))
}

/// True if `code` names the crate or module `name` as a path.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
            || (name.starts_with("crate") && before != Some('_'))
    })
}

#[test]
fn every_foreign_language_is_spoken_in_its_own_room() {
    let table: [(&[&str], &[&str]); 8] = [
        (
            &["tonic", "prost", "prost_types", "tonic_types", "tonic_health", "tonic_reflection"],
            &["api", "server", "cli"],
        ),
        (&["messenger_connector_client"], &["cli"]),
        (&["reqwest"], &["cli"]),
        (&["sqlx"], &["ledger"]),
        (&["axum", "hyper"], &["graph", "sandbox", "server"]),
        (&["rustls", "tokio_rustls"], &["graph", "sandbox", "server", "main"]),
        (&["x509_parser"], &["server"]),
        (
            &[
                "opentelemetry",
                "opentelemetry_otlp",
                "opentelemetry_prometheus",
                "opentelemetry_sdk",
                "prometheus",
                "tracing_opentelemetry",
                "tracing_subscriber",
            ],
            &["telemetry"],
        ),
    ];
    for file in source_files() {
        let code = code(&file);
        for (crates, rooms) in &table {
            for name in *crates {
                assert!(
                    is_under(&file.path, rooms) || !names(&code, name),
                    "{} names {name}, which only {rooms:?} may",
                    file.path
                );
            }
        }
    }
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let shared = ["message", "error", "limits"];
    let below: [(&str, &[&str]); 11] = [
        ("dispatch", &["ledger", "graph", "template", "pages", "supervised", "telemetry"]),
        ("graph", &["pages", "telemetry"]),
        ("template", &[]),
        ("ledger", &["telemetry"]),
        ("telemetry", &[]),
        ("pages", &["watched"]),
        ("callers", &["watched"]),
        ("watched", &[]),
        ("message", &[]),
        ("supervised", &[]),
        ("sandbox", &[]),
    ];
    let rooms = [
        "api",
        "callers",
        "cli",
        "config",
        "dispatch",
        "graph",
        "ledger",
        "pages",
        "sandbox",
        "server",
        "supervised",
        "telemetry",
        "template",
        "watched",
    ];
    for file in source_files() {
        let Some((room, allowed)) = below.iter().find(|(room, _)| is_under(&file.path, &[room])) else {
            continue;
        };
        let code = code(&file);
        for other in rooms.iter().filter(|other| *other != room) {
            let allowed = allowed.contains(other) || shared.contains(other);
            assert!(allowed || !names(&code, &format!("crate::{other}")), "{} names {other}", file.path);
        }
        if *room == "sandbox" {
            assert!(
                !names(&code, "crate::message") && !names(&code, "crate::limits"),
                "{}: the sandbox checks \
                 the translation, so it must not share its rules",
                file.path
            );
        }
    }
}

#[test]
fn grpc_codes_are_named_in_one_file() {
    for file in source_files() {
        let is_exempt = file.path == "src/api/status.rs" || is_under(&file.path, &["cli"]);
        assert!(is_exempt || !names(&code(&file), "Code"), "{} names a gRPC code", file.path);
    }
}

#[test]
fn files_and_functions_are_short() {
    let files: Vec<_> = ["src", "tests", "benches", "clients/rust"]
        .into_iter()
        .filter(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).exists())
        .flat_map(files_under)
        .filter(|file| !file.path.starts_with("clients/rust/src/gen/"))
        .collect();
    for file in &files {
        let lines = file.text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", file.path);
        let mut start = None;
        for (number, line) in file.text.lines().enumerate() {
            let is_function = line.trim_start().starts_with("fn ") || line.contains(" fn ");
            if is_function && !line.trim_start().starts_with("//") && line.trim_end().ends_with(['{', '(']) {
                start = Some((number, line.len() - line.trim_start().len()));
            }
            if let Some((first, indent)) = start
                && line.len() > indent
                && line[..indent].trim().is_empty()
                && line[indent..].starts_with('}')
            {
                let lines = number - first + 1;
                assert!(
                    lines <= FUNCTION_LINES_MAX,
                    "{}:{}: a function of {lines} lines",
                    file.path,
                    first + 1
                );
                start = None;
            }
        }
    }
    let mut lengths: Vec<_> = files.iter().map(|file| file.text.lines().count()).collect();
    lengths.sort_unstable();
    assert!(
        lengths[lengths.len() / 2] < FILE_LINES_MEDIAN_MAX,
        "the median file has {} lines",
        lengths[lengths.len() / 2]
    );
}
