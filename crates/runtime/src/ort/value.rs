//! Tensors to and from `OrtValue`s, without copying elements of fixed size.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use bytes::Bytes;
use ort::sys::{
    ONNXTensorElementDataType as OrtType, ONNXType, OrtAllocator, OrtMemoryInfo, OrtValue,
};

use super::status::check;
use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor};

/// An owned `OrtValue`.
pub(super) struct Value(*mut OrtValue);

// SAFETY: a value is used by one thread at a time for writing (while it is made) and only read
// afterwards; ONNX Runtime ties it to no thread.
unsafe impl Send for Value {}
// SAFETY: as above: shared values are only read.
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: owned, and released once.
        unsafe { (ort::api().ReleaseValue)(self.0) };
    }
}

impl Value {
    /// Takes ownership of an output of a run. Must not be null.
    pub(super) fn from_raw(raw: *mut OrtValue) -> Self {
        Self(raw)
    }

    pub(super) fn as_ptr(&self) -> *const OrtValue {
        self.0
    }

    /// A value that borrows the tensor's memory, which has to outlive it; strings are copied.
    pub(super) fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let dtype = to_ort_type(tensor.dtype()).ok_or_else(|| {
            ServingError::invalid_argument(format!("{} is not supported", tensor.dtype()))
        })?;
        let shape: Vec<i64> = tensor.shape().iter().map(|&dim| dim as i64).collect();
        match tensor.bytes() {
            Some(bytes) => Self::over_bytes(dtype, &shape, bytes),
            None => Self::of_strings(&shape, tensor.strings().unwrap_or_default()),
        }
    }

    fn over_bytes(dtype: OrtType, shape: &[i64], bytes: &Bytes) -> Result<Self> {
        // Kernels read one number of a tensor that they treat as a scalar, even if it is empty.
        static ZEROS: [u128; 4] = [0; 4];
        let data = match bytes.is_empty() {
            true => ZEROS.as_ptr().cast(),
            false => bytes.as_ptr(),
        };
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are valid for the call. The data is passed as mutable because the API
        // has no const variant; ONNX Runtime does not write to the inputs of a run.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                memory_info(),
                data.cast_mut().cast::<c_void>(),
                bytes.len(),
                shape.as_ptr(),
                shape.len(),
                dtype,
                &mut raw,
            )
        };
        check(status).map_err(|failure| failure.into_run_error())?;
        Ok(Self(raw))
    }

    /// A value with copies of the strings: any bytes, NUL and invalid UTF-8 included.
    fn of_strings(shape: &[i64], strings: &[Bytes]) -> Result<Self> {
        let api = ort::api();
        let mut raw = ptr::null_mut();
        // SAFETY: the pointers are valid for the call.
        let status = unsafe {
            (api.CreateTensorAsOrtValue)(
                allocator(),
                shape.as_ptr(),
                shape.len(),
                OrtType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
                &mut raw,
            )
        };
        check(status).map_err(|failure| failure.into_run_error())?;
        let value = Self(raw);
        for (index, string) in strings.iter().enumerate() {
            let mut buffer = ptr::null_mut();
            // SAFETY: the index is below the number of elements; the buffer that comes back has
            // room for `string.len()` bytes and belongs to the value.
            unsafe {
                let status = (api.GetResizedStringTensorElementBuffer)(
                    value.0,
                    index,
                    string.len(),
                    &mut buffer,
                );
                check(status).map_err(|failure| failure.into_run_error())?;
                ptr::copy_nonoverlapping(string.as_ptr(), buffer.cast::<u8>(), string.len());
            }
        }
        Ok(value)
    }

    /// The value as a tensor that keeps it alive. `inputs` are the run's: an output can alias one.
    pub(super) fn into_tensor(self, inputs: &[Tensor]) -> Result<Tensor> {
        let (dtype, shape) = self.dtype_and_shape()?;
        let tensor = match dtype.size() {
            None => Tensor::from_strings(&shape, self.strings(shape.iter().product())?),
            Some(size) => {
                let bytes = self.into_bytes(shape.iter().product::<usize>() * size, inputs)?;
                Tensor::from_bytes(dtype, &shape, bytes)
            }
        };
        tensor.ok_or_else(|| ServingError::internal("an output's size contradicts its shape"))
    }

    fn dtype_and_shape(&self) -> Result<(DataType, Vec<usize>)> {
        let api = ort::api();
        let mut kind = ONNXType::ONNX_TYPE_UNKNOWN;
        // SAFETY: the value is valid; `kind` outlives the call.
        let status = unsafe { (api.GetValueType)(self.0, &mut kind) };
        check(status).map_err(|failure| failure.into_run_error())?;
        if kind != ONNXType::ONNX_TYPE_TENSOR {
            return Err(ServingError::unimplemented(
                "an output of the graph is not a tensor",
            ));
        }
        let mut info = ptr::null_mut();
        // SAFETY: the value is a tensor; `info` is released below on every path.
        let status = unsafe { (api.GetTensorTypeAndShape)(self.0, &mut info) };
        check(status).map_err(|failure| failure.into_run_error())?;
        let mut number: c_int = 0;
        let mut rank = 0;
        let mut dims: Vec<i64> = Vec::new();
        // SAFETY: `info` is valid until released. The element type is written as a C int that can have
        // any value, so it is not read as the crate's enum. `dims` has `rank` elements.
        let read = unsafe {
            let element_type = (&raw mut number).cast::<OrtType>();
            check((api.GetTensorElementType)(info, element_type))
                .and_then(|()| check((api.GetDimensionsCount)(info, &mut rank)))
                .and_then(|()| {
                    dims.resize(rank, 0);
                    check((api.GetDimensions)(info, dims.as_mut_ptr(), rank))
                })
        };
        // SAFETY: released once, not used afterwards.
        unsafe { (api.ReleaseTensorTypeAndShapeInfo)(info) };
        read.map_err(|failure| failure.into_run_error())?;
        let dtype = from_ort_number(number).ok_or_else(|| {
            ServingError::unimplemented(format!("an output has ONNX element type {number}"))
        })?;
        let shape = dims
            .into_iter()
            .map(|dim| usize::try_from(dim).unwrap_or(0))
            .collect();
        Ok((dtype, shape))
    }

    /// The elements' memory, owned by the value from here on.
    fn into_bytes(self, len: usize, inputs: &[Tensor]) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut data = ptr::null_mut();
        // SAFETY: the value is a tensor without strings.
        let status = unsafe { (ort::api().GetTensorMutableData)(self.0, &mut data) };
        check(status).map_err(|failure| failure.into_run_error())?;
        // A graph output that is also a graph input points to the caller's memory, which the value does
        // not own.
        for bytes in inputs.iter().filter_map(Tensor::bytes) {
            let offset = (data as usize).wrapping_sub(bytes.as_ptr() as usize);
            if offset < bytes.len() && bytes.len() - offset >= len {
                return Ok(bytes.slice(offset..offset + len));
            }
        }
        Ok(Bytes::from_owner(ValueBytes {
            data: data.cast(),
            len,
            _value: self,
        }))
    }

    fn strings(&self, count: usize) -> Result<Vec<Bytes>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let api = ort::api();
        let mut total = 0;
        // SAFETY: the value is a string tensor.
        let status = unsafe { (api.GetStringTensorDataLength)(self.0, &mut total) };
        check(status).map_err(|failure| failure.into_run_error())?;
        let mut contents = vec![0u8; total];
        let mut offsets = vec![0usize; count];
        // SAFETY: the buffers have the lengths that are passed to the library.
        let status = unsafe {
            (api.GetStringTensorContent)(
                self.0,
                contents.as_mut_ptr().cast::<c_void>(),
                total,
                offsets.as_mut_ptr(),
                count,
            )
        };
        check(status).map_err(|failure| failure.into_run_error())?;
        let contents = Bytes::from(contents);
        let ends = offsets.iter().skip(1).copied().chain([total]);
        Ok(offsets
            .iter()
            .zip(ends)
            .map(|(&start, end)| contents.slice(start..end))
            .collect())
    }
}

