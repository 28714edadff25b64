//! The shared library itself: where it is, and which version it is.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ort::sys::OrtApiBase;

/// The library to use if no flag names one: the first of [`places`] that exists.
pub(super) fn find() -> PathBuf {
    let places = places();
    let found = places.iter().find(|path| path.exists());
    found.or(places.last()).cloned().unwrap_or_default()
}

/// Where the library is looked for. If `ORT_DYLIB_PATH` is set, only there. Otherwise next to the
/// executable, in `lib` and `../lib` of its folder, in the folder that `make onnxruntime` fills if the
/// executable was built in a checkout, then by the system's loader.
pub(super) fn places() -> Vec<PathBuf> {
    const NAME: &str = "libonnxruntime.so";
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let executable = std::env::current_exe().ok();
    let next_to_it = executable.as_deref().and_then(Path::parent);
    let installed = next_to_it
        .into_iter()
        .flat_map(|folder| ["", "lib", "../lib"].map(|lib| folder.join(lib).join(NAME)));
    let checkout = next_to_it.iter().flat_map(|folder| folder.ancestors());
    installed
        .chain(checkout.map(|folder| folder.join(".onnxruntime/lib").join(NAME)))
        .chain([NAME.into()])
        .collect()
}

/// Checks that a library is not something that the loader would wait for, such as a pipe: during that wait
/// it has a lock that other threads need. A library that the loader looks for itself or that is missing is
/// left to it.
///
/// # Errors
///
/// The reason, which names the path.
pub(super) fn check(library: &Path) -> Result<(), String> {
    let Some(path) = opened(library) else {
        return Ok(());
    };
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => {
            Err(format!("`{}` is not a regular file", path.display()))
        }
        _ => Ok(()),
    }
}

/// The file that the loader opens; `None` if it looks for it. The crate `ort` first looks for a relative
/// path next to the executable.
fn opened(library: &Path) -> Option<PathBuf> {
    if library.is_absolute() {
        return Some(library.to_owned());
    }
    let executable = std::env::current_exe().ok();
    let next_to_it = executable.as_deref().and_then(Path::parent);
    let next_to_it = next_to_it.map(|folder| folder.join(library));
    match next_to_it.filter(|path| path.exists()) {
        Some(path) => Some(path),
        None => (library.components().count() > 1).then(|| library.to_owned()),
    }
}

/// The version that a library reports, such as `1.32.0`; `None` if it cannot be loaded or is not ONNX
/// Runtime. The library stays loaded.
pub(super) fn version(path: &Path) -> Option<String> {
    check(path).ok()?;
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: loading runs the library's initialisers, as using it would anyway. The symbol has
    // the type of ONNX Runtime's C API, and the strings it leads to are static.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            return None;
        }
        let symbol = libc::dlsym(library, c"OrtGetApiBase".as_ptr());
        if symbol.is_null() {
            return None;
        }
        let api_base: unsafe extern "system" fn() -> *const OrtApiBase =
            std::mem::transmute(symbol);
        let version = ((*api_base()).GetVersionString)();
        Some(CStr::from_ptr(version).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for path in [folder, Path::new("/dev/null")] {
            let refused = format!("`{}` is not a regular file", path.display());
            assert_eq!(check(path), Err(refused));
            assert_eq!(version(path), None);
        }
        assert_eq!(check(&folder.join("Cargo.toml")), Ok(()));
        let missing = folder.join("missing.so");
        assert_eq!(check(&missing), Ok(()), "the loader names the fault");
    }

    #[test]
    fn name_alone_is_left_to_the_loader() {
        assert_eq!(opened(Path::new("libsearched.so")), None);
        let below = Path::new("folder/lib.so");
        assert_eq!(opened(below).as_deref(), Some(below));
    }
}
