//! Checks the layers that `ARCHITECTURE.md` describes: which crates can depend on each other, and where
//! each outside library is used. Cargo enforces the manifests; this test checks the manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::material;

/// The crates of the workspace, and the crates that each is allowed to depend on outside of tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("proto", &[]),
    ("codec", &["base", "proto"]),
    ("storage", &["base"]),
    ("runtime", &["base"]),
    ("onnx", &["base", "codec", "proto", "runtime"]),
    ("saved_model_import", &["base", "codec", "onnx", "proto"]),
    (
        "mapper",
        &[
            "base",
            "codec",
            "onnx",
            "proto",
            "runtime",
            "saved_model_import",
            "storage",
        ],
    ),
    (
        "serving",
        &["base", "codec", "mapper", "proto", "runtime", "storage"],
    ),
    ("wire", &["base", "codec", "proto", "serving"]),
    ("net", &["base"]),
    (
        "api",
        &["base", "codec", "mapper", "net", "proto", "serving", "wire"],
    ),
];

/// Outside libraries, and the crates that use them.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("aws-lc-sys", &["net"]),
    ("hyper", &["api", "net"]),
    ("hyper-util", &["net"]),
    ("mimalloc", &["base"]),
    ("opentelemetry", &["serving"]),
    ("opentelemetry-otlp", &["serving"]),
    ("opentelemetry_sdk", &["serving"]),
    ("ort", &["runtime"]),
    ("rustls", &["net"]),
    ("tonic", &["api", "proto"]), // `proto`: the generated service traits
    ("tonic-health", &["api"]),
    ("tonic-reflection", &["api"]),
    ("tract-onnx", &["runtime"]),
];

#[test]
fn crates_depend_on_lower_layers_only() {
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(crates(), known.iter().map(|it| (*it).to_owned()).collect());
    for (name, allowed) in ALLOWED {
        let mut found = dependencies(&manifest(name));
        found.retain(|it| known.contains(it.as_str()) && !allowed.contains(&it.as_str()));
        assert!(found.is_empty(), "{name} must not depend on {found:?}");
    }
}

#[test]
fn libraries_stay_in_their_crates() {
    for (library, homes) in LIBRARIES {
        let root = material::root().join("Cargo.toml");
        assert!(!dependencies(&root).contains(*library), "{library}");
        let users = crates().into_iter();
        let users = users.filter(|name| dependencies(&manifest(name)).contains(*library));
        let users: BTreeSet<String> = users.collect();
        assert_eq!(users, homes.iter().map(|it| (*it).to_owned()).collect());
    }
}

#[test]
fn every_file_says_what_it_owns() {
    let mut files = rust_files(&material::root().join("src"));
    files.extend(rust_files(&material::root().join("crates")));
    assert!(files.len() > 100, "the sources were not found");
    files.retain(|file| {
        let is_test = file
            .iter()
            .any(|part| part == "tests" || part == "tests.rs");
        !is_test && !fs::read_to_string(file).unwrap().starts_with("//!")
    });
    assert!(files.is_empty(), "without a //! header: {files:#?}");
}

fn crates() -> BTreeSet<String> {
    let entries = fs::read_dir(material::root().join("crates")).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn manifest(name: &str) -> PathBuf {
    material::root()
        .join("crates")
        .join(name)
        .join("Cargo.toml")
}

/// The names in the table `[dependencies]`.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).unwrap();
    let lines = text.lines().skip_while(|line| *line != "[dependencies]");
    let lines = lines.skip(1).take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
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
