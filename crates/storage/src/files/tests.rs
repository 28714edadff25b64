//! Tests with real directories.

use tempfile::TempDir;

use super::*;

fn fingerprint(path: &Path) -> Fingerprint {
    Files::read(path).unwrap().fingerprint()
}

#[test]
fn fingerprint_sees_every_change() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    fs::create_dir_all(path.join("assets.extra")).unwrap();
    fs::write(path.join("model.onnx"), "12").unwrap();
    let mut seen = vec![fingerprint(path)];
    assert_eq!(fingerprint(path), seen[0]);
    let mut check_changed = |change: &str| {
        let now = fingerprint(path);
        assert!(!seen.contains(&now), "{change}");
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
    // As after a clock jump: any different time is a change, also an earlier one.
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    check_changed("time");
}

#[test]
fn fingerprint_of_nothing_is_not_found() {
    let root = TempDir::new().unwrap();
    let error = Files::read(&root.path().join("no")).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[test]
fn hidden_files_and_empty_folders_do_not_count() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    fs::write(path.join("model.onnx"), "12").unwrap();
    let before = fingerprint(path);
    fs::write(path.join(".nfs0000000000001"), "deleted, still open").unwrap();
    fs::write(path.join(".model.onnx.Xa91kz"), "half").unwrap();
    fs::create_dir(path.join("assets")).unwrap();
    assert_eq!(fingerprint(path), before);
}

#[test]
fn deleted_files_are_told_from_changed_ones() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    for name in ["model.onnx", "labels.txt"] {
        fs::write(path.join(name), name).unwrap();
    }
    let before = Files::read(path).unwrap();
    assert!(before.are_what_is_left_of(&before));
    fs::remove_file(path.join("labels.txt")).unwrap();
    assert!(Files::read(path).unwrap().are_what_is_left_of(&before));
    fs::write(path.join("model.onnx"), "other").unwrap();
    assert!(!Files::read(path).unwrap().are_what_is_left_of(&before));
    fs::remove_file(path.join("model.onnx")).unwrap();
    fs::write(path.join("new.onnx"), "").unwrap();
    assert!(!Files::read(path).unwrap().are_what_is_left_of(&before));
}

#[cfg(unix)]
#[test]
fn looking_ends_in_a_loop_of_links() {
    let root = TempDir::new().unwrap();
    std::os::unix::fs::symlink(root.path(), root.path().join("self")).unwrap();
    fingerprint(root.path());
}

#[cfg(unix)]
#[test]
fn pipes_and_links_to_nothing_are_passed_by() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    fs::write(path.join("model.onnx"), "12").unwrap();
    let before = fingerprint(path);
    std::os::unix::fs::symlink("nowhere", path.join("link")).unwrap();
    assert_eq!(fingerprint(path), before);
    // Opening it would block for ever.
    let made = std::process::Command::new("mkfifo")
        .arg(path.join("batching_params.pbtxt"))
        .status();
    assert!(made.unwrap().success());
    assert_ne!(fingerprint(path), before);
    fs::remove_file(path.join("link")).unwrap();
    fs::remove_file(path.join("batching_params.pbtxt")).unwrap();
    fs::write(path.join("target"), "").unwrap();
    std::os::unix::fs::symlink("target", path.join("link")).unwrap();
    let files = Files::read(path).unwrap();
    assert!(files.paths().any(|it| it == Path::new("link")));
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

/// Kubernetes swaps `..data` for new contents.
#[cfg(unix)]
#[test]
fn files_behind_links_count() {
    let root = TempDir::new().unwrap();
    let path = root.path();
    for (folder, content) in [("..old", "1"), ("..new", "12")] {
        fs::create_dir(path.join(folder)).unwrap();
        fs::write(path.join(folder).join("model.onnx"), content).unwrap();
    }
    std::os::unix::fs::symlink("..old", path.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/model.onnx", path.join("model.onnx")).unwrap();
    let before = fingerprint(path);
    std::os::unix::fs::symlink("..new", path.join("..next")).unwrap();
    assert_eq!(fingerprint(path), before);
    fs::rename(path.join("..next"), path.join("..data")).unwrap();
    assert_ne!(fingerprint(path), before);
}

#[cfg(unix)]
#[test]
fn links_to_themselves_do_not_keep_others_from_being_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("model.onnx"), "1").unwrap();
    std::os::unix::fs::symlink("circle", path.join("circle")).unwrap();
    let before = fingerprint(path);
    assert_eq!(fingerprint(path), before);
    fs::write(path.join("model.onnx"), "12").unwrap();
    assert_ne!(fingerprint(path), before);
}

/// Checks which paths are found under a version directory `m/1` that `make` fills.
#[cfg(unix)]
#[track_caller]
fn check_seen(make: impl FnOnce(&Path), expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("m/1");
    for path in ["m/1/assets", "m/2", "elsewhere"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    for path in ["m/1/assets/a", "m/2/b", "elsewhere/c"] {
        fs::write(folder.path().join(path), "1").unwrap();
    }
    make(&version);
    let files = Files::read(&version).unwrap();
    let seen: Vec<_> = files.paths().map(|it| it.to_str().unwrap()).collect();
    assert_eq!(seen, expected);
}

#[cfg(unix)]
#[test]
fn links_out_of_the_base_path_are_not_followed() {
    use std::os::unix::fs::symlink;

    let link = |to: &'static str| move |version: &Path| symlink(to, version.join("link")).unwrap();
    check_seen(link("/"), &["assets/a", "link"]);
    check_seen(link("../../elsewhere"), &["assets/a", "link"]);
    check_seen(link("/proc/self/root/"), &["assets/a", "link"]);
    // To a folder that contains the link.
    check_seen(link("."), &["assets/a", "link"]);
    check_seen(link(".."), &["assets/a", "link"]);
    // Within the base path.
    check_seen(link("../2"), &["assets/a", "link/b"]);
    check_seen(link("assets/a"), &["assets/a", "link"]);
    let many = |version: &Path| {
        for number in 0..20 {
            symlink("../2", version.join(format!("link{number:02}"))).unwrap();
            symlink("..", version.join("assets").join(number.to_string())).unwrap();
        }
    };
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("m/1/assets")).unwrap();
    many(&folder.path().join("m/1"));
    assert!(
        Files::read(&folder.path().join("m/1"))
            .unwrap()
            .paths()
            .count()
            <= 40
    );
}

/// A version directory can be a link that leads anywhere.
#[cfg(unix)]
#[test]
fn version_directory_may_be_a_link() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("store/a")).unwrap();
    fs::write(folder.path().join("store/a/model.onnx"), "1").unwrap();
    std::os::unix::fs::symlink("model.onnx", folder.path().join("store/a/link")).unwrap();
    fs::create_dir(folder.path().join("m")).unwrap();
    std::os::unix::fs::symlink("../store/a", folder.path().join("m/1")).unwrap();
    let files = Files::read(&folder.path().join("m/1")).unwrap();
    assert_eq!(files.paths().count(), 2);
    assert!(files.0.values().all(|it| *it != FileTraits::Other));
}
