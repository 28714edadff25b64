//! Fingerprints and paths, on real directories.

use std::fs;

use tempfile::TempDir;

use super::*;

fn fingerprint(path: &Path) -> Fingerprint {
    LocalStorage.fingerprint(path).unwrap()
}

#[test]
fn fingerprint_sees_every_change() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    fs::create_dir_all(path.join("assets.extra")).unwrap();
    fs::write(path.join("model.onnx"), "12").unwrap();
    let mut seen = vec![fingerprint(path)];
    assert_eq!(fingerprint(path), seen[0]);
    let mut check_changed = |what: &str| {
        let now = fingerprint(path);
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    fs::write(path.join("model.onnx"), "1234").unwrap();
    check_changed("size");
    fs::write(path.join("assets.extra/more"), "").unwrap();
    check_changed("new file");
    fs::rename(path.join("model.onnx"), path.join("other.onnx")).unwrap();
    check_changed("new name");
    let file = fs::File::options()
        .write(true)
        .open(path.join("other.onnx"))
        .unwrap();
    // Of a clock that jumped: any other time is a change, a past one too.
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    check_changed("time");
}

#[test]
fn fingerprint_of_nothing_is_not_found() {
    let root = TempDir::new().unwrap();
    let error = LocalStorage
        .fingerprint(&root.path().join("no"))
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[cfg(unix)]
#[test]
fn fingerprint_ends_in_a_loop_of_links() {
    let root = TempDir::new().unwrap();
    std::os::unix::fs::symlink(root.path(), root.path().join("self")).unwrap();
    fingerprint(root.path());
}

#[test]
fn children_of_a_missing_directory_are_not_found() {
    let path = Path::new("/nowhere/at/all");
    let error = LocalStorage.children(path).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.to_string(), "/nowhere/at/all not found");
}

#[test]
fn base_paths_are_absolute_or_uris() {
    for path in ["/m", "/", "s3://b/m", "gs://b", "file:///m"] {
        assert!(is_absolute_or_uri(path), "{path}");
    }
    for path in ["", "m", "./m", "rel/path", "://m", "a b://m"] {
        assert!(!is_absolute_or_uri(path), "{path}");
    }
    assert_eq!(local_path("/m").unwrap(), Path::new("/m"));
    assert_eq!(local_path("file:///m/n").unwrap(), Path::new("/m/n"));
    let error = local_path("gs://bucket/m").unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.to_string().contains("'gs'"), "{error}");
}

#[cfg(unix)]
#[test]
fn bytes_of_linked_files_count_once() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    // As Kubernetes mounts a volume.
    fs::create_dir_all(path.join("..2026/weights")).unwrap();
    fs::write(path.join("..2026/model.onnx"), [0; 10]).unwrap();
    fs::write(path.join("..2026/weights/data"), [0; 200]).unwrap();
    std::os::unix::fs::symlink("..2026", path.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/model.onnx", path.join("model.onnx")).unwrap();
    assert_eq!(file_bytes(path).unwrap(), 210);
    let missing = file_bytes(&path.join("missing")).unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}
