//! Version directories with one file that is fuzzed, and their loads.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backend::ReadingBackend;
use base::error::Code;
use base::id::ServableId;
use mapper::version_dir::{OnnxLoader, Shown, show};
use serving::lifecycle::{Loader, ServableLoader};

/// A file's name and its contents.
pub(super) type File = (&'static str, &'static [u8]);

/// Loads a version of these files and of `fuzzed`, through every edit that a load makes.
///
/// A load can fail, but never by our own mistake: [`Code::Internal`]. A loaded version can be shown.
pub(super) fn load(files: &[File], fuzzed: (&str, &[u8])) {
    let directory = with_file(fuzzed.0, fuzzed.1);
    for (name, contents) in files {
        write(&directory.join(name), contents);
    }
    let versions = OnnxLoader::new(Arc::new(ReadingBackend));
    let loader = ServableLoader::new(versions, Arc::default());
    match loader.load(&ServableId::new("fuzzed", 1), &directory) {
        Ok(servable) => {
            assert!(!servable.definitions().is_empty(), "nothing to call");
            let shown = show(&directory, &["serve".to_owned()], &Shown::All);
            assert!(
                shown.is_ok(),
                "it loads and cannot be shown: {:?}",
                shown.err()
            );
        }
        Err(error) => assert_ne!(error.code(), Code::Internal, "{error}"),
    }
}

/// A directory of this thread with nothing but this file in it.
pub(super) fn with_file(name: &str, contents: &[u8]) -> PathBuf {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.empty();
        write(&scratch.0.join(name), contents);
        scratch.0.clone()
    })
}

fn write(path: &Path, contents: &[u8]) {
    let written = fs::write(path, contents);
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A temporary directory.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onnx_model_server-fuzz-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path)
    }

    fn empty(&self) {
        for file in fs::read_dir(&self.0).expect("the directory is ours") {
            let removed = file.and_then(|file| fs::remove_file(file.path()));
            removed.expect("the files in it are ours");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it is a temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}
