"""What the gRPC tests share: the models they ask, tensors, and refusals.

The models `half_plus_two`, `half_plus_three`, `ident`, `multi`, `ex`, `vers` and `mlp` are those on
which TensorFlow Serving's answers were recorded (`tests/data/golden`), so that the expected values
and texts in these tests are the original's.
"""

import contextlib
import json
import os
import pathlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from model_server import PROJECT

TIMEOUT = 30
# The longest wait for a load, which leaves the CPUs to other threads.
LOAD_TIMEOUT = 120
GOLDEN = PROJECT / "tests" / "data" / "golden"
GOLDEN_MODELS = (
    "half_plus_two",
    "half_plus_two_tf2",
    "half_plus_three",
    "ident",
    "multi",
    "ex",
    "mlp",
    "vers",
)
GRPC_MODELS = PROJECT / "tests" / "data" / "grpc"

# Steps of `slow`: minutes' worth.
ENDLESS = 10_000_000


def golden_flags(folder, setup="main"):
    """The flags of the server that was recorded; its configuration files go to `folder`."""
    setup = json.loads((GOLDEN / "setups.json").read_text())[setup]
    flags = list(setup["flags"])
    for name, content in setup["files"].items():
        path = folder / name
        path.write_text(content.replace("${MODELS}", str(GOLDEN / "models")))
        flags = [flag.replace(f"${{FILE:{name}}}", str(path)) for flag in flags]
    return flags


def model_flags(name):
    """Flags that serve a model of `tests/data/grpc`."""
    return [f"--model_name={name}", f"--model_base_path={GRPC_MODELS / name}"]


def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict_request(model, signature_name="", **inputs):
    """A request whose inputs are encoded by TensorFlow's own `make_tensor_proto`."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature_name
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def slow_request(steps):
    """Counts to `steps`."""
    return predict_request("slow", steps=np.int64(steps))


def example(**features):
    """A `tf.train.Example`; a feature's kind is that of its first value."""
    result = tf.train.Example()
    for key, values in features.items():
        feature = result.features.feature[key]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return result


@contextlib.contextmanager
def refused(code, details=None, starts=None, contains=None):
    """Expects the block to end in an RPC error of this code and text."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    error = caught.value
    assert error.code() == code, error.details()
    if details is not None:
        assert error.details() == details
    if starts is not None:
        assert error.details().startswith(starts), error.details()
    if contains is not None:
        assert contains in error.details(), error.details()


def cpu_seconds(pid):
    """The processor time that a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
