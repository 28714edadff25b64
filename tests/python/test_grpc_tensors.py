"""Tensors of every dtype and shape go to the server and come back unchanged.

The models copy their input to their output: those of `ident` in `tests/data/golden`, one signature
for each dtype, and one of `tests/data/grpc` whose graph really is bfloat16.
"""

import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from grpc_calls import (
    GOLDEN_MODELS,
    TIMEOUT,
    golden_flags,
    model_flags,
    predict_request,
    prediction,
    refused,
)

MAX_MESSAGE = 2**31 - 1
PREDICT = "/tensorflow.serving.PredictionService/Predict"
# gRPC's default limit would refuse large answers.
LARGE = [
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
]

# By signature: values at the edges of the dtype. `_r` takes any rank.
VALUES = {
    "f16": np.float16([0.0, -0.0, 1.5, 65504.0, 6e-8, np.inf, -np.inf, np.nan]),
    "f32": np.float32([0.0, -0.0, 1.1, 3.4e38, 1e-45, np.inf, -np.inf, np.nan]),
    "f64": np.float64([0.0, -0.0, 1.1, 1.7e308, 5e-324, np.inf, -np.inf, np.nan]),
    "i8": np.int8([0, 1, -1, 127, -128, 5, 6, 7]),
    "i16": np.int16([0, 1, -1, 2**15 - 1, -(2**15), 5, 6, 7]),
    "i32": np.int32([0, 1, -1, 2**31 - 1, -(2**31), 5, 6, 7]),
    "i64": np.int64([0, 1, -1, 2**63 - 1, -(2**63), 5, 6, 7]),
    "u8": np.uint8([0, 1, 2, 127, 128, 255, 6, 7]),
    "u16": np.uint16([0, 1, 2, 2**15, 2**16 - 1, 5, 6, 7]),
    "u32": np.uint32([0, 1, 2, 2**31, 2**32 - 1, 5, 6, 7]),
    "u64": np.uint64([0, 1, 2, 2**63, 2**64 - 1, 5, 6, 7]),
    "bool": np.array([True, False, True, True, False, False, True, False]),
    "str": np.array(
        [b"", b"a", b"\x00", b"in\x00side", b"\xff\xfe", "é€😀".encode(), b"\n", b"x" * 1000],
        object,
    ),
}
SHAPES = [(8,), (2, 4), (1, 2, 1, 2, 1, 2, 1, 1)]


@pytest.fixture(scope="module")
def golden(start_server, tmp_path_factory):
    return start_server(golden_flags(tmp_path_factory.mktemp("golden")), GOLDEN_MODELS)


@pytest.fixture(scope="module")
def stub(golden):
    with grpc.insecure_channel(golden.grpc_address, options=LARGE) as channel:
        yield prediction(channel)


def echo(stub, model, signature_name, proto):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature_name
    request.inputs["x"].CopyFrom(proto)
    return stub.Predict(request, timeout=TIMEOUT).outputs["y"]


def bits(array):
    """For comparison: NaN equals itself, 0 differs from -0."""
    return array.tolist() if array.dtype == object else array.tobytes()


def check_echo(stub, model, signature_name, values):
    sent = tf.make_tensor_proto(values)
    answer = echo(stub, model, signature_name, sent)
    assert answer.dtype == sent.dtype
    assert answer.HasField("tensor_shape")
    assert answer.tensor_shape == sent.tensor_shape
    assert answer.tensor_content == b""
    back = tf.make_ndarray(answer)
    assert back.shape == values.shape
    assert bits(back) == bits(values)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"rank{len(shape)}")
@pytest.mark.parametrize("signature_name", VALUES)
def test_every_dtype_comes_back(stub, signature_name, shape):
    check_echo(stub, "ident", f"{signature_name}_r", VALUES[signature_name].reshape(shape))


@pytest.mark.parametrize("signature_name", VALUES)
def test_scalars_come_back(stub, signature_name):
    # TensorFlow's client makes a string of zero bytes only from a list.
    for index in (1, 4):
        value = np.array(VALUES[signature_name][index], VALUES[signature_name].dtype)
        check_echo(stub, "ident", f"{signature_name}_r", value)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("signature_name", VALUES)
def test_empty_tensors_come_back(stub, signature_name, shape):
    check_echo(stub, "ident", f"{signature_name}_r", VALUES[signature_name][:0].reshape(shape))


