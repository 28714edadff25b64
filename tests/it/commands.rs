//! `show` and `check` as processes: their output and their exit status.

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
