"""Aliases that `signature_map.pbtxt` gives, as clients meet them: y = x / 2 + 2 under other names."""

import json
import shutil
import subprocess

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from model_server import BINARY, LIBRARY, PROJECT

MAPS = {
    "renamed": """
        input { alias: "number" tensor: "x" }
        output { alias: "answer" tensor: "y" }
    """,
    "kept": """
        input { alias: "number" tensor: "x" keep: true }
        output { alias: "answer" tensor: "y" keep: true }
    """,
}
X, Y = [1.0, 2.0, 5.0], [2.5, 3.0, 4.5]
MODEL = "half_plus_two"


@pytest.fixture(scope="module")
def servers(start_server, tmp_path_factory):
    """By the name of the map; the one that keeps aliases batches."""
    servers = {}
    for name, entries in MAPS.items():
        folder = tmp_path_factory.mktemp(name) / MODEL
        shutil.copytree(PROJECT / "models" / MODEL, folder)
        (folder / "1" / "signature_map.pbtxt").write_text(f"signature {{ {entries} }}")
        flags = [f"--model_name={MODEL}", f"--model_base_path={folder}"]
        flags += ["--enable_batching"] if name == "kept" else []
        servers[name] = start_server(flags, [MODEL])
        servers[name].folder = folder
    return servers


def rest(server, body):
    status, reply = server.predict_rest(MODEL, json.dumps(body))
    return status, json.loads(reply)


def predict(server, alias, output_filter=()):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = MODEL
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(X))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=60).outputs
    return {alias: tf.make_ndarray(it).tolist() for alias, it in outputs.items()}


def test_new_aliases_replace_the_old_ones(servers):
    server = servers["renamed"]
    assert predict(server, "number") == {"answer": Y}
    assert rest(server, {"instances": X}) == (200, {"predictions": Y})
    assert rest(server, {"instances": [{"number": 5.0}]}) == (200, {"predictions": [4.5]})
    assert rest(server, {"inputs": {"number": X}}) == (200, {"outputs": Y})
    status, error = rest(server, {"instances": [{"x": 5.0}]})
    assert status == 400
    assert "does not have named input: x" in error["error"]
    with pytest.raises(grpc.RpcError) as raised:
        predict(server, "x")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert aliases(server) == (["number"], ["answer"])


@pytest.mark.parametrize("alias", ["x", "number"])
def test_kept_aliases_are_taken_in_every_form(servers, alias):
    server = servers["kept"]
    both = {"answer": Y, "y": Y}
    assert predict(server, alias) == both
    assert predict(server, alias, ["y"]) == {"y": Y}
    assert predict(server, alias, ["answer"]) == {"answer": Y}
    rows = [{"answer": y, "y": y} for y in Y]
    assert rest(server, {"instances": [{alias: x} for x in X]}) == (200, {"predictions": rows})
    assert rest(server, {"inputs": {alias: X}}) == (200, {"outputs": both})
    # It is one input, so a plain list is accepted.
    assert rest(server, {"instances": X}) == (200, {"predictions": rows})
    assert rest(server, {"inputs": X}) == (200, {"outputs": both})
    assert aliases(server) == (["number", "x"], ["answer", "y"])


@pytest.mark.parametrize(
    "body", [{"instances": [{"x": 1.0, "number": 1.0}]}, {"inputs": {"x": X, "number": X}}]
)
def test_two_aliases_of_one_input_are_refused(servers, body):
    status, error = rest(servers["kept"], body)
    assert status == 400
    assert "another alias of it" in error["error"]


def test_rows_may_differ_in_the_alias(servers):
    rows = {"instances": [{"x": 1.0}, {"number": 2.0}], "output_filter": ["y"]}
    assert rest(servers["kept"], rows) == (200, {"predictions": [2.5, 3.0]})


def test_check_says_what_became_of_the_aliases(servers):
    command = [BINARY, "check", "--dir", servers["renamed"].folder / "1"]
    command += ["--onnxruntime_library", LIBRARY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "inputs['x'] is served as inputs['number'] (signature map)" in done.stdout
    assert "outputs['y'] is served as outputs['answer'] (signature map)" in done.stdout


def aliases(server):
    _, _, reply = server.rest("GET", f"/v1/models/{MODEL}/metadata")
    signatures = json.loads(reply)["metadata"]["signature_def"]["signature_def"]
    signature = signatures["serving_default"]
    return sorted(signature["inputs"]), sorted(signature["outputs"])
