//! Errors for a directory without a model: where the model might be, and which tags there are.

use std::fs;

use super::foreign_files::{check_refusal, refusal, version};
use super::*;
use mapper::version_dir::{Shown, show};

#[test]
fn directory_that_says_nothing_is_called_empty() {
    for files in [
        &[][..],
        &[("labels.txt", b"cat\ndog\n")],
        &[("README.md", b"# Hi")],
    ] as [&[(&str, &[u8])]; 3]
    {
        assert_eq!(refusal(files), "no ONNX model (*.onnx) in DIR");
    }
}

#[test]
fn model_in_a_folder_of_its_own_is_found() {
    check_refusal(
        &[("export/model.onnx", b"x")],
        "no ONNX model (*.onnx) in DIR: export/model.onnx lies a folder too deep",
        "Move the contents of export up, into DIR",
    );
    check_refusal(
        &[("model.onnx/model.onnx", b"x")],
        "DIR/model.onnx: it is not a regular file but a directory",
        "The file itself",
    );
}

#[test]
fn folder_named_like_a_version_is_to_be_renamed() {
    for (folder, number) in [
        ("v1", "1"),
        ("1.0", "1"),
        ("Version_3", "3"),
        ("2024-01-31", "20240131"),
    ] {
        check_refusal(
            &[(&format!("{folder}/model.onnx"), b"x")],
            &format!(
                "no ONNX model (*.onnx) in DIR: it is a base path that holds {folder}/model.onnx"
            ),
            &format!("rename {folder}, and name that directory here: DIR/{number}"),
        );
    }
    for folder in ["vision", "r", "1a", "export.1"] {
        let text = refusal(&[(&format!("{folder}/model.onnx"), b"x")]);
        assert!(text.contains("lies a folder too deep"), "{text}");
    }
}

#[test]
fn base_path_names_its_versions() {
    let (folder, path) = version(&[("model.onnx", b"x")]);
    fs::create_dir(folder.path().join("12")).unwrap();
    let base = folder.path();
    let expected = format!(
        "it is a base path with the versions 1, 12. Name one of them: {}/12",
        base.display()
    );
    let serve = ["serve".to_owned()];
    let report = check(backend(), base, &serve);
    assert!(
        !report.passed && report.text.contains(&expected),
        "{}",
        report.text
    );
    for shown in [Shown::TagSets, Shown::SignatureNames, Shown::All] {
        let error = show(base, &serve, &shown).unwrap_err();
        assert!(error.to_string().contains(&expected), "{error}");
    }
    drop(path);
}

#[test]
fn tag_set_that_is_not_there_names_those_that_are() {
    let directory = project().join("tests/data/zoo/scalar/1");
    let foo = ["foo".to_owned()];
    let expected = "has no tag set 'foo'. It has 'serve'";
    for shown in [Shown::SignatureNames, Shown::All] {
        let error = show(&directory, &foo, &shown).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let text = error.to_string();
        assert!(
            text.ends_with(expected) && !text.contains("saved_model_cli"),
            "{text}"
        );
    }
    let report = check(backend(), &directory, &foo);
    assert!(report.text.contains(expected), "{}", report.text);
    assert!(!report.text.contains("saved_model_cli"), "{}", report.text);
}

/// Only `saved_model.pb` names tags.
#[test]
fn tag_set_without_a_saved_model_is_not_there() {
    let directory = project().join("models/half_plus_two/1");
    assert!(!directory.join("saved_model.pb").exists());
    for shown in [Shown::SignatureNames, Shown::All] {
        let error = show(&directory, &["foo".to_owned()], &shown).unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let text = error.to_string();
        assert!(text.contains("no tag set 'foo'"), "{text}");
        assert!(show(&directory, &["serve".to_owned()], &shown).is_ok());
    }
    let report = check(backend(), &directory, &["foo".to_owned()]);
    assert!(
        !report.passed && report.text.contains("no tag set 'foo'"),
        "{}",
        report.text
    );
    assert!(check(backend(), &directory, &["serve".to_owned()]).passed);
}
