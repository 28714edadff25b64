"""All 10,000 MNIST test images: every answer has to be the digit that TensorFlow gave.

The images and TensorFlow's answers lie outside the repository; without them the tests are skipped.
"""

import gzip
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

IMAGES = 10_000
PER_REST_REQUEST = 1_000
TIMEOUT = 300

# A pixel as JSON, by its value: there are only 256 values, but millions of pixels.
PIXEL_AS_JSON = [json.dumps([value / 255]) for value in range(256)]


@pytest.fixture(scope="module")
def data(shared):
    folder = shared / "zoo" / "mnist" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="module")
def pixels(data):
    """The images as they come, `uint8[10000, 28, 28, 1]`."""
    content = gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(IMAGES, 28, 28, 1)


@pytest.fixture(scope="module")
def first_version(shared, start_server, tmp_path_factory):
    """A server of the zoo's first version, read in place."""
    version = shared / "zoo" / "mnist" / "1"
    if not version.is_dir():
        pytest.skip(f"{version} is not there")
    base_path = tmp_path_factory.mktemp("mnist")
    (base_path / "1").symlink_to(version)
    return start_server(["--model_name=mnist", f"--model_base_path={base_path}"], ["mnist"])


def test_one_grpc_request(server, pixels, data):
    check_answers(predict_grpc(server, pixels), data / "test_argmax_v2.txt")


def test_rest_rows_by_the_thousand(server, pixels, data):
    check_answers(predict_rest(server, pixels), data / "test_argmax_v2.txt")


def test_one_grpc_request_to_the_first_version(first_version, pixels, data):
    check_answers(predict_grpc(first_version, pixels), data / "test_argmax_v1.txt")


def test_rest_rows_by_the_thousand_to_the_first_version(first_version, pixels, data):
    check_answers(predict_rest(first_version, pixels), data / "test_argmax_v1.txt")


def predict_grpc(server, pixels):
    """One request with all images: a row of ten probabilities for each."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mnist"
    images = pixels.astype(np.float32) / 255
    request.inputs["input_image"].CopyFrom(tf.make_tensor_proto(images))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=TIMEOUT)
    return tf.make_ndarray(response.outputs["y_pred"])


def predict_rest(server, pixels):
    """As many requests as it takes, in row format: a row of ten probabilities for each image."""
    rows = []
    for start in range(0, len(pixels), PER_REST_REQUEST):
        images = pixels[start : start + PER_REST_REQUEST, :, :, 0].tolist()
        body = '{"instances":[' + ",".join(map(image_as_json, images)) + "]}"
        status, reply = server.predict_rest("mnist", body)
        assert status == 200, reply[:1000]
        rows.extend(json.loads(reply)["predictions"])
    return np.array(rows)


def image_as_json(image):
    rows = (",".join(PIXEL_AS_JSON[pixel] for pixel in row) for row in image)
    return "[" + ",".join(f"[{row}]" for row in rows) + "]"


def check_answers(probabilities, expected_path):
    expected = np.array([int(digit) for digit in expected_path.read_text().strip()])
    assert expected.shape == (IMAGES,)
    assert probabilities.shape == (IMAGES, 10)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != expected)
    assert wrong.size == 0, f"{wrong.size} images differ, the first is {wrong[:10].tolist()}"
