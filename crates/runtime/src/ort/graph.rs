//! One loaded graph, run by any number of threads at a time.

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use ort::AsPointer;
use ort::session::{Session, SharedSessionInner};
use ort::sys::{OrtRunOptions, OrtSession, OrtValue};
use ort::value::{Outlet, ValueType};

use super::arena;

use super::status::check;
use super::value::{Value, from_ort_number};
use super::weights::SharedWeights;
use crate::placement::GraphThreads;
use crate::{Graph, GraphSource, RunControl, ValueInfo};
use base::error::{Code, Result, ServingError};
use base::tensor::Tensor;

/// Sessions and the names of their inputs and outputs, ready for the C API.
pub(super) struct OrtGraph {
    session: OwnedSession,
    /// The same graph for runs that are kept to one thread; only small models have it.
    on_one_thread: Option<OwnedSession>,
    /// How many threads `session` runs on.
    pool_threads: usize,
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
    work_follows_shapes: bool,
}

struct OwnedSession {
    inner: Arc<SharedSessionInner>,
    /// After the session, so that it is dropped after it.
    _weights: SharedWeights,
}

impl OwnedSession {
    fn new((session, weights): (Session, SharedWeights)) -> Self {
        Self {
            inner: session.inner(),
            _weights: weights,
        }
    }
}

impl OrtGraph {
    /// `source` is the model that the sessions were made from.
    pub(super) fn new(
        (session, weights): (Session, SharedWeights),
        on_one_thread: Option<(Session, SharedWeights)>,
        pool_threads: usize,
        source: &GraphSource,
    ) -> Result<Self> {
        let origin = &source.origin;
        let names = |outlets: &[Outlet]| -> Result<Vec<CString>> {
            let name = |outlet: &Outlet| {
                CString::new(outlet.name()).map_err(|_| {
                    ServingError::invalid_argument(format!("{origin}: a name holds a NUL"))
                })
            };
            outlets.iter().map(name).collect()
        };
        Ok(Self {
            inputs: session.inputs().iter().map(value_info).collect(),
            outputs: session.outputs().iter().map(value_info).collect(),
            input_names: names(session.inputs())?,
            output_names: names(session.outputs())?,
            session: OwnedSession::new((session, weights)),
            on_one_thread: on_one_thread.map(OwnedSession::new),
            pool_threads,
            work_follows_shapes: source.work_follows_shapes,
        })
    }

    /// Calls `Run`, which the crate `ort` would only allow through `&mut Session`.
    ///
    /// `names` and `values` correspond; `outputs` are indices into `self.output_names`.
    fn run_session(
        &self,
        session: &OwnedSession,
        inputs: &[Value],
        outputs: &[usize],
        options: &RunOptions,
    ) -> Result<Vec<Value>> {
        let input_names: Vec<*const c_char> =
            self.input_names.iter().map(|name| name.as_ptr()).collect();
        let input_values: Vec<*const OrtValue> = inputs.iter().map(Value::as_ptr).collect();
        let output_names: Vec<*const c_char> = outputs
            .iter()
            .map(|&index| self.output_names[index].as_ptr())
            .collect();
        let mut output_values: Vec<*mut OrtValue> = vec![ptr::null_mut(); outputs.len()];
        // SAFETY: all arrays have the stated lengths and outlive the call. ONNX Runtime documents
        // `Run` on one session as safe for concurrent calls, and its CPU execution provider, the
        // only one that this server registers, keeps to that: a run's state lives in its own
        // execution frame. `ort` asks for `&mut` because of other execution providers. The outputs
        // are null before and owned by us after the call.
        let status = unsafe {
            (ort::api().Run)(
                session.inner.ptr().cast::<OrtSession>().cast_mut(),
                options.0.as_ptr(),
                input_names.as_ptr(),
                input_values.as_ptr(),
                input_values.len(),
                output_names.as_ptr(),
                output_names.len(),
                output_values.as_mut_ptr(),
            )
        };
        let outcome = check(status);
        // Even after a failure, every value that is not null is ours to release.
        let values: Vec<Value> = output_values
            .into_iter()
            .filter(|value| !value.is_null())
            .map(Value::from_raw)
            .collect();
        outcome.map_err(|failure| failure.into_run_error())?;
        Ok(values)
    }
}

impl Graph for OrtGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    fn work_follows_shapes(&self) -> bool {
        self.work_follows_shapes
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads {
            pool: self.pool_threads,
            can_keep_to_one: self.on_one_thread.is_some(),
        }
    }

    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>> {
        if inputs.len() != self.inputs.len() {
            return Err(ServingError::internal(
                "a run needs one tensor for each graph input",
            ));
        }
        let values = inputs
            .iter()
            .map(Value::from_tensor)
            .collect::<Result<Vec<Value>>>()?;
        arena::note_use();
        let options = Arc::new(RunOptions::new()?);
        let registration = {
            let options = Arc::clone(&options);
            control.on_terminate(move || options.terminate())
        };
        if control.is_terminated() {
            return Err(ServingError::new(
                Code::Cancelled,
                "the run was stopped before it began",
            ));
        }
        let session = match &self.on_one_thread {
            Some(session) if control.is_kept_to_one_thread() => session,
            _ => &self.session,
        };
        let fetched = self.run_session(session, &values, outputs, &options);
        drop(registration);
        fetched?
            .into_iter()
            .map(|value| value.into_tensor(inputs))
            .collect()
    }
}

/// Options of one run: the means to stop it.
struct RunOptions(NonNull<OrtRunOptions>);

// SAFETY: the only calls made on it from several threads are `Run`, which reads it, and
// `RunOptionsSetTerminate`, which sets a flag that is meant to be set from another thread.
unsafe impl Send for RunOptions {}
// SAFETY: as above.
unsafe impl Sync for RunOptions {}

impl RunOptions {
    fn new() -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: writes one pointer, owned by us from here on.
        let status = unsafe { (ort::api().CreateRunOptions)(&mut raw) };
        check(status).map_err(|failure| failure.into_run_error())?;
        NonNull::new(raw)
            .map(Self)
            .ok_or_else(|| ServingError::internal("no run options"))
    }

    fn terminate(&self) {
        // SAFETY: the options are valid as long as `self`.
        let status = unsafe { (ort::api().RunOptionsSetTerminate)(self.0.as_ptr()) };
        if let Err(failure) = check(status) {
            tracing::warn!(?failure, "a run could not be stopped");
        }
    }
}

impl Drop for RunOptions {
    fn drop(&mut self) {
        // SAFETY: owned, and released once.
        unsafe { (ort::api().ReleaseRunOptions)(self.0.as_ptr()) };
    }
}

fn value_info(outlet: &Outlet) -> ValueInfo {
    let (dtype, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let number = ort::sys::ONNXTensorElementDataType::from(*ty) as i32;
            (from_ort_number(number), Some(shape.to_vec()))
        }
        _ => (None, None),
    };
    ValueInfo {
        name: outlet.name().to_owned(),
        dtype,
        shape,
    }
}
