"""The test models of the package `onnx`, and what ONNX Runtime, called from Python, answers to them.

They are what every backend of ONNX is tried with: one for nearly each operator, attribute and type
(`node`), and small ones that were exported (`simple`, `pytorch-converted`, `pytorch-operator`).

Not here: the server (`test_onnx_backend.py`).
"""

import ctypes
import dataclasses
import math
import pathlib
import warnings

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
BFLOAT16 = onnx.TensorProto.BFLOAT16


@dataclasses.dataclass
class Case:
    """A model and the inputs that the suite has for it."""

    name: str
    model: onnx.ModelProto
    # For each set, the values for the graph's inputs, from the first on.
    data_sets: list
    rtol: float
    atol: float

    def feeds(self, values):
        names = [value.name for value in self.model.graph.input]
        return dict(zip(names, values))


def cases():
    """All models of the suite."""
    for kind in KINDS:
        with warnings.catch_warnings():
            # Some expected values are infinite.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = load_model_tests(kind=kind)
        for case in sorted(found, key=lambda case: case.name):
            # Names are unique within a kind only.
            name = f"{kind}.{case.name}"
            if case.model is not None:
                sets = [[array_of(value) for value in inputs] for inputs, _ in case.data_sets]
                yield Case(name, case.model, sets, case.rtol, case.atol)
            else:
                folder = pathlib.Path(case.model_dir)
                model = onnx.load(folder / "model.onnx")
                sets = [read_inputs(it, model) for it in sorted(folder.glob("test_data_set*"))]
                yield Case(name, model, sets, case.rtol, case.atol)


def read_inputs(folder, model):
    count = len(list(folder.glob("input_*.pb")))
    inputs = []
    for number, value in zip(range(count), model.graph.input):
        content = (folder / f"input_{number}.pb").read_bytes()
        kind = value.type.WhichOneof("value")
        if kind == "tensor_type":
            inputs.append(numpy_helper.to_array(onnx.TensorProto.FromString(content)))
        elif kind == "sequence_type":
            inputs.append(numpy_helper.to_list(onnx.SequenceProto.FromString(content)))
        else:
            inputs.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(content)))
    return inputs


def array_of(value):
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    is_numpy = isinstance(value, (np.ndarray, np.generic))
    return np.asarray(value) if is_numpy else value


def type_name(elem_type):
    """ONNX's name of an element type."""
    return onnx.TensorProto.DataType.Name(elem_type).lower()


class Refused(Exception):
    """ONNX Runtime does not load the model, or does not answer."""


class BareRuntime:
    """A model in a session with ONNX Runtime's defaults."""

    def __init__(self, case):
        self.graph = case.model.graph
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(
                case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise Refused(str(error)) from error

    def answer(self, feeds):
        """The outputs by name: arrays, and lists of them for sequences."""
        names = [value.name for value in self.session.get_outputs()]
        try:
            if self._has_bfloat16():
                values = self._run_on_bits(names, feeds)
            else:
                values = self.session.run(names, feeds)
        except Exception as error:
            raise Refused(str(error)) from error
        return dict(zip(names, values))

    def _has_bfloat16(self):
        values = [*self.graph.input, *self.graph.output]
        return any(value.type.tensor_type.elem_type == BFLOAT16 for value in values)

    def _run_on_bits(self, names, feeds):
        """For a type that NumPy does not know by itself."""
        values = self.session.run_with_ort_values(
            names, {name: value_over(array) for name, array in feeds.items()}
        )
        return [array_in(value) for value in values]


def value_over(array):
    if array.dtype == ml_dtypes.bfloat16:
        of_bits = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
        return of_bits(array.view(np.uint16), BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def array_in(value):
    if value.element_type() != BFLOAT16:
        return value.numpy()
    bits = ctypes.string_at(value.data_ptr(), 2 * math.prod(value.shape()))
    return np.frombuffer(bits, ml_dtypes.bfloat16).reshape(value.shape())


def is_same(one, other):
    """Equal to the bit, but for the bits of what is no number."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return one.tolist() == other.tolist()
    if one.dtype.kind in "fcV":
        numbers = [np.where(np.isnan(it), it.dtype.type(0), it) for it in (one, other)]
        if not np.array_equal(np.isnan(one), np.isnan(other)):
            return False
        one, other = numbers
    return one.tobytes() == other.tobytes()


def is_close(one, other, rtol, atol):
    """As the suite compares what a backend answers with what it expects."""
    if one.dtype != other.dtype or one.shape != other.shape or one.dtype == object:
        return False
    if one.dtype == ml_dtypes.bfloat16:
        # Two of its steps.
        rtol = max(rtol, 2**-6)
        one, other = one.astype(np.float32), other.astype(np.float32)
    return np.allclose(one, other, rtol=rtol, atol=atol, equal_nan=True)
