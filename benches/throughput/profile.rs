//! Where the microseconds go: a sampling profile of the service under a bulk, by room.
//!
//! `perf` samples the service's stacks; each sample goes to the room of its innermost frame that belongs to one. What
//! the sample was busy with, such as memory or the kernel, is a column of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::Scale;
use crate::audience::Kind;
use crate::bulk::Bulk;
use crate::deliveries::Deliveries;
use crate::meter::Meter;
use crate::process::{Setup, Stack};
use crate::report::{Section, row, table};

const DURATION: Duration = Duration::from_secs(10);
/// How long the bulk runs before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// More than a bulk sends meanwhile.
const BULK_MESSAGES: u64 = 100_000_000;
const SAMPLES_PER_SECOND: &str = "499";
/// Bytes of stack that a sample keeps: enough for the deepest one of the service.
const CALL_GRAPH: &str = "dwarf,16384";

/// A part of a frame's name, and the room that it belongs to. The first one that a frame matches counts.
const ROOMS: [(&str, &str); 25] = [
    ("messenger_connector::template", "template: rendering"),
    ("messenger_connector::api::pb", PROTOBUF),
    ("messenger_connector::api::convert", CONVERSION),
    ("messenger_connector::api::bulk::plan", CONVERSION),
    ("messenger_connector::message", CONVERSION),
    ("messenger_connector::api::fingerprint", "api: fingerprint"),
    ("messenger_connector::api", "api: stream and results"),
    ("messenger_connector::dispatch::call", "dispatch: call"),
    ("messenger_connector::dispatch", "dispatch: lane and queue"),
    ("messenger_connector::graph::request", BODY),
    ("messenger_connector::graph::batch::body", BODY),
    ("messenger_connector::graph::client", HTTP),
    ("messenger_connector::graph", "graph: answer"),
    ("messenger_connector::ledger", WRITER),
    ("sqlx_", WRITER),
    ("prost_types", PROTOBUF),
    ("prost::", PROTOBUF),
    ("reqwest", HTTP),
    ("hyper_util::client", HTTP),
    ("hyper::client", HTTP),
    ("hyper::proto::h1", HTTP),
    ("h2::", GRPC),
    ("tonic::", GRPC),
    ("hyper::", GRPC),
    ("hyper_util", GRPC),
];
/// The same for SQLite's thread, outermost work first: the first one that any frame of a stack matches counts.
const SQLITE_ROOMS: [(&str, &str); 6] = [
    ("heckpoint", "ledger: SQLite, checkpoints"),
    ("fsync", "ledger: SQLite, flushes"),
    ("pagerWalFrames", "ledger: SQLite, the log"),
    ("sqlite3Btree", "ledger: SQLite, the tree"),
    ("sqlite3VdbeExec", "ledger: SQLite, statements"),
    ("sqlite3", "ledger: SQLite, the rest"),
];
const PROTOBUF: &str = "api: protobuf";
const CONVERSION: &str = "api: conversion";
const BODY: &str = "graph: body";
const HTTP: &str = "graph: HTTP client";
const GRPC: &str = "transport: HTTP/2 and gRPC";
const WRITER: &str = "ledger: writer";
const SQLITE: &str = "ledger: SQLite, its thread";
/// Of samples in no room, and of idle threads that wake up.
const RUNTIME: &str = "tokio: scheduling";
/// The thread that sqlx runs SQLite on, as far as Linux keeps its name.
const SQLITE_THREAD: &str = "sqlx-sqlite";

/// What a sample was busy with.
const ALLOCATION: [&str; 12] = [
    "malloc",
    "_int_malloc",
    "malloc_consolidate",
    "cfree",
    "free",
    "_int_free",
    "realloc",
    "_int_realloc",
    "calloc",
    "unlink_chunk",
    "sysmalloc",
    "systrim",
];
const COPYING: [&str; 3] = ["__memmove", "__memset", "__memcpy"];

/// Samples of one room.
#[derive(Default)]
struct Room {
    all: f64,
    kernel: f64,
    allocation: f64,
    copying: f64,
}

/// Takes the profile.
///
/// # Errors
/// If there is no `perf`, or a message is not sent.
pub(crate) async fn measure(scale: Scale) -> anyhow::Result<Section> {
    let mut tables = String::new();
    for kind in [Kind::Text, Kind::Template] {
        let (rooms, service_us) = profile(kind, scale.time(DURATION)).await?;
        tables.push_str(&format!("\nBulk, {}: {service_us:.1} µs per message.\n\n", kind.name()));
        tables.push_str(&rooms_table(&rooms, service_us));
    }
    let text = format!(
        "## Profile\n\n`make profile`: CPU of the service while a bulk runs, in µs per message, by room; of that in the kernel, in \
         the allocator, and copying memory. Rooms are told apart by the innermost frame of a sampled stack that belongs to \
         one, so a library counts for the room that calls it.\n{tables}"
    );
    Ok(Section { name: "profile", text, targets: Vec::new(), plots: Vec::new() })
}

