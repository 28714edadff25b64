//! Hands large weights to a session that is being made.
//!
//! ONNX Runtime gets most as files in memory. While it loads, it copies all of them, and each a second time for
//! a moment. It keeps a copy, or data that kernels derive from it (packed matrices).
//!
//! A weight that is used in place is passed twice. As an external initializer it takes the place of a file for
//! optimizations, with a single copy that the session drops. As an initializer it is used without a copy. If
//! the weights are shared, data that kernels derive from them is in a container, once for all sessions.
//!
//! Not here: which weights are shared (`mapper::version_dir`) and used in place (`onnx`).

use std::ffi::{CString, c_char};

use bytes::Bytes;
use ort::AsPointer;
use ort::session::builder::{PrepackedWeights, SessionBuilder};

use super::status::{Failure, check};
use super::value::{Value, from_ort_number};
use crate::{GraphSource, Weight};
use base::tensor::Tensor;

/// ONNX Runtime copies a file in memory into a protobuf, which can hold no more than this.
const MAX_FILE_BYTES: usize = i32::MAX as usize;

/// Weights that a session uses in place: they have to outlive it.
#[derive(Default)]
pub(super) struct SharedWeights {
    _kept: Vec<(Value, Tensor)>,
}

/// Prepares `builder` for the weights of `source`, which have to exist until the session is made.
pub(super) fn hand_over(
    mut builder: SessionBuilder,
    source: &GraphSource,
) -> Result<(SessionBuilder, SharedWeights), Failure> {
    let mut files = Vec::new();
    let mut in_place = Vec::new();
    for weight in &source.weights {
        let is_large = weight.data.len() > MAX_FILE_BYTES;
        // If this server has no tensors of the type, or the bytes are not aligned to elements, as in a file
        // written without alignment, the session makes its copies.
        let tensor = match weight.in_place || is_large {
            true => tensor_over(weight),
            false => None,
        };
        match tensor {
            Some(tensor) => in_place.push((weight, tensor)),
            None if is_large => return Err(too_large(weight)),
            None => files.push(weight),
        }
    }
    add_files(&mut builder, &files)?;
    let shared = add_in_place(&mut builder, in_place)?;
    let sharing = source.sharing.as_ref();
    if let Some(container) = sharing.and_then(|it| it.derived(PrepackedWeights::new)) {
        builder = builder
            .with_prepacked_weights(container)
            .map_err(|error| Failure::new(error.message()))?;
    }
    Ok((builder, shared))
}

fn too_large(weight: &Weight) -> Failure {
    let name = &weight.name;
    Failure::new(&format!(
        "the weight '{name}' has more than 2 GiB, and a type or a place in its file for which that is too \
         much"
    ))
}

fn add_files(builder: &mut SessionBuilder, weights: &[&Weight]) -> Result<(), Failure> {
    if weights.is_empty() {
        return Ok(());
    }
    let names = weights.iter().map(|weight| c_string(&weight.location));
    let names = names.collect::<Result<Vec<CString>, Failure>>()?;
    let name_pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let data = weights.iter().map(|weight| &weight.data);
    let buffers: Vec<*mut c_char> = data
        .clone()
        .map(|data| data.as_ptr().cast_mut().cast())
        .collect();
    let sizes: Vec<usize> = data.map(Bytes::len).collect();
    // SAFETY: the arrays have one entry for each weight and outlive the call; the buffers, which
    // are only read, outlive the session's making, after which ONNX Runtime has copies.
    let status = unsafe {
        (ort::api().AddExternalInitializersFromMemory)(
            builder.ptr_mut(),
            name_pointers.as_ptr(),
            buffers.as_ptr(),
            sizes.as_ptr(),
            weights.len(),
        )
    };
    check(status)
}

fn add_in_place(
    builder: &mut SessionBuilder,
    weights: Vec<(&Weight, Tensor)>,
) -> Result<SharedWeights, Failure> {
    let mut shared = SharedWeights::default();
    for (weight, tensor) in weights {
        let value = Value::from_tensor(&tensor);
        let value = value.map_err(|error| Failure::new(&error.to_string()))?;
        let name = c_string(&weight.name)?;
        // SAFETY: both arrays have one entry, valid for the call. The value, and the memory it is over, live in
        // `shared`, which the graph keeps as long as its session.
        let external = unsafe {
            (ort::api().AddExternalInitializers)(
                builder.ptr_mut(),
                &name.as_ptr(),
                &value.as_ptr(),
                1,
            )
        };
        check(external)?;
        // SAFETY: name and value are valid for the call; the rest is as above.
        let initializer = unsafe {
            (ort::api().AddInitializer)(builder.ptr_mut(), name.as_ptr(), value.as_ptr())
        };
        check(initializer)?;
        shared._kept.push((value, tensor));
    }
    Ok(shared)
}

fn tensor_over(weight: &Weight) -> Option<Tensor> {
    let dtype = from_ort_number(weight.elem_type)?;
    if !weight.data.as_ptr().addr().is_multiple_of(dtype.size()?) {
        return None;
    }
    let shape = weight.shape.iter().map(|&dim| usize::try_from(dim).ok());
    let shape: Vec<usize> = shape.collect::<Option<_>>()?;
    Tensor::from_bytes(dtype, &shape, weight.data.clone())
}

fn c_string(name: &str) -> Result<CString, Failure> {
    CString::new(name).map_err(|_| Failure::new("a weight's name holds a NUL"))
}
