//! Why no version is aspired, as the log and the status say it.

use super::*;
use storage::local::LocalStorage;

/// Why no version is aspired, after two looks.
fn remark(policy: VersionPolicy, children: &[&str]) -> Option<String> {
    let fixture = Fixture::new(policy);
    for child in children {
        fixture.put(child, &[("model.onnx", 9)]);
    }
    fixture.look();
    fixture.look();
    fixture.poll.borrow().remark().map(str::to_owned)
}

#[test]
fn base_path_that_is_a_model_itself_is_named() {
    for (children, part) in [
        (
            &["assets", "saved_model.pb", "variables"][..],
            "The base path is itself a TensorFlow SavedModel: it holds saved_model.pb. Move its files \
             into a version directory, /models/m/1.",
        ),
        (
            &["net.onnx"],
            "Move it into a version directory: /models/m/1/net.onnx.",
        ),
        (
            &["m.keras"],
            "The base path holds m.keras, by its name a Keras model.",
        ),
        (
            &["m.tflite", "labels.txt"],
            "by its name a TensorFlow Lite model.",
        ),
    ] {
        let remark = remark(LATEST, children).unwrap_or_default();
        assert!(remark.contains(part), "{remark}");
        assert!(!remark.contains("leaf directory"), "{remark}");
    }
    for (child, number) in [("v1", 1), ("1.0", 1), ("2024-01-31", 20_240_131)] {
        let remark = remark(LATEST, &[child]).unwrap_or_default();
        let expected = format!(
            "The base path holds {child}. The name of a version directory is a whole number: rename it to \
             /models/m/{number}."
        );
        assert_eq!(remark, expected);
    }
    // In these cases TensorFlow Serving's own hint is right.
    for children in [&["labels"][..], &[]] {
        let remark = remark(LATEST, children);
        assert_eq!(remark.as_deref(), Some(NO_NUMBER));
    }
}

#[test]
fn base_path_one_level_too_high_is_named() {
    let root = tempfile::tempdir().unwrap();
    let storage = LocalStorage;
    assert_eq!(base_path_below(&storage, root.path()), None);
    for folder in ["notes/2024", "m/export"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    std::fs::write(root.path().join("m/export/model.onnx"), "").unwrap();
    assert_eq!(base_path_below(&storage, root.path()), None);
    std::fs::create_dir_all(root.path().join("m/12")).unwrap();
    std::fs::write(root.path().join("m/12/model.onnx"), "").unwrap();
    let expected = format!(
        "The base path is one level too high: m/12 in it holds an ONNX model. Name {}/m as the base path.",
        root.path().display()
    );
    assert_eq!(base_path_below(&storage, root.path()), Some(expected));
}

#[test]
fn specific_version_that_is_not_there_is_named_with_those_that_are() {
    let specific = |versions: &[i64]| VersionPolicy::Specific(versions.to_vec());
    for (policy, children, expected) in [
        (
            specific(&[7, 9]),
            &["1", "3", "other"][..],
            "The version policy 'specific' names versions that are not there: 7, 9. There are: 1, 3.",
        ),
        (
            specific(&[7]),
            &[],
            "The version policy 'specific' names versions that are not there: 7. There are no others.",
        ),
        (
            specific(&[]),
            &["1"],
            "The version policy 'specific' names no version.",
        ),
    ] {
        assert_eq!(remark(policy, children).as_deref(), Some(expected));
    }
}

#[test]
fn remark_ends_with_a_version() {
    let fixture = Fixture::new(LATEST);
    fixture.put("saved_model.pb", &[]);
    fixture.look();
    assert!(fixture.poll.borrow().remark().is_some());
    fixture.serve(&[1]);
    assert_eq!(fixture.poll.borrow().remark(), None);
}

#[test]
fn what_is_wrong_is_not_said_with_every_look() {
    let fixture = Fixture::new(LATEST);
    fixture.put("saved_model.pb", &[]);
    fixture.look();
    let said = fixture.poll.borrow().said.clone();
    assert!(said.is_some());
    fixture.look();
    assert_eq!(fixture.poll.borrow().said, said);
}
