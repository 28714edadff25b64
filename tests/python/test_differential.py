"""Random requests: gRPC, REST and ONNX Runtime called from Python say the same, to the bit.

Each dtype has a model of its own, with operators that ONNX Runtime has for it. `DIFFERENTIAL_SEED`
chooses other requests and `DIFFERENTIAL_REQUESTS` how many; a failure says which request it was.
"""

import base64
import ctypes
import importlib.util
import json
import math
import os

import grpc
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

import onnx_models
from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import PROJECT

SEED = int(os.environ.get("DIFFERENTIAL_SEED", 12))
REQUESTS = int(os.environ.get("DIFFERENTIAL_REQUESTS", 60))
PROTOBUF = {"Content-Type": "application/x-protobuf"}

BFLOAT16 = tf.bfloat16.as_numpy_dtype
# ONNX's numbers of data types (TensorProto.DataType).
DATA_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "string": 8,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
}
# The types that ONNX Runtime adds and compares on a CPU.
ARITHMETIC = ("float32", "float64", "int32", "int64")
# As in TensorFlow Serving, JSON has no form for these; REST accepts them as protobuf messages.
WITHOUT_JSON = ("uint16", "float16", "bfloat16")


class Model:
    """x: T[n, a, b] and what is made of it, every output with n rows."""

    def __init__(self, dtype, folder):
        self.dtype = dtype
        number = DATA_TYPES[dtype]
        # As in TensorFlow Serving, strings of outputs with such names are base64 in JSON.
        twice = "twice_bytes" if dtype == "string" else "twice"
        nodes = [
            ("Concat", ["x", "x"], twice, {"axis": 1}),
            ("Flatten", ["x"], "flat", {"axis": 1}),
        ]
        outputs = {twice: (number, "n", "c", "b"), "flat": (number, "n", "d")}
        constants = {}
        if dtype != "string":
            nodes.append(("Cast", ["x"], "as_float", {"to": onnx_models.FLOAT}))
            outputs["as_float"] = (onnx_models.FLOAT, "n", "a", "b")
        if dtype in ARITHMETIC:
            constants["axes"] = np.int64([2])
            nodes += [("Add", ["x", "x"], "double"), ("ReduceSum", ["double", "axes"], "sum")]
            outputs["sum"] = (number, "n", "a", "e")
        content = onnx_models.model(
            nodes, constants, inputs={"x": (number, "n", "a", "b")}, outputs=outputs
        )
        onnx_models.publish(folder / dtype, 1, content)
        self.config = (
            f"config {{ name: '{dtype}' base_path: '{folder / dtype}' model_platform: 'onnx' }}\n"
        )
        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def outputs(self, x):
        """What ONNX Runtime says, by name."""
        names = [output.name for output in self.session.get_outputs()]
        if self.dtype == "string":
            # ONNX Runtime accepts and returns text; the tensors of TensorFlow have bytes.
            arrays = self.session.run(names, {"x": of_each(bytes.decode, x)})
            return {name: of_each(str.encode, array) for name, array in zip(names, arrays)}
        if self.dtype != "bfloat16":
            return dict(zip(names, self.session.run(names, {"x": x})))
        # NumPy has no bfloat16, so ONNX Runtime gets and returns the bits.
        of_bits = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
        value = of_bits(x.view(np.uint16), DATA_TYPES["bfloat16"])
        values = self.session.run_with_ort_values(names, {"x": value})
        return {name: array_of(value) for name, value in zip(names, values)}


def array_of(value):
    """The array in an `OrtValue`."""
    if value.element_type() != DATA_TYPES["bfloat16"]:
        return value.numpy()
    bits = ctypes.string_at(value.data_ptr(), 2 * math.prod(value.shape()))
    return np.frombuffer(bits, BFLOAT16).reshape(value.shape())


def of_each(function, strings):
    """An array of strings with `function` of each."""
    result = np.empty(strings.shape, object)
    result.flat[:] = [function(it) for it in strings.flat]
    return result


def random_input(dtype, random):
    """x: T[n, a, b] with the values that go wrong most easily, and others."""
    shape = random.integers(1, (5, 4, 6))
    if random.random() < 0.05:
        shape[random.integers(1, 3)] = 0
    if dtype == "string":
        return of_each(lambda _: random_text(random).encode(), np.empty(shape, object))
    if dtype == "bool":
        return random.random(shape) < 0.5
    if dtype in ("float16", "bfloat16", "float32", "float64"):
        numpy_type = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
        bits = np.dtype(f"uint{8 * np.dtype(numpy_type).itemsize}")
        any_bits = random.integers(0, np.iinfo(bits).max, shape, bits, True).view(numpy_type)
        x = np.where(random.random(shape) < 0.5, random.standard_normal(shape), any_bits)
        # A NaN has many bit patterns, of which JSON keeps one.
        return np.where(np.isnan(x), np.nan, x).astype(numpy_type)
    limits = np.iinfo(dtype)
    x = random.integers(limits.min, limits.max, shape, dtype, True)
    return np.where(random.random(shape) < 0.2, np.dtype(dtype).type(limits.max), x)


