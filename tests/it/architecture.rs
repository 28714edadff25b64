//! Keeps the directions of imports that `ARCHITECTURE.md` describes: reads the paths in `src/`.
//!
//! A new arrow between modules is a row of [`ALLOWED`] and a line in `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::material;

/// Any module may use these.
const EVERYWHERE: &[&str] = &["allocator", "error", "id", "panics", "tensor"];

/// Which module may use which others, besides [`EVERYWHERE`] and itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("allocator", &[]),
    ("error", &[]),
    ("id", &[]),
    ("logging", &[]),
    ("panics", &[]),
    ("process", &["logging"]),
    ("tensor", &[]),
    ("proto", &["wire", "transport"]), // its generated code names types and codecs by path
    ("proto_wire", &[]),
    ("tfrecord", &[]),
    ("proto_text", &["proto"]),
    ("monitoring", &[]),
    ("telemetry", &[]),
    ("runtime", &[]),
    ("onnx", &["proto", "proto_text", "proto_wire", "runtime"]),
    (
        "signature",
        &["proto", "proto_text", "proto_wire", "onnx", "runtime"],
    ),
    ("batching", &["runtime", "monitoring"]),
    ("servable", &["signature", "runtime"]),
    (
        "inference",
        &["servable", "signature", "monitoring", "telemetry"],
    ),
    (
        "wire",
        &[
            "inference",
            "servable",
            "signature",
            "proto",
            "proto_text",
            "proto_wire",
        ],
    ),
    (
        "warmup",
        &[
            "wire",
            "inference",
            "servable",
            "signature",
            "monitoring",
            "proto",
            "proto_wire",
            "tfrecord",
        ],
    ),
    (
        "request_log",
        &[
            "wire",
            "inference",
            "signature",
            "monitoring",
            "telemetry",
            "proto",
            "tfrecord",
        ],
    ),
    (
        "lifecycle",
        &[
            "servable",
            "signature",
            "runtime",
            "batching",
            "onnx",
            "monitoring",
            "proto",
            "proto_text",
        ],
    ),
    (
        "transport",
        &[
            "wire",
            "inference",
            "servable",
            "monitoring",
            "telemetry",
            "proto",
            "proto_wire",
        ],
    ),
    ("config", &["batching", "proto", "proto_text"]),
];

/// Files that name every layer: assembly, the program's start, its commands, the list of modules, what
/// fuzzers call.
const ASSEMBLY: &[&str] = &["server", "main", "commands", "lib", "fuzzing"];

/// Outside libraries that stay in their room.
const ROOMS: &[(&str, &[&str])] = &[
    ("mimalloc", &["allocator"]),
    ("tonic", &["transport"]),
    ("tonic_health", &["transport"]),
    ("tonic_reflection", &["transport"]),
    ("hyper", &["transport"]),
    ("hyper_util", &["transport"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("ort", &["runtime"]),
    ("tract_onnx", &["runtime"]),
];

#[test]
fn imports_go_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = BTreeSet::new();
    for (file, module, text) in product_sources() {
        if ASSEMBLY.contains(&module.as_str()) {
            continue;
        }
        let Some(others) = allowed.get(module.as_str()) else {
            wrong.insert(format!("{file}: module {module} is not in the table"));
            continue;
        };
        for other in paths_after(&text, "crate::") {
            let fine = other == module
                || EVERYWHERE.contains(&other.as_str())
                || others.contains(&other.as_str());
            // A capital is an item of the crate's root, a small letter a module.
            if !fine && other.starts_with(|first: char| first.is_ascii_lowercase()) {
                wrong.insert(format!("{file}: {module} must not use {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = BTreeSet::new();
    for (file, module, text) in product_sources() {
        for (library, rooms) in ROOMS {
            if names_library(&text, library) && !rooms.contains(&module.as_str()) {
                wrong.insert(format!("{file}: {library} belongs to {rooms:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_owns() {
    let headless: Vec<String> = product_sources()
        .into_iter()
        .filter(|(file, _, text)| !text.starts_with("//!") && !file.ends_with("tests.rs"))
        .map(|(file, _, _)| file)
        .collect();
    assert!(headless.is_empty(), "without a //! header: {headless:#?}");
}

/// The files of `src/`: path, top module, text up to the tests.
fn product_sources() -> Vec<(String, String, String)> {
    let src = material::root().join("src");
    let mut sources = Vec::new();
    for path in rust_files(&src) {
        let file = path.strip_prefix(&src).expect("a file of src");
        let is_test = |name: &str| {
            name.contains("test") || ["contract", "contract.rs", "fake.rs"].contains(&name)
        };
        if file.iter().any(|part| is_test(&part.to_string_lossy())) {
            continue;
        }
        let module = file.iter().next().expect("a name").to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        sources.push((file.display().to_string(), module, product.to_owned()));
    }
    assert!(sources.len() > 10, "src/ was not found");
    sources
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The first names of all paths that begin with `prefix`, outside of comments; `crate::{a, b}`
/// gives both.
fn paths_after(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let text = code(text);
    for (start, _) in text.match_indices(prefix) {
        let rest = &text[start + prefix.len()..];
        let list = rest.strip_prefix('{').map_or(rest, |list| {
            let end = list.find(';').unwrap_or(list.len());
            names.extend(names_at_depth_one(&list[..end]));
            ""
        });
        names.extend(first_name(list));
    }
    names
}

/// `a::{b, c}, d::e}` names `a` and `d`.
fn names_at_depth_one(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 1;
    let mut item = String::new();
    for character in list.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            names.extend(first_name(item.trim()));
            item.clear();
        } else {
            item.push(character);
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path
        .chars()
        .take_while(|character| character.is_alphanumeric() || *character == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// Whether a path begins with this crate's name.
fn names_library(text: &str, library: &str) -> bool {
    let text = code(text);
    let path = format!("{library}::");
    text.match_indices(&path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "_:".contains(before))
    })
}

/// `text` without comments.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::a::{b, c};\nuse crate::{d, e::{f, g}, h};\n// crate::no\nfn x(y: crate::i::J) {}";
    let names: Vec<String> = paths_after(text, "crate::").into_iter().collect();
    assert_eq!(names, ["a", "d", "e", "h", "i"]);
    assert!(names_library("use ort::Session;", "ort"));
    assert!(!names_library(
        "use crate::runtime::ort::Graph; use port::X;",
        "ort"
    ));
}
