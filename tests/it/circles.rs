//! No circles between files: what a file needs is read before it, and changed without it.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{code, source_files};

/// Circles that there are, and why they stay.
const NATURAL: [(&[&str], &str); 8] = [
    (
        &["graph::connector", "graph::pool", "graph::pool::lease"],
        "a pool opens connections, and a connection tells its pool how it fares",
    ),
    (&["ledger::outcome", "ledger::record"], "what is on record of a message is its outcome, and when"),
    (&["ledger::store", "ledger::transfer"], "a copy is read from a store and written to one"),
    (
        &["sandbox::batch", "sandbox::graph", "sandbox::send"],
        "Graph's batch is recursive: an entry of it is a call like any other",
    ),
    (
        &["sandbox::rules::attachment", "sandbox::rules::message"],
        "an attachment is part of a message, and a template in it has parts of one",
    ),
    (
        &[
            "template::budget",
            "template::helpers",
            "template::helpers::each",
            "template::item",
            "template::printf",
            "template::property",
            "template::render",
            "template::scope",
            "template::syntax",
            "template::writer",
        ],
        "an interpreter is one unit: its tree names helpers, and helpers render what is in the tree",
    ),
    (&["template::decimal", "template::number"], "a number is a decimal where a double is not exact"),
    (
        &["template::helpers::hash", "template::helpers::transforms"],
        "hashes are transforms, and share their table",
    ),
];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The module that a file is, such as `api::bulk::room`.
fn module(path: &str) -> String {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace('/', "::")
}

/// The paths of a `use` without its braces: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = &rest[..rest.rfind('}').unwrap()];
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    let parts = parts.into_iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(expand).map(|path| format!("{}{path}", before.trim())).collect()
}

/// What the code at the top of a module names with `use`, as paths from the root.
fn uses(module: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let statements = ["\nuse ", "\npub use ", "\npub(crate) use ", "\npub(super) use "];
    for statement in statements.into_iter().flat_map(|start| code.split(start).skip(1)) {
        let statement = statement.split(';').next().unwrap();
        for path in expand(statement) {
            let mut at: Vec<&str> = module.split("::").collect();
            let mut segments = path.split("::").map(|segment| segment.split(" as ").next().unwrap().trim());
            let first = segments.next().unwrap();
            match first {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => {}
                name => at.push(name),
            }
            for segment in segments {
                match segment {
                    "super" => drop(at.pop()),
                    "self" | "*" => {}
                    segment => at.push(segment),
                }
            }
            found.push(at.join("::"));
        }
    }
    found
}

/// Who names whom. A file may name the folder that it is in; tests may name all.
fn graph() -> Graph {
    let is_code = |path: &str| !path.contains("tests") && !path.starts_with("src/simulation/");
    let files: Vec<_> = source_files().into_iter().filter(|file| is_code(&file.path)).collect();
    let modules: BTreeSet<_> = files.iter().map(|file| module(&file.path)).collect();
    let owner = |path: &str| {
        let mut path = path.to_owned();
        while !modules.contains(&path) {
            path = path.rsplit_once("::")?.0.to_owned();
        }
        Some(path)
    };
    let named = |file: &crate::tidy::File| {
        let this = module(&file.path);
        let named = uses(&this, &format!("\n{}", code(file))).into_iter().filter_map(|path| owner(&path));
        (
            this.clone(),
            named.filter(|other| !format!("{this}::").starts_with(&format!("{other}::"))).collect(),
        )
    };
    files.iter().map(named).collect()
}

/// All that a module names, and what that names, and so on.
fn reached<'a>(graph: &'a Graph, from: &'a str) -> BTreeSet<&'a str> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        let Some((_, named)) = graph.get_key_value(module) else { continue };
        next.extend(named.iter().map(String::as_str).filter(|other| found.insert(*other)));
    }
    found
}

/// Sets of modules each of which leads to each.
fn circles(graph: &Graph) -> BTreeSet<BTreeSet<&str>> {
    let reached: BTreeMap<_, _> =
        graph.keys().map(|module| (module.as_str(), self::reached(graph, module))).collect();
    let circle = |module: &&str| -> BTreeSet<&str> {
        reached[*module].iter().copied().filter(|other| reached[*other].contains(*module)).collect()
    };
    let circles = reached.keys().map(circle);
    circles.filter(|circle| circle.len() > 1).collect()
}

#[test]
fn braces_are_expanded() {
    let uses = uses("a::b", "\nuse crate::x::{self, y::{Z, w as v}};\nuse super::{c, d::E};\nuse f::G;\n");
    assert_eq!(uses, ["x", "x::y::Z", "x::y::w", "a::c", "a::d::E", "a::b::f::G"]);
}

#[test]
fn there_are_no_circles_but_the_natural_ones() {
    let graph = graph();
    let circles = circles(&graph);
    for circle in &circles {
        let edges = circle.iter().flat_map(|from| {
            let named = graph[*from].iter().filter(|to| circle.contains(to.as_str()));
            named.map(move |to| format!("{from} -> {to}"))
        });
        let edges: Vec<_> = edges.collect();
        let is_natural = NATURAL.iter().any(|(natural, _)| circle.iter().eq(natural.iter()));
        assert!(is_natural, "these files name each other: {edges:#?}");
    }
    assert_eq!(circles.len(), NATURAL.len(), "a circle that is gone goes from the list too");
}
