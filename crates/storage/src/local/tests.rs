//! Paths, and directories that do not exist.

use super::*;

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
