"""Answers which digit a picture shows: takes a base64 image over HTTP, asks the server over gRPC.

    POST /predict {"image": "<base64 of a PNG or JPEG>"}
    200 {"digit": 7, "probabilities": [0.0, …]}

The digit is expected white on black, as MNIST's. `MODEL_SERVER` is the server's gRPC address.
"""

import array
import base64
import binascii
import io
import os
import sys

import flask
import grpc
from PIL import Image
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

MODEL = "mnist"
SIDE = 28
MAX_BODY_BYTES = 1 << 20
MAX_PIXELS = 1 << 22
TIMEOUT_SECONDS = 10


def create_app():
    """The application that a WSGI server runs."""
    app = flask.Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    # One channel for the process; it reconnects by itself.
    channel = grpc.insecure_channel(os.environ.get("MODEL_SERVER", "localhost:8500"))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    @app.post("/predict")
    def predict():
        body = flask.request.get_json(silent=True)
        try:
            pixels = read_image(body)
        except ValueError as error:
            return {"error": str(error)}, 400
        try:
            response = stub.Predict(request_for(pixels), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            app.logger.error("%s: %s", error.code(), error.details())
            return {"error": f"the model server answered {error.code().name}"}, 502
        probabilities = list(response.outputs["y_pred"].float_val)
        digit = max(range(len(probabilities)), key=probabilities.__getitem__)
        return {"digit": digit, "probabilities": probabilities}

    return app


def read_image(body):
    """The picture as one byte for each of its 28 × 28 pixels; ValueError says what is wrong."""
    if not isinstance(body, dict) or not isinstance(body.get("image"), str):
        raise ValueError('the body has to be {"image": "<base64>"}')
    try:
        content = base64.b64decode(body["image"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"image: {error}") from error
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"image: more than {MAX_PIXELS} pixels")
            return image.convert("L").resize((SIDE, SIDE)).tobytes()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("image: neither a PNG nor a JPEG") from error


def request_for(pixels):
    """A PredictRequest with one picture, `float[1, 28, 28, 1]` from 0 to 1."""
    values = array.array("f", (pixel / 255 for pixel in pixels))
    if sys.byteorder == "big":
        values.byteswap()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    tensor = request.inputs["input_image"]
    tensor.dtype = types_pb2.DT_FLOAT
    for size in (1, SIDE, SIDE, 1):
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = values.tobytes()
    return request
