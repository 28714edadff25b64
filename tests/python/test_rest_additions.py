"""What the REST port answers beyond TensorFlow Serving's API, asked by a client's own libraries."""

import gzip
import json

import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from model_server import CALL_SECONDS, PROJECT

PREDICT = "/v1/models/half_plus_two:predict"
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def generous(start_server):
    """A server with every addition turned on."""
    return start_server(
        [
            "--model_name=half_plus_two",
            f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
            "--enable_model_listing",
            "--rest_api_enable_response_compression",
            "--rest_api_response_compression_min_bytes=200",
        ],
        ["half_plus_two"],
    )


def test_predict_with_protobuf(server):
    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0]))

    status, headers, body = server.rest("POST", PREDICT, request.SerializeToString(), PROTOBUF)

    assert (status, headers["Content-Type"]) == (200, "application/x-protobuf")
    response = predict_pb2.PredictResponse.FromString(body)
    assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 4.5]
    assert response.model_spec.version.value == 1


def test_a_failed_predict_with_protobuf_is_json(server):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnist"

    status, headers, body = server.rest("POST", PREDICT, request.SerializeToString(), PROTOBUF)

    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert "mnist" in json.loads(body)["error"]


def test_the_list_of_models(generous):
    status, _, body = generous.rest("GET", "/v1/models")
    assert status == 200
    ok = {"error_code": "OK", "error_message": ""}
    version = {"version": "1", "state": "AVAILABLE", "status": ok}
    assert json.loads(body) == {"models": [{"name": "half_plus_two", "versions": [version]}]}


def test_answers_of_some_size_are_gzipped(generous):
    body = json.dumps({"instances": [1.0] * 1000})
    _, headers, plain = generous.rest("POST", PREDICT, body)
    assert "Content-Encoding" not in headers

    _, headers, gzipped = generous.rest("POST", PREDICT, body, {"Accept-Encoding": "br, gzip"})

    assert headers["Content-Encoding"] == "gzip"
    assert headers["Vary"] == "Accept-Encoding"
    assert len(gzipped) < len(plain) / 2
    assert gzip.decompress(gzipped) == plain
    # A client's library does all this automatically.
    reply = requests.post(generous.rest_url + PREDICT, data=body, timeout=CALL_SECONDS)
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.json() == {"predictions": [2.5] * 1000}


def test_gzip_is_not_forced_on_a_client(generous):
    body = json.dumps({"instances": [1.0] * 1000})
    headers = {"Accept-Encoding": "gzip;q=0"}
    assert "Content-Encoding" not in generous.rest("POST", PREDICT, body, headers)[1]
    small = generous.rest("POST", PREDICT, '{"instances":[1.0]}', {"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small[1]
