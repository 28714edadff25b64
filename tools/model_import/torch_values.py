"""Arrays and tensors: PyTorch has dtypes that numpy lacks, of which bfloat16 is served."""

import numpy

from model_import.errors import ImportFailed


def numpy_dtype(torch, dtype, what):
    """numpy's counterpart of a torch dtype; `what` names the tensor in the error."""
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError as error:
        if dtype != torch.bfloat16:
            raise ImportFailed(
                f"{what} is of {dtype}, which cannot be served: cast it inside the model"
            ) from error
    return bfloat16()


def bfloat16():
    """numpy's dtype for it, from the package that TensorFlow and ONNX use, too."""
    import ml_dtypes

    return numpy.dtype(ml_dtypes.bfloat16)


def to_torch(torch, value, dtype):
    """An array as a tensor; `dtype` is numpy's."""
    array = numpy.ascontiguousarray(value, dtype).reshape(numpy.shape(value))
    if dtype.kind == "V":
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(torch, tensor, what):
    """A tensor as an array."""
    dtype = numpy_dtype(torch, tensor.dtype, what)
    tensor = tensor.detach().cpu().contiguous()
    if dtype.kind == "V":
        return tensor.view(torch.int16).numpy().view(dtype)
    return tensor.numpy()
