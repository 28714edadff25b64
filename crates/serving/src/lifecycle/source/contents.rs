//! Whether a file with a fixed name has been written completely: it could have been created at its full
//! size first, or be written in parts.
//!
//! A file of white space, zeros and comments is incomplete; so is a signature map that cannot be read, or
//! that lacks signatures of the serving version's map. Large files, and those that cannot be opened, are
//! accepted as they are: the load reports their errors.
//!
//! Not here: whether the file exists (`source::companions`), opening it (`source::storage`), how long to
//! wait (`source::model_poll`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use codec::proto_text;
use mapper::signature::{DEFAULT_SIGNATURE_NAME, MAP_FILE};
use proto::onnx_model_server::SignatureMap;
use storage::files::Files;
use storage::local::Storage;

/// Files that never consist of blanks alone, and whether they are protobuf text.
const JUDGED: [(&str, bool); 5] = [
    (MAP_FILE, true),
    ("saved_model.pbtxt", true),
    ("batching_params.pbtxt", true),
    ("saved_model.pb", false),
    ("assets.extra/tf_serving_warmup_requests", false),
];
/// The contents of larger files are not checked.
const MAX_BYTES: u64 = 1 << 20;

/// The names of the signatures in a map.
pub(super) type Signatures = BTreeSet<String>;

/// The files in `directory` that the serving version also has and that are not completely written, each
/// with its fault. `signatures` are those of the serving version's map.
pub(super) fn unwritten(
    storage: &dyn Storage,
    directory: &Path,
    (new, serving): (&Files, &Files),
    signatures: Option<&Signatures>,
) -> Vec<(PathBuf, &'static str)> {
    let mut unwritten = Vec::new();
    for (name, is_text) in JUDGED {
        let path = Path::new(name);
        if !new.has_content(path) || !serving.has_content(path) {
            continue;
        }
        let Some(contents) = storage.small_file(directory, name, MAX_BYTES) else {
            continue;
        };
        let fault = match name {
            _ if is_blank(&contents, is_text) => Some("blank"),
            MAP_FILE => map_fault(&contents, signatures),
            _ => None,
        };
        unwritten.extend(fault.map(|fault| (path.to_owned(), fault)));
    }
    unwritten
}

/// The signatures of the map in a directory, if there is one that can be read.
pub(super) fn signatures(storage: &dyn Storage, directory: &Path) -> Option<Signatures> {
    parse(&storage.small_file(directory, MAP_FILE, MAX_BYTES)?)
}

fn map_fault(contents: &[u8], wanted: Option<&Signatures>) -> Option<&'static str> {
    match (parse(contents), wanted) {
        (None, _) => Some("cannot be parsed"),
        (Some(names), Some(wanted)) if !wanted.is_subset(&names) => Some("lacks signatures"),
        _ => None,
    }
}

fn parse(contents: &[u8]) -> Option<Signatures> {
    let map: SignatureMap = proto_text::parse(contents).ok()?;
    let names = map.signature.into_iter().map(|it| match it.name.as_str() {
        "" => DEFAULT_SIGNATURE_NAME.to_owned(),
        _ => it.name,
    });
    Some(names.collect())
}

fn is_blank(contents: &[u8], is_text: bool) -> bool {
    let is_blank = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let mut lines = contents.split(|byte| *byte == b'\n');
    lines.all(|line| {
        let first = line.iter().find(|byte| !is_blank(byte));
        first.is_none_or(|first| is_text && *first == b'#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Result;

    /// One file, for any directory and any name.
    struct One(Vec<u8>);

    impl Storage for One {
        fn children(&self, _: &Path) -> Result<Vec<String>> {
            Ok(Vec::new())
        }

        fn exists(&self, _: &Path) -> Result<bool> {
            Ok(true)
        }

        fn files(&self, _: &Path) -> Result<Files> {
            Ok(Files::default())
        }

        fn small_file(&self, _: &Path, _: &str, max_bytes: u64) -> Option<bytes::Bytes> {
            let is_small = self.0.len() as u64 <= max_bytes;
            is_small.then(|| self.0.clone().into())
        }
    }

    #[track_caller]
    fn check(name: &str, contents: &[u8], expected: Option<&str>) {
        let files = Files::of(&[(name, 1)]);
        let serving = parse(b"signature { name: 'a' } signature {}");
        let storage = One(contents.to_vec());
        let found = unwritten(&storage, Path::new("2"), (&files, &files), serving.as_ref());
        let found: Vec<_> = found.iter().map(|it| it.1).collect();
        assert_eq!(found, Vec::from_iter(expected), "{name}");
        // If the serving version has no such file, or an empty one, the new version does not wait for it.
        for serving_files in [Files::of(&[]), Files::of(&[(name, 0)])] {
            let pair = (&files, &serving_files);
            assert_eq!(unwritten(&storage, Path::new("2"), pair, None), []);
        }
    }

    #[test]
    fn blank_files_are_not_written_yet() {
        for name in [MAP_FILE, "saved_model.pbtxt", "batching_params.pbtxt"] {
            for blank in [
                &b"\n\n\n"[..],
                b"  \t\r\n",
                &[0; 100],
                b"# to come\n\n  # map\0\n",
            ] {
                check(name, blank, Some("blank"));
            }
        }
        for name in ["saved_model.pb", "assets.extra/tf_serving_warmup_requests"] {
            check(name, &[0; 100], Some("blank"));
            check(name, b"\n\n\n", Some("blank"));
            check(name, b"\x08\x01", None);
            check(name, b"#", None);
        }
        check("batching_params.pbtxt", b"# c\nnum_batch_threads {", None);
        // Not a file whose contents are checked.
        check("variables/variables.data", &[0; 100], None);
        check(MAP_FILE, &vec![b'\n'; (1 << 20) + 1], None);
    }

    #[test]
    fn a_map_has_the_signatures_of_the_serving_one() {
        let fault = |map: &str, expected| check(MAP_FILE, map.as_bytes(), expected);
        fault("signature { name: 'b' }", Some("lacks signatures"));
        fault("signature { name: 'a' }", Some("lacks signatures"));
        fault(
            "signature { name: 'a' } signature { name: '",
            Some("cannot be parsed"),
        );
        fault("signature { name: 'a' } signature {}", None);
        fault(
            "signature { name: 'a' } signature { name: 'b' } signature { name: 'serving_default' }",
            None,
        );
    }
}