/// Answers the samples by room, and the service's CPU time per message in microseconds.
async fn profile(kind: Kind, duration: Duration) -> anyhow::Result<(BTreeMap<&'static str, Room>, f64)> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let stack = Stack::start(Setup::default()).await?;
    let mut client = stack.service.client().await?;
    let bulk = tokio::spawn(async move { Bulk::new(kind, "sale", 0..BULK_MESSAGES).send(&mut client).await });
    tokio::time::sleep(WARM_UP).await;
    let delivered = async || anyhow::Ok(Deliveries::of(&stack).await?.between(0, u64::MAX));
    let (meter, before) = (Meter::start(&stack)?, delivered().await?);
    record(stack.service.id()?, duration, folder.path()).await?;
    let cost = meter.read(delivered().await? - before)?;
    ensure!(!bulk.is_finished(), "the bulk ended: {:?}", bulk.await?.map(drop));
    bulk.abort();
    let script = perf(&["script", "--no-inline", "--fields", "comm,ip,sym,dso"], folder.path()).await?;
    Ok((by_room(&script), cost.service_us))
}

async fn record(process: u32, duration: Duration, folder: &Path) -> anyhow::Result<()> {
    let (process, seconds) = (process.to_string(), duration.as_secs_f64().to_string());
    let arguments = [
        "record",
        "--output",
        "perf.data",
        "--event",
        "cpu-clock",
        "--freq",
        SAMPLES_PER_SECOND,
        "--call-graph",
        CALL_GRAPH,
        "--pid",
    ];
    perf(&[&arguments[..], &[&process, "--", "sleep", &seconds]].concat(), folder).await.map(drop)
}

async fn perf(arguments: &[&str], folder: &Path) -> anyhow::Result<String> {
    let mut command = Command::new("perf");
    let command = command.args(arguments).current_dir(folder).stderr(Stdio::piped());
    let output = command.output().await.context("this needs perf: install it (Debian: linux-perf)")?;
    ensure!(output.status.success(), "perf: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads what `perf script` says: samples with empty lines between them, each the name of its thread and then its frames,
/// innermost first.
fn by_room(script: &str) -> BTreeMap<&'static str, Room> {
    let mut rooms: BTreeMap<&'static str, Room> = BTreeMap::new();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.is_empty());
        let Some(thread) = lines.next() else { continue };
        let frames: Vec<&str> =
            lines.filter_map(|line| line.trim_start().split_once(' ')).map(|(_, frame)| frame).collect();
        let is_sqlite = thread.trim_start().starts_with(SQLITE_THREAD);
        let name = if is_sqlite { sqlite_room_of(&frames) } else { room_of(&frames) };
        let room = rooms.entry(name).or_default();
        let innermost = frames.first().copied().unwrap_or_default();
        let is_one_of = |names: &[&str]| names.iter().any(|name| innermost.starts_with(name));
        room.all += 1.0;
        let count = |is_so: bool| f64::from(u8::from(is_so));
        room.kernel += count(is_kernel(innermost));
        room.allocation += count(is_one_of(&ALLOCATION));
        room.copying += count(is_one_of(&COPYING));
    }
    rooms
}

fn room_of(frames: &[&str]) -> &'static str {
    let room = |frame: &&str| ROOMS.iter().find(|(part, _)| frame.contains(part)).map(|(_, room)| *room);
    frames.iter().filter(|frame| !is_kernel(frame)).find_map(room).unwrap_or(RUNTIME)
}

fn sqlite_room_of(frames: &[&str]) -> &'static str {
    let is_in = |part: &str| frames.iter().any(|frame| frame.contains(part));
    SQLITE_ROOMS.iter().find(|(part, _)| is_in(part)).map_or(SQLITE, |(_, room)| room)
}

fn is_kernel(frame: &str) -> bool {
    frame.ends_with("([kernel.kallsyms])") || frame.ends_with("([vdso])")
}

/// The dearest room first.
fn rooms_table(rooms: &BTreeMap<&'static str, Room>, service_us: f64) -> String {
    let samples: f64 = rooms.values().map(|room| room.all).sum();
    let us = |count: f64| format!("{:.2}", count / samples * service_us);
    let mut sorted: Vec<_> = rooms.iter().collect();
    sorted.sort_by(|(_, left), (_, right)| right.all.total_cmp(&left.all));
    let mut rows = vec![row(["room", "µs", "share, %", "kernel", "allocator", "copying"])];
    for (name, room) in sorted {
        let share = format!("{:.1}", room.all / samples * 100.0);
        rows.push(row([
            name,
            &us(room.all),
            &share,
            &us(room.kernel),
            &us(room.allocation),
            &us(room.copying),
        ]));
    }
    let sum = |of: fn(&Room) -> f64| us(rooms.values().map(of).sum());
    let total = [sum(|room| room.kernel), sum(|room| room.allocation), sum(|room| room.copying)];
    rows.push(row(["all", &us(samples), "100", &total[0], &total[1], &total[2]]));
    table(&rows)
}
