//! Hands large weights to a session that is being made.
//!
//! ONNX Runtime gets them twice. First as files in memory: it computes constant expressions from them
//! and makes copies of its own. Shared ones also as initializers: ONNX Runtime uses those in place
//! instead of its copy, and keeps data that kernels derive from them (packed matrices) in a container,
//! once for all sessions. A weight that is too large for a file in memory is passed as an external
//! initializer instead.
//!
//! Not here: which weights are shared (`mapper::version_dir`).

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
    let (large, others): (Vec<&Weight>, Vec<&Weight>) = source
        .weights
        .iter()
        .partition(|weight| weight.data.len() > MAX_FILE_BYTES);
    add_files(&mut builder, &others)?;
    let sharing = source.sharing.as_ref();
    let is_shared = |weight: &Weight| sharing.is_some_and(|it| it.contains(&weight.name));
    let mut shared = SharedWeights::default();
    for weight in large {
        add_large(&mut builder, weight, &mut shared)?;
    }
    for weight in others.into_iter().filter(|it| is_shared(it)) {
        add_shared(&mut builder, weight, &mut shared)?;
    }
    if let Some(container) = sharing.and_then(|it| it.derived(PrepackedWeights::new)) {
        builder = builder
            .with_prepacked_weights(container)
            .map_err(|error| Failure::new(error.message()))?;
    }
    Ok((builder, shared))
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

/// Replaces a file in memory, and is never copied.
fn add_large(
    builder: &mut SessionBuilder,
    weight: &Weight,
    shared: &mut SharedWeights,
) -> Result<(), Failure> {
    let tensor = tensor_over(weight).ok_or_else(|| {
        let name = &weight.name;
        Failure::new(&format!(
            "the weight '{name}' has more than 2 GiB, and a type or a place in its file for which \
             that is too much"
        ))
    })?;
    let value = Value::from_tensor(&tensor).map_err(|error| Failure::new(&error.to_string()))?;
    let name = c_string(&weight.name)?;
    // SAFETY: both arrays have one entry, valid for the call. The value, and the memory it is over,
    // live in `shared`, which the graph keeps as long as its session.
    let status = unsafe {
        (ort::api().AddExternalInitializers)(builder.ptr_mut(), &name.as_ptr(), &value.as_ptr(), 1)
    };
    check(status)?;
    shared._kept.push((value, tensor));
    Ok(())
}

fn add_shared(
    builder: &mut SessionBuilder,
    weight: &Weight,
    shared: &mut SharedWeights,
) -> Result<(), Failure> {
    // If this server has no tensors of the type, or the bytes are not aligned to elements, as in a file
    // written without alignment, the session keeps its copy.
    let Some(tensor) = tensor_over(weight) else {
        return Ok(());
    };
    let value = Value::from_tensor(&tensor).map_err(|error| Failure::new(&error.to_string()))?;
    let name = c_string(&weight.name)?;
    // SAFETY: name and value are valid for the call. The value, and the memory it is over, live in
    // `shared`, which the graph keeps as long as its session.
    let status =
        unsafe { (ort::api().AddInitializer)(builder.ptr_mut(), name.as_ptr(), value.as_ptr()) };
    check(status)?;
    shared._kept.push((value, tensor));
    Ok(())
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
