//! Confines tract's panics to the call they happen in.

use base::error::Result;
use base::panics;

/// Calls into tract, which panics in places when it finds something unexpected. A panic comes back as
/// `INTERNAL`; its message is in the log.
///
/// After a panic, values that `call` changes must not be used, unless they tolerate that.
pub(super) fn catch_panic<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(call).unwrap_or_else(|_| Err(panics::ended_abnormally("a call of tract")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::error::Code;

    #[test]
    fn a_panic_becomes_an_internal_error() {
        let error = catch_panic::<()>(|| panic!("no such axis")).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(!error.to_string().contains("axis"), "{error}");
    }
}
