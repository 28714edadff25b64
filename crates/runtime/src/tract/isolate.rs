//! Keeps tract's panics from ending more than the call they happen in.

use base::error::Result;
use base::panics;

/// Calls into tract, which panics in places where it finds what it did not expect. That comes back
/// as `INTERNAL`; what it said is in the log.
///
/// What `call` changes must not be looked at after a panic, or be fit for it.
pub(super) fn isolate<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(call).unwrap_or_else(|_| Err(panics::ended_abnormally("a call of tract")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Code;

    #[test]
    fn a_panic_becomes_an_internal_error() {
        let error = isolate::<()>(|| panic!("no such axis")).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("axis"), "{error}");
    }
}
