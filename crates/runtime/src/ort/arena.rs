//! The working memory of runs: one arena for all sessions, which is trimmed in pauses.
//!
//! Weights are not in it: they come and go with their sessions.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ort::AsPointer;
use ort::environment::Environment;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::sys::{OrtAllocatorType, OrtEnv, OrtMemType};

use super::status::{Failure, check};

/// The arena's options by ONNX Runtime's names for them, and their values. Strategy 1, a region for
/// each allocation, makes runs with very many small tensors take quadratic time, and all other runs
/// wait meanwhile. Here allocations share regions. Each region is twice as large as the one before, up
/// to a limit, so that little memory is allocated without need.
const OPTIONS: [(&CStr, usize); 4] = [
    (c"arena_extend_strategy", 0),
    (c"initial_chunk_size_bytes", 256 << 10),
    (c"initial_growth_chunk_size_bytes", 256 << 10),
    (c"max_power_of_two_extend_bytes", 4 << 20),
];

/// Makes the arena that sessions with `session.use_env_allocators` share.
pub(super) fn register(environment: &Environment) -> Result<(), Failure> {
    let api = ort::api();
    let keys = OPTIONS.map(|(key, _)| key.as_ptr());
    let values = OPTIONS.map(|(_, value)| value);
    let (mut config, mut memory) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: keys and values have one entry each. Everything created here is released here; ONNX
    // Runtime keeps copies. The environment lives as long as the process.
    unsafe {
        check((api.CreateArenaCfgV2)(
            keys.as_ptr(),
            values.as_ptr(),
            keys.len(),
            &mut config,
        ))?;
        let made = check((api.CreateCpuMemoryInfo)(
            OrtAllocatorType::OrtArenaAllocator,
            OrtMemType::OrtMemTypeDefault,
            &mut memory,
        ))
        .and_then(|()| {
            let environment = environment.ptr().cast::<OrtEnv>().cast_mut();
            check((api.CreateAndRegisterAllocator)(
                environment,
                memory,
                config,
            ))
        });
        (api.ReleaseMemoryInfo)(memory);
        (api.ReleaseArenaCfg)(config);
        made
    }
}

/// Whether a run has used the arena since [`release_unused`] looked last.
static IS_USED: AtomicBool = AtomicBool::new(false);

/// Notes that a run uses the arena.
pub(super) fn note_use() {
    // All runs share the flag: it is written once between two trims, otherwise only read.
    if !IS_USED.load(Ordering::Relaxed) {
        IS_USED.store(true, Ordering::Relaxed);
    }
}

/// Trims the arena, if a run has used it since the last call.
///
/// Before version 1.25 ONNX Runtime can trim only at the end of a run: `make` makes a session of
/// [`TRIMMING_MODEL`], which is run.
pub(super) fn release_unused(make: impl FnOnce(&[u8]) -> ort::Result<Session>) -> ort::Result<()> {
    static SESSION: Mutex<Option<Session>> = Mutex::new(None);
    if !IS_USED.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let mut session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    let session = match &mut *session {
        Some(session) => session,
        none => none.insert(make(TRIMMING_MODEL)?),
    };
    let mut options = RunOptions::new()?;
    options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    let no_inputs: [SessionInputValue<'_>; 0] = [];
    session.run_with_options(no_inputs, &options)?;
    Ok(())
}

/// A serialized `ModelProto` of opset 13: a graph of one `Constant`, whose value `[0.0]` is its output.
const TRIMMING_MODEL: &[u8] = b"\x08\x08\x3a\x3e\
    \x0a\x25\x12\x01y\"\x08Constant\
    \x2a\x16\x0a\x05value\x2a\x0a\x08\x01\x10\x01J\x04\0\0\0\0\xa0\x01\x04\
    \x12\x04trim\
    b\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    B\x02\x10\x0d";
