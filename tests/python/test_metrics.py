"""The two metrics pages, read by the parser of Prometheus's own client library."""

import json
import re

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from grpc_calls import predict_request, prediction
from model_server import PROJECT

MODEL = PROJECT / "models" / "half_plus_two"
DASHBOARDS = sorted((PROJECT / "deploy" / "grafana").glob("*.json"))
TENSORFLOW_PATH = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def busy_server(start_server, tmp_path_factory):
    """A server that has answered requests by both protocols, one of them with an error."""
    monitoring = tmp_path_factory.mktemp("monitoring") / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    server = start_server(
        [
            "--model_name=half_plus_two",
            f"--model_base_path={MODEL}",
            f"--monitoring_config_file={monitoring}",
        ],
        ["half_plus_two"],
    )
    assert server.predict_rest("half_plus_two", '{"instances": [1.0, 2.0]}')[0] == 200
    assert server.predict_rest("nope", '{"instances": [1.0]}')[0] == 404
    with grpc.insecure_channel(server.grpc_address) as channel:
        prediction(channel).Predict(predict_request("half_plus_two", x=[1.0, 2.0]), timeout=30)
    return server


def families(server, path):
    status, _, page = server.rest("GET", path)
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def value(families, family, sample, **labels):
    """The sum of the samples of this name that have these labels."""
    return sum(
        it.value
        for it in families[family].samples
        if it.name == sample and labels.items() <= it.labels.items()
    )


def test_own_page_splits_the_latency(busy_server):
    page = families(busy_server, "/metrics")
    prefix = "onnx_model_server_"
    series = {"model": "half_plus_two", "version": "1", "signature": "serving_default"}
    for protocol in ("grpc", "rest"):
        labels = dict(series, protocol=protocol)
        name = prefix + "requests"
        assert value(page, name, name + "_total", **labels, method="predict", code="OK") == 1
        for direction in ("decode", "encode"):
            name = prefix + "codec_duration_seconds"
            assert value(page, name, name + "_count", **labels, direction=direction) == 1
        name = prefix + "request_duration_seconds"
        assert value(page, name, name + "_count", **labels) == 1
    # Two requests, and the one that warmed the version up.
    for part in ("queue_duration_seconds", "run_duration_seconds"):
        assert value(page, prefix + part, prefix + part + "_count", **series) == 3
    name = prefix + "requests"
    assert value(page, name, name + "_total", model="nope", code="NOT_FOUND") == 1
    state = prefix + "model_state"
    assert value(page, state, state, model="half_plus_two", state="AVAILABLE") == 1
    assert value(page, "process_resident_memory_bytes", "process_resident_memory_bytes") > 1e6


def test_own_page_says_where_runs_happened(start_server):
    """Without learning, each run has a thread of its own and all threads of the backend."""
    name = "onnx_model_server_run_placements"
    for flag, expected in (("true", {"not_short"}), ("false", {"learning_off"})):
        server = start_server(
            [
                "--model_name=half_plus_two",
                f"--model_base_path={MODEL}",
                f"--learn_run_placement={flag}",
                # More threads than one, on any machine.
                "--tensorflow_intra_op_parallelism=2",
            ],
            ["half_plus_two"],
        )
        for _ in range(40):
            assert server.predict_rest("half_plus_two", '{"instances": [1.0, 2.0]}')[0] == 200
        page = families(server, "/metrics")
        # With the run that warmed the version up.
        assert value(page, name, name + "_total") == 41
        reasons = {it.labels["reason"] for it in page[name].samples}
        assert expected <= reasons
        if flag == "false":
            labels = {"placement": "thread", "threads": "pool", "reason": "learning_off"}
            assert value(page, name, name + "_total", **labels) == 41


# monitoring.md, section 1.2: names and labels of TensorFlow Serving.
def test_tensorflow_page_has_the_originals_names(busy_server):
    page = families(busy_server, TENSORFLOW_PATH)
    name = ":tensorflow:serving:request_count"
    assert page[name].type == "counter"
    # The parser adds the suffix that counters have by convention.
    sample = name + "_total"
    assert value(page, name, sample, model_name="half_plus_two", status="OK") >= 2
    assert value(page, name, sample, model_name="nope", status="NOT_FOUND") == 1
    name = ":tensorflow:serving:request_latency"
    assert page[name].type == "histogram"
    for api, entrypoint in (("Predict", "GRPC"), ("predict", "REST")):
        labels = {"model_name": "half_plus_two", "API": api, "entrypoint": entrypoint}
        assert value(page, name, name + "_count", **labels) == 1
    name = ":tensorflow:serving:runtime_latency"
    labels = {"model_name": "half_plus_two", "API": "Predict", "runtime": "TF1"}
    assert value(page, name, name + "_count", **labels) == 2


def test_model_service_calls_are_counted_on_the_own_page(busy_server):
    with grpc.insecure_channel(busy_server.grpc_address) as channel:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "half_plus_two"
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=30)
    page = families(busy_server, "/metrics")
    name = "onnx_model_server_requests"
    labels = {"model": "half_plus_two", "protocol": "grpc", "method": "status", "code": "OK"}
    assert value(page, name, name + "_total", **labels) == 1


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.name)
def test_dashboards_ask_for_metrics_that_exist(busy_server, dashboard):
    page = families(busy_server, "/metrics")
    known = {}
    for family in page.values():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for suffix in suffixes.get(family.type, [""]):
            known[family.name + suffix] = labels_of(family)
    queries = list(expressions(json.loads(dashboard.read_text())))
    assert len(queries) > 10
    for query in queries:
        names = re.findall(r"\b(?:onnx_model_server|process)_\w+", query)
        assert names, query
        assert set(names) <= set(known), query
        for name in names:
            wanted = set()
            for selector in re.findall(name + r"\{([^}]*)\}", query):
                wanted |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            # Prometheus itself adds these two.
            wanted -= {"job", "instance"}
            assert known[name] is None or wanted <= known[name], query


def labels_of(family):
    """The label names of a family's samples; None where it has no samples yet."""
    names = [set(sample.labels) for sample in family.samples]
    return set().union(*names) if names else None


def expressions(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]