/// The memory of a tensor value, and the value that owns it.
struct ValueBytes {
    data: *const u8,
    len: usize,
    _value: Value,
}

// SAFETY: the memory is only read, and stays valid as long as the value it belongs to.
unsafe impl Send for ValueBytes {}

impl AsRef<[u8]> for ValueBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the value's elements occupy `len` bytes from `data` on, and nothing writes to them
        // once the run has returned.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// The description of ordinary memory, where all our tensors are.
fn memory_info() -> *const OrtMemoryInfo {
    struct Info(*const OrtMemoryInfo);
    // SAFETY: immutable once made.
    unsafe impl Send for Info {}
    // SAFETY: as above.
    unsafe impl Sync for Info {}
    static INFO: OnceLock<Info> = OnceLock::new();
    INFO.get_or_init(|| {
        let mut info = ptr::null_mut();
        // SAFETY: writes one pointer; kept for the life of the process.
        let status = unsafe {
            (ort::api().CreateCpuMemoryInfo)(
                ort::sys::OrtAllocatorType::OrtDeviceAllocator,
                ort::sys::OrtMemType::OrtMemTypeDefault,
                &mut info,
            )
        };
        check(status).expect("ONNX Runtime always describes ordinary memory");
        Info(info)
    })
    .0
}

/// The library's own allocator, for string tensors.
fn allocator() -> *mut OrtAllocator {
    let mut allocator = ptr::null_mut();
    // SAFETY: writes a pointer to a static object of the library.
    let status = unsafe { (ort::api().GetAllocatorWithDefaultOptions)(&mut allocator) };
    check(status).expect("ONNX Runtime always has a default allocator");
    allocator
}

macro_rules! ort_types {
    ($($dtype:ident = $ort:ident,)*) => {
        fn to_ort_type(dtype: DataType) -> Option<OrtType> {
            match dtype {
                $(DataType::$dtype => Some(OrtType::$ort),)*
                _ => None,
            }
        }

        /// From `ONNXTensorElementDataType`, as a number.
        pub(super) fn from_ort_number(number: c_int) -> Option<DataType> {
            $(if number == OrtType::$ort as c_int {
                return Some(DataType::$dtype);
            })*
            None
        }
    };
}

ort_types! {
    Float = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
    Double = ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
    Int8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
    Int16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
    Int32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
    Int64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
    UInt8 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
    UInt16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
    UInt32 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
    UInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
    Bool = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
    Half = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
    BFloat16 = ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
    String = ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
}
