"""A classifier of several targets, as scikit-learn's `MultiOutputClassifier` is exported: the graph returns
the classes of all targets, and a sequence with the probabilities for each target."""

import concurrent.futures
import json

import grpc
import numpy as np
import pytest

import onnx_models
from grpc_calls import TIMEOUT, predict_request, prediction

ROWS = 2
FEATURES = 3
# Two requests are a batch; one alone would wait for an hour.
BATCHES_OF_TWO = """
max_batch_size { value: 4 }
batch_timeout_micros { value: 3600000000 }
num_batch_threads { value: 1 }
"""
STACKED = "signature { output { alias: 'all' tensor: 'probabilities' stack_axis: %d } }"


def classifier(classes):
    """x: float[?, 3]; one softmax of a product for each target, in a sequence."""
    weights = [target_weights(target, count) for target, count in enumerate(classes)]
    nodes = []
    for target in range(len(classes)):
        nodes += [
            ("MatMul", ["x", f"w{target}"], f"scores{target}"),
            ("Softmax", [f"scores{target}"], f"softmax{target}", {"axis": 1}),
            ("ArgMax", [f"softmax{target}"], f"class{target}", {"axis": 1, "keepdims": 1}),
        ]
    targets = range(len(classes))
    nodes.append(("SequenceConstruct", [f"softmax{it}" for it in targets], "probabilities"))
    nodes.append(("Concat", [f"class{it}" for it in targets], "label", {"axis": 1}))
    content = onnx_models.model(
        nodes,
        {f"w{target}": weight for target, weight in enumerate(weights)},
        inputs={"x": (onnx_models.FLOAT, "n", "features")},
        outputs={"label": (7, "n", "targets")},
    )
    model = onnx_models.messages()["onnx.ModelProto"].FromString(content)
    output = model.graph.output.add(name="probabilities")
    output.type.sequence_type.elem_type.tensor_type.elem_type = onnx_models.FLOAT
    return model.SerializeToString()


def target_weights(target, classes):
    return np.random.default_rng(target).standard_normal((FEATURES, classes), np.float32)


def expected(x, classes):
    """The probabilities for each target."""
    result = []
    for target, count in enumerate(classes):
        powers = np.exp(x @ target_weights(target, count))
        result.append(powers / powers.sum(axis=1, keepdims=True))
    return result


def some_rows(seed):
    return np.random.default_rng(seed).standard_normal((ROWS, FEATURES), np.float32)


MODELS = {"same": (2, 2), "different": (2, 4)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, classes in MODELS.items():
        onnx_models.publish(folder / name, 1, classifier(classes))
    for axis in (0, 1):
        maps = {"signature_map.pbtxt": (STACKED % axis).encode()}
        content = classifier(MODELS["same"])
        onnx_models.publish(folder / f"stacked{axis}", 1, content, beside=maps)
    return folder


NAMES = [*MODELS, "stacked0", "stacked1"]


@pytest.fixture(scope="module", params=["alone", "batching"])
def served(request, folder, start_server, tmp_path_factory):
    config = tmp_path_factory.mktemp("config")
    configs = "".join(
        f"config {{ name: '{name}' base_path: '{folder / name}' model_platform: 'onnx' }}\n"
        for name in NAMES
    )
    (config / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    (config / "batching").write_text(BATCHES_OF_TWO)
    flags = [f"--model_config_file={config / 'models.config'}"]
    if request.param == "batching":
        flags += ["--adaptive_batching=false", "--synthesize_warmup=false"]
        flags += ["--enable_batching", f"--batching_parameters_file={config / 'batching'}"]
    return start_server(flags, NAMES)


@pytest.fixture(scope="module")
def stub(served):
    with grpc.insecure_channel(served.grpc_address) as channel:
        yield prediction(channel)


def ask_together(ask):
    """What two clients get that ask at a time, with rows of their own each."""
    rows = [some_rows(1), some_rows(2)]
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        return list(zip(rows, threads.map(ask, rows)))


def arrays(response):
    return {
        alias: np.frombuffer(proto.tensor_content, np.float32).reshape(
            [dim.size for dim in proto.tensor_shape.dim]
        )
        if proto.tensor_content
        else np.array(proto.float_val, np.float32).reshape(
            [dim.size for dim in proto.tensor_shape.dim]
        )
        for alias, proto in response.outputs.items()
        if alias != "label"
    }


@pytest.mark.parametrize("name", MODELS)
def test_each_client_gets_its_own_probabilities(stub, name):
    def ask(x):
        return arrays(stub.Predict(predict_request(name, x=x), timeout=TIMEOUT))

    for x, answered in ask_together(ask):
        probabilities = expected(x, MODELS[name])
        assert answered.keys() == {f"probabilities_{it}" for it in range(len(probabilities))}
        for target, wanted in enumerate(probabilities):
            np.testing.assert_allclose(answered[f"probabilities_{target}"], wanted, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_each_row_gets_its_own_probabilities(served, name):
    def ask(x):
        body = json.dumps({"instances": x.tolist()})
        status, reply = served.predict_rest(name, body)
        assert status == 200, reply
        return json.loads(reply)["predictions"]

    for x, predictions in ask_together(ask):
        probabilities = expected(x, MODELS[name])
        assert len(predictions) == ROWS
        for row, prediction in enumerate(predictions):
            for target, wanted in enumerate(probabilities):
                answered = prediction[f"probabilities_{target}"]
                np.testing.assert_allclose(answered, wanted[row], rtol=1e-5)


def test_metadata_has_an_output_for_each_target(served):
    status, _, reply = served.rest("GET", "/v1/models/different/metadata")
    assert status == 200
    signatures = json.loads(reply)["metadata"]["signature_def"]["signature_def"]
    outputs = signatures["serving_default"]["outputs"]
    shapes = {
        alias: [int(dim["size"]) for dim in info["tensor_shape"]["dim"]]
        for alias, info in outputs.items()
        if alias != "label"
    }
    assert shapes == {"probabilities_0": [-1, 2], "probabilities_1": [-1, 4]}


@pytest.mark.parametrize("axis", [0, 1])
def test_map_has_them_stacked(stub, axis):
    def ask(x):
        return arrays(stub.Predict(predict_request(f"stacked{axis}", x=x), timeout=TIMEOUT))

    for x, answered in ask_together(ask):
        wanted = np.stack(expected(x, MODELS["same"]), axis)
        np.testing.assert_allclose(answered["all"], wanted, rtol=1e-5)
