"""A program that users of TensorFlow Serving have, unchanged, against this server.

It uses the real `tensorflow-serving-api` and `grpcio`, `make_tensor_proto` and `make_ndarray`
included. Expected values: y = x / 2 + 2, and TensorFlow's own answers where `shared` has them.
"""

import base64
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

TIMEOUT = 30
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


@pytest.fixture(scope="module")
def predict(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


@pytest.fixture(scope="module")
def model_status(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus


def request_for(model, signature_name="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature_name
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value, dtype=tf.float32))
    return request


def test_half_plus_two_from_float_val(predict):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=3)
    request.inputs["x"].float_val.extend([1.0, 2.0, 5.0])

    response = predict(request, timeout=TIMEOUT)

    assert list(response.outputs) == ["y"]
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert response.outputs["y"].tensor_content == b""
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 4.5]


def test_half_plus_two_from_tensor_content(predict):
    request = request_for("half_plus_two", x=np.float32([1.0, 2.0, 5.0]))
    assert request.inputs["x"].tensor_content, "this is what the test is about"

    response = predict(request, timeout=TIMEOUT)

    assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 4.5]


def test_half_plus_two_from_one_value_that_fills_the_tensor(predict):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(2.0, shape=[2, 3]))
    assert len(request.inputs["x"].float_val) == 1, "this is what the test is about"

    response = predict(request, timeout=TIMEOUT)

    y = tf.make_ndarray(response.outputs["y"])
    assert y.tolist() == [[3.0, 3.0, 3.0], [3.0, 3.0, 3.0]]


def test_scalar_keeps_its_empty_shape(predict):
    response = predict(request_for("half_plus_two", x=2.0), timeout=TIMEOUT)

    y = response.outputs["y"]
    assert y.HasField("tensor_shape") and not y.tensor_shape.dim
    assert list(y.float_val) == [3.0]


def test_response_says_what_was_asked(predict):
    response = predict(request_for("half_plus_two", x=[2.0]), timeout=TIMEOUT)

    assert response.model_spec.name == "half_plus_two"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_specific_version_is_served(predict):
    request = request_for("mnist", input_image=np.zeros((1, 28, 28, 1)))
    request.model_spec.version.value = 2
    assert predict(request, timeout=TIMEOUT).model_spec.version.value == 2


def test_output_filter_names_an_output(predict):
    request = request_for("half_plus_two", x=[2.0])
    request.output_filter.append("y")
    assert list(predict(request, timeout=TIMEOUT).outputs) == ["y"]


def test_mnist_gives_a_probability_per_digit(predict):
    images = np.zeros((3, 28, 28, 1))
    response = predict(request_for("mnist", "serving_default", input_image=images), timeout=TIMEOUT)

    y_pred = tf.make_ndarray(response.outputs["y_pred"])
    assert y_pred.shape == (3, 10)
    np.testing.assert_allclose(y_pred.sum(axis=1), 1, rtol=1e-5)


def test_siamese_finds_a_picture_equal_to_itself(predict):
    picture = np.random.default_rng(0).random((2, 64, 32, 3))
    request = request_for("siamese", "signature-reid", img1=picture, img2=picture)

    response = predict(request, timeout=TIMEOUT)

    # A distance of zero through a sigmoid, by the model's construction.
    assert tf.make_ndarray(response.outputs["predict"]).tolist() == [[0.5], [0.5]]


def test_saved_model_answers_without_conversion(predict):
    response = predict(request_for("xor", x=[[0, 0], [0, 1], [1, 0], [1, 1]]), timeout=TIMEOUT)

    assert tf.make_ndarray(response.outputs["y"]).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("model", ["half_plus_two", "mnist", "siamese"])
def test_recorded_cases_of_the_zoo(predict, shared, model):
    """Every good case of the served version, against what TensorFlow answered."""
    recorded = json.loads((shared / "zoo" / model / "cases.json").read_text())
    tolerance = recorded["tolerance"]
    played = 0
    for case in recorded["cases"]:
        if not plays_here(model, case):
            continue
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = case["signature_name"]
        for alias, tensor in case["inputs"].items():
            request.inputs[alias].CopyFrom(tf.make_tensor_proto(array(tensor)))

        response = predict(request, timeout=TIMEOUT)

        assert set(response.outputs) == set(case["expect"]["outputs"]), case["name"]
        for alias, tensor in case["expect"]["outputs"].items():
            np.testing.assert_allclose(
                tf.make_ndarray(response.outputs[alias]),
                array(tensor),
                atol=tolerance["abs"],
                rtol=tolerance["rel"],
                err_msg=case["name"],
            )
        played += 1
    assert played > 0


def plays_here(model, case):
    """Whether the model as it lies in this repository has an answer to the case."""
    if case["verb"] != "predict" or "outputs" not in case["expect"]:
        return False
    if model == "half_plus_two":
        # The model in the zoo has more signatures, and its second version adds 3.
        return case["version"] == "1" and case["signature_name"] in ("", "serving_default")
    return case["version"] == {"mnist": "2", "siamese": "1"}[model]


def array(tensor):
    """An array from a tensor as the zoo writes it."""
    dtype = tf.dtypes.as_dtype(tensor["dtype"].removeprefix("DT_").lower()).as_numpy_dtype
    return np.frombuffer(base64.b64decode(tensor["b64"]), dtype).reshape(tensor["shape"])


@pytest.mark.parametrize(
    ("model", "version"), [("half_plus_two", 1), ("mnist", 2), ("siamese", 1)]
)
def test_model_status_is_available(model_status, model, version):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model

    statuses = model_status(request, timeout=TIMEOUT).model_version_status

    assert [(each.version, each.state) for each in statuses] == [(version, AVAILABLE)]
    assert statuses[0].status.error_code == 0
    assert statuses[0].status.error_message == ""


# Texts: TensorFlow Serving's (get_model_status_impl.cc, server_core.cc, predict_util.cc).
def test_model_status_of_an_unknown_model(model_status):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "nope"
    check_refused(
        lambda: model_status(request, timeout=TIMEOUT),
        grpc.StatusCode.NOT_FOUND,
        "Could not find any versions of model nope",
    )


def test_predict_refuses_an_unknown_model(predict):
    check_refused(
        lambda: predict(request_for("nope", x=[1.0]), timeout=TIMEOUT),
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(nope)",
    )


def test_predict_refuses_an_unknown_version(predict):
    request = request_for("half_plus_two", x=[1.0])
    request.model_spec.version.value = 9
    check_refused(
        lambda: predict(request, timeout=TIMEOUT),
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(half_plus_two, 9)",
    )


def test_predict_refuses_an_unknown_signature(predict):
    check_refused(
        lambda: predict(request_for("half_plus_two", "nope", x=[1.0]), timeout=TIMEOUT),
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nope" not found.',
    )


def test_predict_refuses_a_missing_input(predict):
    check_refused(
        lambda: predict(request_for("half_plus_two"), timeout=TIMEOUT),
        grpc.StatusCode.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. "
        "Missing but required: {x}.",
    )


def check_refused(call, code, details):
    """The only place that knows how a refusal reaches the client."""
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert refusal.value.code() == code
    assert refusal.value.details() == details
