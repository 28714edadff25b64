"""Graph inputs that have a value in the file: clients may send them, and need not."""

import concurrent.futures
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf

import onnx_models
from grpc_calls import TIMEOUT, predict_request, prediction

# Two requests are a batch; one alone would wait for an hour.
BATCHES_OF_TWO = """
max_batch_size { value: 4 }
batch_timeout_micros { value: 3600000000 }
num_batch_threads { value: 1 }
"""
MAP = b"signature { input { alias: 'limit' tensor: 'threshold' } input { alias: 'x' } }"


def above():
    """y = x > threshold, 0.5 by default."""
    content = onnx_models.model(
        [("Greater", ["x", "threshold"], "y")],
        {"threshold": np.float32([0.5])},
        inputs={"x": (onnx_models.FLOAT, "n"), "threshold": (onnx_models.FLOAT, "one")},
        outputs={"y": (9, "n")},
    )
    model = onnx_models.messages()["onnx.ModelProto"].FromString(content)
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    return model.SerializeToString()


@pytest.fixture(scope="module", params=["alone", "batching"])
def served(request, start_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    onnx_models.publish(folder / "plain", 1, above())
    onnx_models.publish(folder / "mapped", 1, above(), beside={"signature_map.pbtxt": MAP})
    configs = "".join(
        f"config {{ name: '{name}' base_path: '{folder / name}' model_platform: 'onnx' }}\n"
        for name in ("plain", "mapped")
    )
    (folder / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    (folder / "batching").write_text(BATCHES_OF_TWO)
    flags = [f"--model_config_file={folder / 'models.config'}"]
    if request.param == "batching":
        flags += ["--adaptive_batching=false", "--synthesize_warmup=false"]
        flags += ["--enable_batching", f"--batching_parameters_file={folder / 'batching'}"]
    return start_server(flags, ["plain", "mapped"])


ALIASES = {"plain": "threshold", "mapped": "limit"}
X = np.float32([0.2, 0.7])


def twice(ask):
    """What two clients get who ask at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda _: ask(), range(2)))


@pytest.mark.parametrize("name", ALIASES)
def test_grpc_client_may_leave_it_out_or_send_it(served, name):
    with grpc.insecure_channel(served.grpc_address) as channel:
        stub = prediction(channel)

        def ask(**inputs):
            response = stub.Predict(predict_request(name, x=X, **inputs), timeout=TIMEOUT)
            return tf.make_ndarray(response.outputs["y"]).tolist()

        assert twice(ask) == [[False, True]] * 2
        # The input has no rows, so such requests have runs of their own.
        assert ask(**{ALIASES[name]: np.float32([0.1])}) == [True, True]
        assert ask(**{ALIASES[name]: np.float32([0.9])}) == [False, False]
        assert twice(ask) == [[False, True]] * 2


@pytest.mark.parametrize("name", ALIASES)
def test_rest_client_may_leave_it_out_or_send_it(served, name):
    def ask(body):
        status, reply = served.predict_rest(name, json.dumps(body))
        assert status == 200, reply
        return json.loads(reply)

    x = X.tolist()
    rows = [{"x": it} for it in x]
    for body, answer in (
        ({"inputs": {"x": x}}, {"outputs": [False, True]}),
        ({"inputs": x}, {"outputs": [False, True]}),
        ({"instances": x}, {"predictions": [False, True]}),
        ({"instances": rows}, {"predictions": [False, True]}),
    ):
        assert twice(lambda: ask(body)) == [answer] * 2
    sent = {"inputs": {"x": x, ALIASES[name]: [0.1]}}
    assert ask(sent) == {"outputs": [True, True]}
    # One for each row.
    rows = [{"x": it, ALIASES[name]: 1 - it} for it in x]
    assert ask({"instances": rows}) == {"predictions": [False, True]}
    status, reply = served.predict_rest(name, json.dumps({"instances": [rows[0], {"x": 1.0}]}))
    assert status == 400, reply


@pytest.mark.parametrize("name", ALIASES)
def test_metadata_shows_the_default(served, name):
    status, _, reply = served.rest("GET", f"/v1/models/{name}/metadata")
    assert status == 200
    signatures = json.loads(reply)["metadata"]["signature_def"]["signature_def"]
    signature = signatures["serving_default"]
    assert set(signature["inputs"]) == {"x", ALIASES[name]}
    assert signature["defaults"][ALIASES[name]]["float_val"] == [0.5]


def test_only_what_has_a_default_may_be_left_out(served):
    status, reply = served.predict_rest("plain", json.dumps({"inputs": {"threshold": [0.5]}}))
    assert (status, json.loads(reply)["error"]) == (
        400,
        "Missing named input: x in 'inputs' object.",
    )
