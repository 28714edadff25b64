//! `docs/unsafe.md` lists every file with unsafe code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::material;

const FOLDERS: &[&str] = &["src", "crates", "benches", "tests", "fuzz/src"];
/// This file contains the word, but no such code.
const THIS_FILE: &str = "tests/it/unsafe_code.rs";

#[test]
fn unsafe_code_is_listed() {
    let mut found = BTreeMap::new();
    for folder in FOLDERS {
        count_in(&material::root().join(folder), &mut found);
    }
    found.remove(THIS_FILE);
    for file in ["src/main.rs", "crates/base/src/allocator.rs"] {
        assert!(found.contains_key(file), "the sources were not found");
    }
    let page = fs::read_to_string(material::root().join("docs/unsafe.md")).unwrap();
    assert_eq!(listed(&page), found);
}

/// Files and numbers of the tables: | `file` | number | …
fn listed(page: &str) -> BTreeMap<String, usize> {
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let file = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        Some((file.to_owned(), cells.next()?.parse().ok()?))
    });
    rows.collect()
}

fn count_in(folder: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count_in(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let times = times(&fs::read_to_string(&path).unwrap());
            if times > 0 {
                let file = path.strip_prefix(material::root()).unwrap();
                found.insert(file.display().to_string(), times);
            }
        }
    }
}

/// How often the word occurs in code, not counting comments.
fn times(text: &str) -> usize {
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let code = text.lines().filter_map(|line| line.split("//").next());
    code.flat_map(|line| line.split(|it: char| !is_word(it)))
        .filter(|word| *word == "unsafe")
        .count()
}
