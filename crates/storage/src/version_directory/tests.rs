//! Which files of a version are read, and which are refused.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A file is replaced between the check and the open.
#[track_caller]
fn check_exchanged(exchange: impl FnOnce(&Path, &Path), text: &str) {
    let root = tempfile::tempdir().unwrap();
    let (base, secret) = (root.path().join("m"), root.path().join("secret"));
    fs::create_dir_all(base.join("1/assets.extra")).unwrap();
    fs::create_dir(&secret).unwrap();
    let file = base.join("1/assets.extra/file");
    fs::write(&file, "public").unwrap();
    fs::write(secret.join("file"), "secret").unwrap();
    let directory = VersionDirectory::open(&base.join("1")).unwrap();
    let allowed = [&directory.root, &directory.base];
    let name = Path::new("assets.extra/file");
    let path = directory.resolve(name, &allowed).unwrap();
    assert!(directory.open_resolved(name, &path, &allowed).is_ok());

    exchange(&file, &secret);

    let opened = directory.open_resolved(name, &path, &allowed);
    let error = opened.expect_err("it was opened");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn pipe_in_place_of_a_file_is_not_waited_for() {
    let exchange = |file: &Path, _: &Path| {
        fs::remove_file(file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(file).status();
        assert!(made.unwrap().success());
    };
    check_exchanged(exchange, "it is not a regular file");
}

#[test]
fn link_in_place_of_a_file_is_not_followed() {
    let exchange = |file: &Path, secret: &Path| {
        fs::remove_file(file).unwrap();
        symlink(secret.join("file"), file).unwrap();
    };
    check_exchanged(exchange, "assets.extra/file");
}

#[cfg(target_os = "linux")]
#[test]
fn link_in_place_of_a_folder_is_found_out() {
    let exchange = |file: &Path, secret: &Path| {
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        symlink(secret, file.parent().unwrap()).unwrap();
    };
    check_exchanged(exchange, "it leads out of its directory");
}

#[test]
fn file_that_may_not_be_read_is_a_matter_of_permissions() {
    for (kind, code) in [
        (ErrorKind::PermissionDenied, Code::PermissionDenied),
        (ErrorKind::NotFound, Code::NotFound),
        (ErrorKind::Other, Code::NotFound),
    ] {
        let error = unreadable(Path::new("/m/1/model.onnx"), kind.into());
        assert_eq!(error.code(), code);
        let text = error.to_string();
        assert!(text.starts_with("cannot read /m/1/model.onnx: "), "{text}");
        let is_denied = code == Code::PermissionDenied;
        assert_eq!(text.contains("the right to read it"), is_denied, "{text}");
    }
}

#[test]
fn small_file_that_is_a_pointer_is_named() {
    let root = tempfile::tempdir().unwrap();
    let write = |text: &str| fs::write(root.path().join("file"), text).unwrap();
    let directory = VersionDirectory::open(root.path()).unwrap();
    for (text, format) in [
        (
            "version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer",
        ),
        ("<!DOCTYPE html><html>", "an HTML page"),
    ] {
        write(text);
        for error in [
            directory.read("file", 1000).unwrap_err(),
            directory.read_small("file", 1000).unwrap_err(),
        ] {
            let part = format!("file is not the real file but {format}");
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.to_string().contains(&part), "{error}");
        }
    }
    for text in ["", "cat\ndog\n", "max_batch_size { value: 8 }"] {
        write(text);
        assert_eq!(directory.read("file", 1000).unwrap(), text);
    }
}

#[test]
fn file_beyond_its_bound_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let file = File::create(root.path().join("map")).unwrap();
    file.set_len(1 << 40).unwrap();
    let directory = VersionDirectory::open(root.path()).unwrap();
    for error in [
        directory.read("map", 10).unwrap_err(),
        directory.read_small("map", 10).unwrap_err(),
    ] {
        assert!(
            error.to_string().ends_with("it is larger than 10 bytes"),
            "{error}"
        );
    }
    file.set_len(10).unwrap();
    assert_eq!(directory.read("map", 10).unwrap().len(), 10);
}

#[test]
fn part_of_a_file_is_read() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("variables")).unwrap();
    let name = "variables/data";
    fs::write(root.path().join(name), "0123456789").unwrap();
    let directory = VersionDirectory::open(root.path()).unwrap();
    let read = |offset, length| directory.read_range(name, offset, length);
    assert_eq!(directory.size(name).unwrap(), Some(10));
    assert_eq!(read(0, 10).unwrap().unwrap(), "0123456789");
    assert_eq!(read(3, 4).unwrap().unwrap(), "3456");
    assert_eq!(read(10, 0).unwrap().unwrap(), "");
    for (offset, length) in [(0, 11), (10, 1), (11, 0), (1, u64::MAX), (u64::MAX, 1)] {
        let error = read(offset, length).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let text = error.to_string();
        assert!(text.contains("variables/data: it has 10 bytes"), "{text}");
    }
    assert!(directory.size("missing").unwrap().is_none());
    assert!(directory.read_range("missing", 0, 1).unwrap().is_none());
}

#[test]
fn part_of_a_file_outside_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("m");
    fs::create_dir_all(base.join("1")).unwrap();
    fs::write(root.path().join("secret"), "secret").unwrap();
    symlink("../../secret", base.join("1/link")).unwrap();
    let directory = VersionDirectory::open(&base.join("1")).unwrap();
    let absolute = root.path().join("secret");
    for name in ["link", "../../secret", absolute.to_str().unwrap()] {
        for error in [
            directory.read_range(name, 0, 1).unwrap_err(),
            directory.size(name).unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::InvalidArgument, "{name}: {error}");
        }
    }
}

/// A model directly in its base path, whose parent holds files of other users.
#[test]
fn flat_model_stays_in_its_base_path() {
    for name in ["m", "42"] {
        check_flat_model(name);
    }
}

fn check_flat_model(name: &str) {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join(name);
    fs::create_dir(&base).unwrap();
    fs::write(root.path().join("secret"), "secret").unwrap();
    symlink("../secret", base.join("link")).unwrap();
    fs::write(base.join("file"), "public").unwrap();
    symlink("file", base.join("alias")).unwrap();
    let directory = VersionDirectory::open(&confines::flat(&base)).unwrap();
    assert_eq!(directory.path().as_os_str(), base.as_os_str());
    assert!(directory.open_file("link").is_err());
    assert!(directory.open_file("alias").unwrap().is_some());
    assert!(directory.open_file("missing").unwrap().is_none());
}
