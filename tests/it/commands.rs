//! `show`, `check` and `import` as processes: their output and their exit status.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::material;
use crate::support::server::onnxruntime;

fn run(arguments: &[&str], directory: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onnx_model_server"))
        .args(arguments)
        .arg("--dir")
        .arg(directory)
        .env("ORT_DYLIB_PATH", onnxruntime())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The output of `saved_model_cli show --all` of TensorFlow 2.21 for the same directories, up to its
/// list of operators. Ours has one more line for each alias: the graph's tensor.
#[test]
fn show_prints_what_saved_model_cli_prints() {
    for model in ["half_plus_two", "odd_names", "scalar", "unknown_rank"] {
        let output = run(
            &["show", "--all"],
            &material::data().join("zoo").join(model).join("1"),
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        let (graph, original): (Vec<&str>, Vec<&str>) = shown
            .lines()
            .partition(|line| line.trim_start().starts_with("graph: "));
        let recorded = material::data()
            .join("saved_model_cli")
            .join(format!("{model}.txt"));
        let recorded = std::fs::read_to_string(recorded).unwrap();
        assert_eq!(original, recorded.lines().collect::<Vec<_>>(), "{model}");
        let aliases = original
            .iter()
            .filter(|line| line.ends_with("tensor_info:"));
        let internal = original
            .iter()
            .filter(|line| line.contains("s['__saved_model_"))
            .count();
        assert_eq!(graph.len(), aliases.count() - internal, "{model}");
    }
}

#[test]
fn check_says_how_every_signature_ran() {
    let output = run(&["check"], &material::data().join("zoo/half_plus_two/1"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report = text(&output.stdout);
    for signature in ["classify_x_to_y", "regress_x_to_y2", "serving_default"] {
        assert!(
            report.contains(&format!("['{signature}'] ran in")),
            "{report}"
        );
    }
}

#[test]
fn check_fails_where_the_server_would() {
    let output = run(&["check"], &material::data().join("zoo/text_split/1"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("StaticRegexReplace"));
}

#[test]
fn directories_without_a_model_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["show", "check"] {
        let output = run(&[command, "--tag_set=serve"], empty.path());
        assert_eq!(output.status.code(), Some(1));
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains("no ONNX model (*.onnx)"), "{all}");
    }
}

#[test]
fn wrong_arguments_print_the_usage() {
    let output = run(&["show", "--tags"], Path::new("x"));
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("error: unexpected argument '--tags' found")
            && error.contains("\nUsage: onnx_model_server show"),
        "{error}"
    );
}

/// A copy of a model of the zoo without its ONNX files.
fn unconverted(model: &str) -> tempfile::TempDir {
    let base_path = tempfile::tempdir().unwrap();
    let version = base_path.path().join("1");
    std::fs::create_dir_all(version.join("assets.extra")).unwrap();
    let zoo = material::data().join("zoo").join(model).join("1");
    std::fs::copy(zoo.join("saved_model.pb"), version.join("saved_model.pb")).unwrap();
    std::fs::write(version.join("assets.extra/notes.txt"), "kept").unwrap();
    base_path
}

/// Imports a base path; returns the output and the written one.
fn import(base_path: &Path, more: &[&str]) -> (Output, tempfile::TempDir) {
    let written = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_onnx_model_server"))
        .arg("import")
        .arg(base_path)
        .arg("--output")
        .arg(written.path())
        .args(more)
        .output()
        .unwrap();
    (output, written)
}

/// `keyed` has an input and an output of one name, which the written signature map keeps apart.
#[test]
fn import_writes_a_version_that_loads() {
    let base_path = unconverted("keyed");
    let (output, written) = import(base_path.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stdout));
    let version = written.path().join("1");
    for file in [
        "serving_default.onnx",
        "saved_model.pb",
        "signature_map.pbtxt",
        "assets.extra/notes.txt",
    ] {
        assert!(version.join(file).is_file(), "{file}");
        assert!(text(&output.stdout).contains(file), "{file}");
    }
    let entries = std::fs::read_dir(written.path()).unwrap();
    assert_eq!(entries.count(), 1, "a part of an import is left");
    let show = |directory: &Path| {
        let shown = text(&run(&["show", "--all"], directory).stdout);
        let lines = shown.lines();
        let lines = lines.filter(|line| !line.trim_start().starts_with("graph: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(show(&version), show(&base_path.path().join("1")));
    let checked = run(&["check"], &version);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
}

#[test]
fn import_leaves_nothing_of_a_version_that_is_refused() {
    let base_path = unconverted("image_b64");
    let (output, written) = import(base_path.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("DecodePng (node "));
    assert_eq!(std::fs::read_dir(written.path()).unwrap().count(), 0);
    let with_files = material::data().join("zoo/keyed");
    let (output, _written) = import(&with_files, &[]);
    assert!(text(&output.stdout).contains("there is nothing to import"));
}