@pytest.mark.parametrize("signature_name", VALUES)
def test_typed_fields_are_read_as_well(stub, signature_name):
    """What other clients send: the answer's own form, packed typed fields."""
    values = VALUES[signature_name]
    typed = echo(stub, "ident", f"{signature_name}_r", tf.make_tensor_proto(values))
    assert not typed.tensor_content
    assert echo(stub, "ident", f"{signature_name}_r", typed) == typed


def bfloat16_of_bits(patterns):
    return np.uint16(patterns).view(tf.bfloat16.as_numpy_dtype)


def test_bfloat16_is_exact_to_the_bit(start_server):
    """Every bit pattern, NaN's payloads included, through a graph that is bfloat16."""
    server = start_server(model_flags("bfloat16"), ["bfloat16"])
    values = bfloat16_of_bits(np.arange(2**16))
    with grpc.insecure_channel(server.grpc_address, options=LARGE) as channel:
        answer = echo(prediction(channel), "bfloat16", "", tf.make_tensor_proto(values))
    assert answer.dtype == tf.bfloat16.as_datatype_enum
    assert list(answer.half_val) == list(range(2**16))


def test_bfloat16_of_a_float16_graph(stub):
    """As converters make it: exact where float16 can hold the number."""
    values = np.array([0.0, 1.0, -2.5, 240.0], tf.bfloat16.as_numpy_dtype)
    for shape in ((4,), (2, 2)):
        check_echo(stub, "ident", "bf16_r", values.reshape(shape))


def test_answers_in_tensor_content(start_server, tmp_path):
    """`--enable_serialization_as_tensor_content`: the same numbers, packed."""
    flags = [*golden_flags(tmp_path), "--enable_serialization_as_tensor_content=true"]
    server = start_server(flags, GOLDEN_MODELS)
    with grpc.insecure_channel(server.grpc_address) as channel:
        for signature_name, values in VALUES.items():
            sent = tf.make_tensor_proto(values)
            answer = echo(prediction(channel), "ident", f"{signature_name}_r", sent)
            if signature_name == "str":
                lengths = b"".join(varint(len(each)) for each in values)
                assert answer.tensor_content == lengths + b"".join(values)
            else:
                assert answer.tensor_content == values.tobytes(), signature_name
                assert bits(tf.make_ndarray(answer)) == bits(values)
    # REST still works.
    body = server.predict_rest("half_plus_two", '{"instances":[1.0,2.0,5.0]}')
    assert body == (200, b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}')


def varint(value):
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def test_more_than_grpcs_usual_four_megabytes(stub):
    values = np.random.default_rng(0).random(5_000_000, np.float32)
    answer = echo(stub, "ident", "f32", tf.make_tensor_proto(values))
    assert np.float32(answer.float_val).tobytes() == values.tobytes()


def test_expansions_of_one_request_share_a_bound(golden, stub):
    """One value that fills a shape may take 64 MiB, in all of a request's inputs together."""
    fills = tf.make_tensor_proto(np.float32(1.0))
    fills.tensor_shape.dim.add(size=12 * 2**20)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    for index in range(30):
        request.inputs[f"input{index}"].CopyFrom(fills)
    before = memory_peak(golden.process.pid)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        stub.Predict(request, timeout=TIMEOUT)
    # All of them would take 1440 MiB.
    assert memory_peak(golden.process.pid) - before < 128 * 2**20


def memory_peak(pid):
    """The most memory that a process has had, in bytes."""
    with open(f"/proc/{pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.full
def test_half_a_gigabyte_in_one_request_and_one_answer(start_server, tmp_path, record_property):
    server = start_server(golden_flags(tmp_path), GOLDEN_MODELS)
    size = 512 * 2**20
    values = np.arange(size // 4, dtype=np.float32)
    request = predict_request("ident", "f32", x=values)
    message = request.SerializeToString()
    before = memory_peak(server.process.pid)
    with grpc.insecure_channel(server.grpc_address, options=LARGE) as channel:
        started = time.monotonic()
        answer = channel.unary_unary(PREDICT)(message, timeout=300)
        seconds = time.monotonic() - started

    # The packed float_val is the numbers' memory; parsing it would take longer than everything else.
    content = values.tobytes()
    start = answer.find(content[:64])
    assert answer[start : start + size] == content
    grown = memory_peak(server.process.pid) - before
    record_property("seconds", seconds)
    record_property("memory", grown)
    print(f"{seconds:.1f} s, {grown / 2**20:.0f} MiB more at the peak")
    # The request, the output, and the answer, with room for growing buffers.
    assert grown < 5 * size
