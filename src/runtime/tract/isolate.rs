//! Keeps tract's panics from ending more than the call they happen in.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Result, ServingError};

/// Calls into tract, which panics in places where it finds what it did not expect. A panic is
/// logged by the hook of the process and comes back as `INTERNAL`.
///
/// What `call` changes must not be looked at after a panic, or be fit for it.
pub(super) fn isolate<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no message");
        Err(ServingError::internal(format!("tract panicked: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_panic_becomes_an_internal_error() {
        let number = 3;
        let error = isolate::<()>(|| panic!("no such axis: {number}")).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert_eq!(error.to_string(), "tract panicked: no such axis: 3");
    }
}
