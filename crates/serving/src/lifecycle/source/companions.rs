//! Which files of the serving version a new version lacks. The new version should wait for them, because
//! a copy in progress looks like a version without them.
//!
//! Files with the same name in every version are missed by that name: the signature map, the files of a
//! SavedModel, warmup requests, batching parameters. All other files (models, external data, labels) can
//! have another name in each version, so one is missed only if the new version also has fewer files of
//! that extension in that folder. Backups, files that tools leave behind, and texts for people are not
//! missed.
//!
//! Pure functions. Not here: how long to wait (`source::model_poll`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use mapper::signature::MAP_FILE;
use storage::files::Files;

/// Files whose name is the same in every version that has them.
const FIXED_NAMES: [&str; 4] = [
    MAP_FILE,
    "saved_model.pb",
    "saved_model.pbtxt",
    "batching_params.pbtxt",
];
/// Folders whose files all have fixed names.
const FIXED_FOLDERS: [&str; 2] = ["assets.extra", "variables"];
/// Extensions of files that a version does not need.
const NOT_MISSED: [&str; 14] = [
    "bak", "bkp", "crc", "lock", "log", "md", "old", "orig", "part", "partial", "swo", "swp",
    "temp", "tmp",
];

/// The files of `serving` that `new` lacks, sorted.
pub(super) fn missing(serving: &Files, new: &Files) -> Vec<PathBuf> {
    let serving_counts = counts(serving);
    let new_counts = counts(new);
    let is_missing = |path: &&Path| {
        let kind = folder_and_extension(path);
        is_missed(path)
            && !new.has_as(serving, path)
            && (has_fixed_name(path) || new_counts.get(&kind) < serving_counts.get(&kind))
    };
    let missing = serving.paths().filter(is_missing);
    missing.map(Path::to_owned).collect()
}

/// The folder and the extension.
type FolderAndExtension<'a> = (Option<&'a Path>, Option<&'a OsStr>);

fn folder_and_extension(path: &Path) -> FolderAndExtension<'_> {
    (path.parent(), path.extension())
}

fn counts(files: &Files) -> BTreeMap<FolderAndExtension<'_>, usize> {
    let mut counts = BTreeMap::new();
    for path in files.paths().filter(|path| is_missed(path)) {
        *counts.entry(folder_and_extension(path)).or_default() += 1;
    }
    counts
}

fn has_fixed_name(path: &Path) -> bool {
    FIXED_NAMES.iter().any(|name| path == Path::new(name))
        || FIXED_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

fn is_missed(path: &Path) -> bool {
    let name = path.file_name().map_or(&b""[..], OsStr::as_encoded_bytes);
    let is_left_behind = name.ends_with(b"~") || name.starts_with(b"#");
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let extension = extension.to_ascii_lowercase();
    // If the "directory" is a file, its path is empty.
    !name.is_empty() && !is_left_behind && !NOT_MISSED.contains(&extension.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Files {
        let files: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
        Files::of(&files)
    }

    #[track_caller]
    fn check(serving: &[&str], new: &[&str], expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(missing(&files(serving), &files(new)), expected);
    }

    #[test]
    fn empty_files_are_missed_where_there_is_content() {
        let name = "signature_map.pbtxt";
        for (serving, new, is_missing) in [(1, 0, true), (0, 0, false), (1, 1, false)] {
            let missing = missing(&Files::of(&[(name, serving)]), &Files::of(&[(name, new)]));
            assert_eq!(!missing.is_empty(), is_missing, "{serving} {new}");
        }
    }

    #[test]
    fn files_of_one_name_are_missed_by_it() {
        let serving = [
            "assets.extra/tf_serving_warmup_requests",
            "batching_params.pbtxt",
            "model.onnx",
            "saved_model.pb",
            "signature_map.pbtxt",
            "variables/variables.index",
        ];
        check(&serving, &serving, &[]);
        check(
            &serving,
            &["model.onnx"],
            &[
                "assets.extra/tf_serving_warmup_requests",
                "batching_params.pbtxt",
                "saved_model.pb",
                "signature_map.pbtxt",
                "variables/variables.index",
            ],
        );
        // Another file with that extension does not replace it.
        let map = ["model.onnx", "signature_map.pbtxt"];
        let notes = ["model.onnx", "notes.pbtxt"];
        check(&map, &notes, &["signature_map.pbtxt"]);
    }

    #[test]
    fn models_and_their_data_may_get_other_names() {
        check(
            &["model.onnx", "model.onnx.data", "labels.txt"],
            &["classify.onnx", "classify.onnx.data", "classes.txt"],
            &[],
        );
        check(
            &["classify.onnx", "regress.onnx", "weights/a.bin"],
            &["classify.onnx"],
            &["regress.onnx", "weights/a.bin"],
        );
        check(&["model.onnx"], &[], &["model.onnx"]);
        check(&["model.onnx"], &["model.onnx", "signature_map.pbtxt"], &[]);
    }

    #[test]
    fn what_is_left_behind_is_not_missed() {
        check(
            &[
                "#model.onnx#",
                "README.md",
                "model.onnx",
                "model.onnx.BAK",
                "model.onnx.part",
                "model.onnx~",
                "signature_map.pbtxt.tmp",
            ],
            &["model.onnx"],
            &[],
        );
    }
}
