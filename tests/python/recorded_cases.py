"""Cases that were recorded from TensorFlow: reads `cases.json`, plays a case over gRPC and REST, compares.

Not here: which models are served (the tests).
"""

import base64
import json
import math

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

TIMEOUT = 60
DEFAULT_SIGNATURE = "serving_default"
# Non-finite numbers in the recorded JSON documents.
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Different(Exception):
    """An answer differs from the recorded one."""


def read_cases(path):
    """The cases of a `cases.json`, each with its tolerance."""
    recorded = json.loads(path.read_text())
    for case in recorded["cases"]:
        case.setdefault("tolerance", recorded["tolerance"])
    return recorded["cases"]


def signature_of(case):
    return case["signature_name"] or DEFAULT_SIGNATURE


def play(server, model, case):
    """Plays a case over both protocols; the first difference, or None."""
    try:
        play_grpc(server, model, case)
        play_rest(server, case)
    except Different as difference:
        return str(difference)
    return None


def play_grpc(server, model, case):
    request, method, answer_of = grpc_call(model, case)
    if request is None:
        return
    expect = case["expect"]
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            response = getattr(stub, method)(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            check_grpc_error(error, expect)
            return
    if expect["status"] != 200:
        raise Different(f"gRPC: answered, and TensorFlow refuses: {recorded_error(expect)}")
    expected = expect.get("outputs")
    if expected is None:
        return
    answer = answer_of(response)
    if method == "Predict" and set(answer) != set(expected):
        raise Different(f"gRPC: outputs {sorted(answer)}, not {sorted(expected)}")
    for alias, tensor in expected.items():
        if alias in answer:
            flat = method != "Predict"
            check_tensor(f"gRPC: {alias}", answer[alias], array(tensor), case["tolerance"], flat)


def grpc_call(model, case):
    """The request of a case, its method, and a function that takes the tensors out of a response."""
    if case["verb"] == "predict":
        if case.get("inputs") is None:
            return None, None, None
        request = predict_pb2.PredictRequest()
        for alias, tensor in case["inputs"].items():
            request.inputs[alias].CopyFrom(tensor_proto(tensor))
        method, answer_of = "Predict", predict_answer
    else:
        if case.get("examples_b64") is None:
            return None, None, None
        request, method, answer_of = {
            "classify": (classification_pb2.ClassificationRequest(), "Classify", classes),
            "regress": (regression_pb2.RegressionRequest(), "Regress", regressions),
        }[case["verb"]]
        for example in case["examples_b64"]:
            request.input.example_list.examples.add().ParseFromString(base64.b64decode(example))
    request.model_spec.name = model
    request.model_spec.version.value = int(case["version"])
    request.model_spec.signature_name = case["signature_name"]
    return request, method, answer_of


def predict_answer(response):
    return {alias: tf.make_ndarray(tensor) for alias, tensor in response.outputs.items()}


def classes(response):
    rows = [each for row in response.result.classifications for each in row.classes]
    return {
        "classes": np.array([each.label.encode() for each in rows], dtype=object),
        "scores": np.array([each.score for each in rows], dtype=np.float32),
    }


def regressions(response):
    values = [each.value for each in response.result.regressions]
    return {"outputs": np.array(values, dtype=np.float32)}


def check_grpc_error(error, expect):
    code = error.code().name
    if code == "UNAVAILABLE":
        raise Different(f"gRPC: the server is gone: {error.details()}")
    if expect["status"] == 200:
        raise Different(f"gRPC: {code}: {error.details()}")
    if not expect.get("kernel_specific") and code != expect["grpc_code"]:
        raise Different(f"gRPC: {code}, not {expect['grpc_code']}: {error.details()}")


def play_rest(server, case):
    rest = case["rest"]
    if not rest:
        return
    expect = case["expect"]
    body = rest.get("body_text") or json.dumps(rest["body"])
    try:
        status, _, reply = server.rest("POST", rest["path"], body)
    except OSError as error:
        raise Different(f"REST: the server is gone: {error}") from error
    expected = expect.get("rest_status", expect["status"])
    if expected != 200 and status != 200 and expect.get("kernel_specific"):
        return
    if status != expected:
        text = reply.decode(errors="replace")[:500]
        raise Different(f"REST: status {status}, not {expected}: {text}")
    if status == 200 and "rest" in expect:
        check_json("REST", json.loads(reply), expect["rest"], case["tolerance"])


def recorded_error(expect):
    return expect.get("message") or expect.get("tf_error") or expect.get("grpc_code")


def array(tensor):
    """An array from a tensor as `cases.json` writes it."""
    if "strings_b64" in tensor:
        strings = [base64.b64decode(each) for each in tensor["strings_b64"]]
        return np.array(strings, dtype=object).reshape(tensor["shape"])
    name = tensor["dtype"].removeprefix("DT_").lower()
    dtype = tf.dtypes.as_dtype(name).as_numpy_dtype
    return np.frombuffer(base64.b64decode(tensor["b64"]), dtype).reshape(tensor["shape"])


def tensor_proto(tensor):
    proto = tf.make_tensor_proto(0.0)
    proto.Clear()
    name = tensor["dtype"].removeprefix("DT_").lower()
    proto.dtype = tf.dtypes.as_dtype(name).as_datatype_enum
    proto.tensor_shape.SetInParent()
    for size in tensor["shape"]:
        proto.tensor_shape.dim.add(size=size)
    if "strings_b64" in tensor:
        proto.string_val.extend(base64.b64decode(each) for each in tensor["strings_b64"])
    else:
        proto.tensor_content = base64.b64decode(tensor["b64"])
    return proto


def check_tensor(where, actual, expected, tolerance, flat=False):
    if flat:
        actual, expected = actual.reshape(-1), expected.reshape(-1)
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise Different(
            f"{where}: {actual.dtype}{list(actual.shape)}, not {expected.dtype}{list(expected.shape)}"
        )
    if expected.dtype == object or expected.dtype.kind in "iub":
        same = np.array_equal(actual, expected)
    else:
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64
        same = np.allclose(
            actual.astype(wide),
            expected.astype(wide),
            atol=tolerance["abs"],
            rtol=tolerance["rel"],
            equal_nan=True,
        )
    if not same:
        raise Different(f"{where}: {actual.ravel()[:12]}, not {expected.ravel()[:12]}")


def check_json(where, actual, expected, tolerance):
    if isinstance(expected, str) and isinstance(actual, float):
        expected = NON_FINITE.get(expected, expected)
    if is_number(actual) and is_number(expected):
        is_integer = isinstance(actual, int) and isinstance(expected, int)
        both_nan = actual != actual and expected != expected
        margin = tolerance["abs"] + tolerance["rel"] * abs(expected)
        # Documents can have more digits than a float needs.
        same_float = np.float32(actual) == np.float32(expected)
        close = same_float or both_nan or abs(actual - expected) <= margin
        if actual == expected or (close and not is_integer):
            return
    elif isinstance(actual, dict) and isinstance(expected, dict) and set(actual) == set(expected):
        for key, value in expected.items():
            check_json(f"{where}.{key}", actual[key], value, tolerance)
        return
    elif isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        for index, value in enumerate(expected):
            check_json(f"{where}[{index}]", actual[index], value, tolerance)
        return
    elif type(actual) is type(expected) and actual == expected:
        return
    raise Different(f"{where}: {str(actual)[:200]}, not {str(expected)[:200]}")


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)
