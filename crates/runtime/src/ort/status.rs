//! ONNX Runtime's statuses as this server's errors.

use std::ffi::CStr;
use std::fmt;

use ort::ErrorCode;
use ort::sys::{OrtStatus, OrtStatusPtr};

use base::error::{Code, ServingError};

/// The code and the message of a failed call.
#[derive(Debug)]
pub(super) struct Failure {
    code: i32,
    message: String,
}

const INVALID_ARGUMENT: i32 = 2;
const NOT_IMPLEMENTED: i32 = 9;

/// Takes ownership of a status: `Ok` if it is null.
pub(super) fn check(status: OrtStatusPtr) -> Result<(), Failure> {
    if status.0.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // The library can be newer than the crate's list of codes, so the code is read as a plain number.
    // SAFETY: both types describe the same C function; an enum is returned as an int in C.
    let error_code: unsafe extern "system" fn(*const OrtStatus) -> i32 =
        unsafe { std::mem::transmute(api.GetErrorCode) };
    // SAFETY: the status is valid until it is released below; the message is copied before.
    unsafe {
        let failure = Failure {
            code: error_code(status.0),
            message: CStr::from_ptr((api.GetErrorMessage)(status.0))
                .to_string_lossy()
                .into(),
        };
        (api.ReleaseStatus)(status.0);
        Err(failure)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure of this server's own code around ONNX Runtime.
    pub(super) fn new(message: &str) -> Self {
        Self {
            code: INVALID_ARGUMENT,
            message: message.to_owned(),
        }
    }

    /// A failed load of the model `origin`.
    pub(super) fn into_load_error(self, origin: &str) -> ServingError {
        let code = match self.code {
            NOT_IMPLEMENTED => Code::Unimplemented,
            _ => Code::InvalidArgument,
        };
        let text = format!("cannot load {origin}: {}", self.message.trim_end());
        ServingError::new(code, text).caused_by(self)
    }

    /// A failed run. If a kernel refuses the inputs, the error blames the request, as TensorFlow's
    /// kernels do; for a missing kernel and everything else it does not.
    pub(super) fn into_run_error(self) -> ServingError {
        let says = |text| self.message.contains(text);
        let code = if says("Failed to allocate memory") || says("bad_alloc") {
            Code::ResourceExhausted
        } else if says("Exiting due to terminate flag") {
            Code::Cancelled
        } else if self.code == NOT_IMPLEMENTED {
            Code::Unimplemented
        } else if self.code == INVALID_ARGUMENT || says("while running") {
            return ServingError::Kernel {
                reason: self.message,
            };
        } else {
            Code::Internal
        };
        ServingError::new(code, self.message.clone()).caused_by(self)
    }
}

/// A failed load of the model `origin`.
pub(super) fn load_error(origin: &str, error: ort::Error) -> ServingError {
    let code = match error.code() {
        ErrorCode::NotImplemented => Code::Unimplemented,
        _ => Code::InvalidArgument,
    };
    let text = format!("cannot load {origin}: {}", error.message().trim_end());
    ServingError::new(code, text).caused_by(error)
}
