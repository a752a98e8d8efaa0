//! What was found: tables for people, targets, plots, and the place of it all in `docs/performance.md`.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// One part of the report.
#[derive(Debug)]
pub(crate) struct Section {
    /// Names its place in the document.
    pub(crate) name: &'static str,
    /// Markdown.
    pub(crate) text: String,
    pub(crate) targets: Vec<Target>,
    /// Pictures by their file names.
    pub(crate) plots: Vec<(&'static str, String)>,
}

/// A promise of the project, and what was measured.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) promise: String,
    pub(crate) measured: String,
    pub(crate) is_met: bool,
}

impl Target {
    pub(crate) fn new(promise: impl Into<String>, measured: impl Into<String>, is_met: bool) -> Self {
        Self { promise: promise.into(), measured: measured.into(), is_met }
    }
}

/// A table in Markdown that is also readable as it is: the first column to the left, all others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).max(2)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let cell = row.get(column).map(String::as_str).unwrap_or_default();
            let padding = " ".repeat(width - cell.chars().count());
            let cell = if column == 0 { format!("{cell}{padding}") } else { format!("{padding}{cell}") };
            text.push_str(&format!("| {cell} "));
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - usize::from(column > 0));
                text.push_str(&format!("| {dashes}{} ", if column > 0 { ":" } else { "" }));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// A row of a table.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// The targets of all sections as a section of its own, which also tells where they were measured, and under which load.
pub(crate) fn targets(sections: &[Section], load: &str) -> Section {
    let targets: Vec<_> = sections.iter().flat_map(|section| &section.targets).collect();
    let mut rows = vec![row(["promise", "measured", ""])];
    for target in &targets {
        rows.push(row([&target.promise, &target.measured, if target.is_met { "met" } else { "**missed**" }]));
    }
    let missed = targets.iter().filter(|target| !target.is_met).count();
    let text = format!(
        "## Promises\n\n{}\n\n{}\n{} of {} are met.\n",
        place(load),
        table(&rows),
        targets.len() - missed,
        targets.len()
    );
    Section { name: "promises", text, targets: Vec::new(), plots: Vec::new() }
}

/// How busy the machine is with other work: the load average of the last minute.
pub(crate) fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// Where and on what this was measured.
fn place(load: &str) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown CPU");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let commit = said_by("git", &["describe", "--always", "--dirty=, with changes"]);
    let date = said_by("date", &["--utc", "+%Y-%m-%d"]);
    format!(
        "`make bench` on {cores} cores ({model}), {date}, commit {commit}. Sandbox, service and callers share the cores \
         with each other, and with whatever else runs: the load average was {load} before it began."
    )
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout);
    String::from_utf8(output.unwrap_or_default()).unwrap_or_default().trim().to_owned()
}

/// Puts sections into their places in the document, and their plots beside it.
///
/// # Errors
/// If the document has no such place, or a file cannot be written.
pub(crate) fn write(sections: &[Section], document: &Path) -> anyhow::Result<()> {
    let mut text = std::fs::read_to_string(document)?;
    for section in sections {
        let (begin, end) = (
            format!("<!-- bench {}: written by make bench -->\n", section.name),
            format!("<!-- end {} -->", section.name),
        );
        let (before, rest) =
            text.split_once(&begin).with_context(|| format!("{document:?} lacks {begin}"))?;
        let (_, after) = rest.split_once(&end).with_context(|| format!("{document:?} lacks {end}"))?;
        let mut new = String::new();
        write!(new, "{before}{begin}\n{}\n{end}{after}", section.text)?;
        text = new;
        for (file, svg) in &section.plots {
            std::fs::write(document.with_file_name(file), svg)?;
        }
    }
    Ok(std::fs::write(document, text)?)
}
