//! `docs/supported-operators.md` lists the operators of TensorFlow that are imported.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

/// With this variable the test writes the file that it checks.
const REWRITE: &str = "REWRITE_DOCS";

const HEAD: &str = "\
# TensorFlow operators that are imported

A SavedModel is served without conversion if its signatures need only these operators of TensorFlow;
[importing.md](importing.md) describes this and lists the exceptions. A model that needs others is refused when
it loads, with their names.

The list is that of the code: `REWRITE_DOCS=1 cargo test -p saved_model_import --test supported_operators` writes this file.

";

#[test]
fn documentation_lists_the_supported_operators() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/supported-operators.md");
    let expected = document(&saved_model_import::supported_operators());
    if env::var_os(REWRITE).is_some() {
        fs::write(&file, &expected).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{} is stale; `{REWRITE}=1 cargo test -p saved_model_import --test supported_operators` writes it",
        file.display()
    );
}

/// A table with a row for each first letter.
fn document(operators: &[&str]) -> String {
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in operators {
        rows.entry(&name[..1])
            .or_default()
            .push(format!("`{name}`"));
    }
    let rows = rows.iter();
    let rows = rows.map(|(letter, names)| format!("| {letter} | {} |\n", names.join(", ")));
    let (count, rows) = (operators.len(), rows.collect::<String>());
    format!("{HEAD}| | {count} operators |\n| --- | --- |\n{rows}")
}
