"""`ModelService`: states, and new configurations, with the real client.

Texts and states are TensorFlow Serving's, as recorded in `tests/data/golden` (groups `grpc_status`
and `reload_*`).
"""

import time

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from grpc_calls import GOLDEN, TIMEOUT, golden_flags, predict_request, prediction, refused

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
State = get_model_status_pb2.ModelVersionStatus.State
BEGINNING = ("half_plus_two", "half_plus_three", "vers")


@pytest.fixture
def fresh(start_server, tmp_path):
    """A server of its own for each test: these change what it serves."""
    return start_server(golden_flags(tmp_path, "reload"), BEGINNING)


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory):
    return start_server(golden_flags(tmp_path_factory.mktemp("status"), "reload"), BEGINNING)


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def status_request(model, version=None, label=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def states(stub, *args, **kwargs):
    response = stub.GetModelStatus(status_request(*args, **kwargs), timeout=TIMEOUT)
    return [(it.version, State.Name(it.state)) for it in response.model_version_status]


# GetModelStatus.


def test_status_lists_versions_in_descending_order(stub):
    everything = [(3, "AVAILABLE"), (2, "AVAILABLE"), (1, "AVAILABLE")]
    assert states(stub, "vers") == everything
    # Labels are ignored, even unknown ones.
    assert states(stub, "vers", label="stable") == everything
    assert states(stub, "vers", label="nope") == everything


def test_status_of_one_version(stub):
    assert states(stub, "vers", version=2) == [(2, "AVAILABLE")]


def test_status_of_an_available_version_is_ok(stub):
    response = stub.GetModelStatus(status_request("half_plus_two"), timeout=TIMEOUT)
    (only,) = response.model_version_status
    assert only.version == 123
    assert only.HasField("status")
    assert (only.status.error_code, only.status.error_message) == (error_codes_pb2.OK, "")


@pytest.mark.parametrize(
    ("model", "version", "details"),
    [
        ("nope", None, "Could not find any versions of model nope"),
        ("vers", 9, "Could not find version 9 of model vers"),
        ("", None, "Could not find any versions of model "),
    ],
)
def test_status_of_what_there_is_not(stub, model, version, details):
    with refused(NOT_FOUND, details):
        stub.GetModelStatus(status_request(model, version), timeout=TIMEOUT)


def test_status_without_a_model_spec(stub):
    with refused(INVALID, "Missing ModelSpec"):
        stub.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(), timeout=TIMEOUT)


# HandleReloadConfigRequest.


def reload_request(config, metric_names=()):
    request = model_management_pb2.ReloadConfigRequest(metric_names=metric_names)
    text = config.replace("${MODELS}", str(GOLDEN / "models"))
    text_format.Parse(text, request.config)
    return request


def model(name, rest=""):
    path = f"base_path: '${{MODELS}}/{name}'"
    return f"config {{ name: '{name}' {path} model_platform: 'tensorflow' {rest} }}"


def models(*names):
    return f"model_config_list {{ {' '.join(model(name) for name in names)} }}"


def wait_until(condition, seconds=TIMEOUT):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_reload_replaces_the_models(fresh):
    with grpc.insecure_channel(fresh.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        predict = prediction(channel).Predict

        response = stub.HandleReloadConfigRequest(
            reload_request(models("half_plus_two", "mlp")), timeout=TIMEOUT
        )

        assert response.HasField("status")
        assert (response.status.error_code, response.status.error_message) == (0, "")
        # The new model is available when the call returns; models that are no longer listed are
        # unloaded.
        assert states(stub, "mlp") == [(1, "AVAILABLE")]
        kept = predict_request("half_plus_two", x=np.float32([2]))
        assert list(predict(kept, timeout=TIMEOUT).outputs["y"].float_val) == [3.0]
        wait_until(lambda: states(stub, "half_plus_three") == [(123, "END")])
        with refused(NOT_FOUND, "Servable not found for request: Latest(half_plus_three)"):
            predict(predict_request("half_plus_three", x=np.float32([2])), timeout=TIMEOUT)


def test_reload_of_an_empty_list_unloads_everything(fresh):
    with grpc.insecure_channel(fresh.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        stub.HandleReloadConfigRequest(reload_request("model_config_list {}"), timeout=TIMEOUT)
        wait_until(
            lambda: {state for name in BEGINNING for _, state in states(stub, name)} == {"END"}
        )


def test_reload_moves_labels(fresh):
    labels = (
        "model_version_policy { specific { versions: 1 versions: 2 } } "
        "version_labels { key: 'stable' value: 2 }"
    )
    with grpc.insecure_channel(fresh.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = reload_request(f"model_config_list {{ {model('vers', labels)} }}")
        stub.HandleReloadConfigRequest(request, timeout=TIMEOUT)

        request = predict_request("vers", x=np.float32([10]))
        request.model_spec.version_label = "stable"
        response = prediction(channel).Predict(request, timeout=TIMEOUT)
        assert response.model_spec.version.value == 2
        request.model_spec.version_label = "canary"
        with refused(INVALID, "Unrecognized servable version label: canary"):
            prediction(channel).Predict(request, timeout=TIMEOUT)


def test_reload_reports_what_metrics_gained(fresh):
    """Each name once; unknown metrics and histograms count as 0."""
    names = [
        "/tensorflow/serving/request_count",
        "/tensorflow/serving/request_latency",
        "/no/such/metric",
        "/no/such/metric",
    ]
    with grpc.insecure_channel(fresh.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = reload_request(models(*BEGINNING), names)

        response = stub.HandleReloadConfigRequest(request, timeout=TIMEOUT)

    increases = {it.name: it.int64_value_increase for it in response.metric}
    assert len(response.metric) == 3
    assert increases == {name: 0 for name in names}
    assert all(it.HasField("int64_value_increase") for it in response.metric)


ONLY_LISTS = (
    "ServerModelConfig type not supported by HandleReloadConfigRequest. "
    "Only ModelConfigList is currently supported"
)


def test_reload_takes_lists_only(stub):
    with refused(INVALID, ONLY_LISTS):
        stub.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=TIMEOUT)
    custom = model_management_pb2.ReloadConfigRequest(
        config=model_server_config_pb2.ModelServerConfig()
    )
    custom.config.custom_model_config.type_url = "type.googleapis.com/google.protobuf.Empty"
    with refused(INVALID, ONLY_LISTS):
        stub.HandleReloadConfigRequest(custom, timeout=TIMEOUT)


@pytest.mark.parametrize(
    "config",
    [
        models("vers", "vers"),
        "model_config_list { config { name: 'x' base_path: 'x' model_platform: 'tensorflow' } }",
        "model_config_list { config { name: 'x' model_platform: 'tensorflow' } }",
    ],
    ids=["a name twice", "a relative path", "no path"],
)
def test_refused_reload_changes_nothing(stub, config):
    with refused(INVALID):
        stub.HandleReloadConfigRequest(reload_request(config), timeout=TIMEOUT)
    assert states(stub, "vers") == [(3, "AVAILABLE"), (2, "AVAILABLE"), (1, "AVAILABLE")]
    assert states(stub, "half_plus_two") == [(123, "AVAILABLE")]
