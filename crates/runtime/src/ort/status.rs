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
        let message = self.message.trim_end();
        ServingError::new(code, format!("cannot load {origin}: {message}"))
    }

    /// A failed run. If a kernel refuses the inputs, the error blames the request, as TensorFlow's
    /// kernels do; for a missing kernel and everything else it does not.
    pub(super) fn into_run_error(self) -> ServingError {
        let message = self.message;
        if message.contains("Failed to allocate memory") || message.contains("bad_alloc") {
            return ServingError::new(Code::ResourceExhausted, message);
        }
        if message.contains("Exiting due to terminate flag") {
            return ServingError::new(Code::Cancelled, message);
        }
        match self.code {
            INVALID_ARGUMENT => ServingError::Kernel { reason: message },
            NOT_IMPLEMENTED => ServingError::unimplemented(message),
            _ if message.contains("while running") => ServingError::Kernel { reason: message },
            _ => ServingError::internal(message),
        }
    }
}

/// A failed load of the model `origin`.
pub(super) fn load_error(origin: &str, code: ErrorCode, message: &str) -> ServingError {
    let code = match code {
        ErrorCode::NotImplemented => Code::Unimplemented,
        _ => Code::InvalidArgument,
    };
    let message = message.trim_end();
    ServingError::new(code, format!("cannot load {origin}: {message}"))
}