def random_text(random):
    """What JSON escapes, and what takes one to four bytes of UTF-8."""
    alphabet = '\x01\n"/\\<aZ\x7f\u00e4\u2028\u20ac\ufffd\U0001f600'
    return "".join(random.choice(list(alphabet), random.integers(0, 20)))


def by_grpc(stub, model, x):
    response = stub.Predict(predict_request(model.dtype, x=x), timeout=TIMEOUT)
    return arrays_of(response)


def by_rest_protobuf(server, model, x):
    body = predict_request(model.dtype, x=x).SerializeToString()
    path = f"/v1/models/{model.dtype}:predict"
    status, _, reply = server.rest("POST", path, body, PROTOBUF)
    assert status == 200, reply
    return arrays_of(predict_pb2.PredictResponse.FromString(reply))


def by_rest_json(server, model, x, expected, by_row):
    """Says what JSON says in the shapes and dtypes of `expected`, which JSON cannot tell."""
    body = json.dumps({"instances" if by_row else "inputs": encode(x.tolist())})
    status, reply = server.predict_rest(model.dtype, body)
    assert status == 200, reply
    reply = json.loads(reply)
    if by_row:
        rows = reply["predictions"]
        columns = {name: [row[name] for row in rows] for name in expected}
    else:
        columns = reply["outputs"]
    assert columns.keys() == expected.keys()
    result = {}
    for name, array in expected.items():
        assert nested_shape(columns[name], array.ndim) == shape_in_json(array.shape), name
        values = decode(columns[name])
        result[name] = np.array(values, array.dtype).reshape(array.shape)
    return result


def encode(value):
    """`value` for JSON; strings as such or, where they begin with this letter, in base64."""
    if isinstance(value, list):
        return [encode(it) for it in value]
    if not isinstance(value, bytes):
        return value
    return {"b64": base64.b64encode(value).decode()} if value[:1] == b"a" else value.decode()


def decode(value):
    if isinstance(value, list):
        return [decode(it) for it in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def nested_shape(value, rank):
    """The shape of lists in lists, down to the first that is empty."""
    shape = []
    while len(shape) < rank:
        assert isinstance(value, list), value
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def shape_in_json(shape):
    return list(shape[: shape.index(0) + 1] if 0 in shape else shape)


def arrays_of(response):
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def check_same(what, answered, expected):
    assert answered.keys() == expected.keys(), what
    for name, array in expected.items():
        other = answered[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), f"{what}, {name}"
        same = other.tolist() == array.tolist() if array.dtype == object else is_same(other, array)
        assert same, f"{what}, {name}: {other.tolist()} rather than {array.tolist()}"


def is_same(one, other):
    """Equal to the bit, but for the bits of what is no number."""
    if one.dtype.kind in "fV" or one.dtype == BFLOAT16:
        if not np.array_equal(np.isnan(one), np.isnan(other)):
            return False
        one, other = (np.where(np.isnan(it), it.dtype.type(0), it) for it in (one, other))
    return one.tobytes() == other.tobytes()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {dtype: Model(dtype, folder) for dtype in DATA_TYPES}


@pytest.fixture(scope="module", params=["", "--enable_batching"], ids=["alone", "batching"])
def served(request, models, start_server, tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "models.config"
    configs = "".join(model.config for model in models.values())
    config.write_text(f"model_config_list {{\n{configs}}}\n")
    flags = [f"--model_config_file={config}", *filter(None, [request.param])]
    return start_server(flags, list(models))


def test_onnxruntime_is_the_one_that_is_served():
    path = PROJECT / "tools" / "fetch_onnxruntime.py"
    spec = importlib.util.spec_from_file_location("fetch_onnxruntime", path)
    fetch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch)
    assert onnxruntime.__version__ == fetch.VERSION


@pytest.mark.parametrize("dtype", DATA_TYPES)
def test_all_ways_to_ask_agree(models, served, dtype):
    model = models[dtype]
    with grpc.insecure_channel(served.grpc_address) as channel:
        stub = prediction(channel)
        for number in range(REQUESTS):
            what = f"request {number} of {dtype}, DIFFERENTIAL_SEED={SEED}"
            random = np.random.default_rng([SEED, DATA_TYPES[dtype], number])
            x = random_input(dtype, random)
            expected = model.outputs(x)
            check_same(f"{what} by gRPC", by_grpc(stub, model, x), expected)
            check_same(f"{what} by protobuf", by_rest_protobuf(served, model, x), expected)
            # JSON writes [] for a dimension of size 0, and nothing for the dimensions inside.
            if dtype not in WITHOUT_JSON and x.shape[1] > 0:
                by_row = bool(random.random() < 0.5)
                answered = by_rest_json(served, model, x, expected, by_row)
                check_same(f"{what} by JSON", answered, expected)
