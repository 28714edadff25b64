"""The queries of Grafana's public dashboard and alerts for TensorFlow Serving, in a real Prometheus.

Source of the expressions, as facts about what such dashboards ask for: github.com/grafana/jsonnet-libs,
`tensorflow-mixin` (`signals/*.libsonnet`, `dashboards_out/*.json`, `alerts/alerts.libsonnet`); of the
last ones, articles and dashboards that query TensorFlow Serving's page. Run by `make test-ops`.
"""

import math
import shutil

import pytest

from model_server import PROJECT
from prometheus import query, running_prometheus

MODEL = PROJECT / "models" / "half_plus_two" / "1"
TENSORFLOW_PATH = "/monitoring/prometheus/metrics"
REQUESTS = 20
# Longer than the tests take.
WINDOW = "5m"

LABELS = 'job=~"integrations/tensorflow",instance=~".+"'
MODEL_LABELS = LABELS + ', model_name=~"half_plus_two"'
CORE = ":tensorflow:core:"
SERVING = ":tensorflow:serving:"


def average(total, count, labels):
    """How the mixin writes an average: increases over subqueries with the default step."""
    increases = (f"increase({name}{{{labels}}}[{WINDOW}:])" for name in (total, count))
    return "/".join(increases)


# Each with its subject: runs, requests, loads.
RATES = {
    "graph build calls": f"increase({CORE}graph_build_calls{{{LABELS}}}[{WINDOW}:])",
    "graph runs": f"increase({CORE}graph_runs{{{LABELS}}}[{WINDOW}:])",
    "request rate": f"rate({SERVING}request_count{{{MODEL_LABELS}}}[{WINDOW}])",
    "batch queuing rate": (
        f"rate({SERVING}batching_session:queuing_latency_count{{{LABELS}}}[{WINDOW}])"
    ),
}
# Microseconds.
AVERAGES = {
    "graph build time": average(
        CORE + "graph_build_time_usecs", CORE + "graph_build_calls", LABELS
    ),
    "graph run time": average(CORE + "graph_run_time_usecs", CORE + "graph_runs", LABELS),
    "request latency": average(
        SERVING + "request_latency_sum", SERVING + "request_latency_count", MODEL_LABELS
    ),
    "runtime latency": average(
        SERVING + "runtime_latency_sum", SERVING + "runtime_latency_count", MODEL_LABELS
    ),
    "batch queuing latency": average(
        SERVING + "batching_session:queuing_latency_sum",
        SERVING + "batching_session:queuing_latency_count",
        LABELS,
    ),
}


@pytest.fixture(scope="module")
def prometheus(start_server, tmp_path_factory):
    """A Prometheus that has seen a server load a second version and answer requests."""
    folder = tmp_path_factory.mktemp("mixin")
    base = folder / "half_plus_two"
    shutil.copytree(MODEL, base / "1")
    (folder / "monitoring").write_text("prometheus_config { enable: true }")
    server = start_server(
        [
            "--model_name=half_plus_two",
            f"--model_base_path={base}",
            f"--monitoring_config_file={folder}/monitoring",
            "--enable_batching",
        ],
        ["half_plus_two"],
    )
    # So that series are there before they grow: Prometheus sees no growth in a series' first value.
    assert server.predict_rest("half_plus_two", '{"instances": [1.0]}')[0] == 200
    assert server.predict_rest("half_plus_two", '{"instances": ["no"]}')[0] == 400
    jobs = [("integrations/tensorflow", f"127.0.0.1:{server.rest_port}", TENSORFLOW_PATH)]
    with running_prometheus(folder, jobs) as address:
        query(address, CORE + "graph_runs")
        shutil.copytree(MODEL, base / "new")
        (base / "new").rename(base / "2")
        loads = ':tensorflow:cc:saved_model:load_attempt_count{status="success"}'
        query(address, loads, lambda values: len(values) == 2)
        for _ in range(REQUESTS):
            assert server.predict_rest("half_plus_two", '{"instances": [1.0]}')[0] == 200
        assert server.predict_rest("half_plus_two", '{"instances": ["no"]}')[0] == 400
        yield address, base


def has_growth(values):
    return any(value > 0 for _, value in values)


@pytest.mark.parametrize("name", RATES)
def test_rates_of_the_mixin_grow(prometheus, name):
    address, _ = prometheus
    for labels, _ in query(address, RATES[name], has_growth):
        assert labels["job"] == "integrations/tensorflow"


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_the_mixin_are_microseconds(prometheus, name):
    address, _ = prometheus
    values = query(address, AVERAGES[name], has_growth)
    times = [value for _, value in values if not math.isnan(value)]
    # Nothing here takes a minute.
    assert all(0 <= it < 60e6 for it in times), values


def test_runs_loads_and_their_times_add_up(prometheus):
    """Runs: one request before, those that were counted, one of each version's warmup."""
    address, base = prometheus
    runs = 1 + REQUESTS + 2
    for name in ("graph_runs", "graph_run_time_usecs_histogram_count", "direct_session_runs"):
        query(address, CORE + name, lambda values: [it for _, it in values] == [runs])
    loads = query(address, ":tensorflow:cc:saved_model:load_attempt_count")
    paths = {labels["model_path"]: (labels["status"], count) for labels, count in loads}
    assert paths == {str(base / version): ("success", 1) for version in ("1", "2")}
    for labels, micros in query(address, ":tensorflow:cc:saved_model:load_latency"):
        assert labels["model_path"] in paths
        assert 0 < micros < 60e6
    quantile = f"histogram_quantile(0.99, {CORE}graph_run_time_usecs_histogram_bucket)"
    [(_, micros)] = query(address, quantile)
    assert 0 < micros < 60e6
    ratio = f"{CORE}graph_run_time_usecs / {CORE}graph_run_time_usecs_histogram_sum"
    assert [value for _, value in query(address, ratio)] == [1.0]


def test_alerts_of_the_mixin_have_values(prometheus):
    """Each without its threshold, which nothing here exceeds."""
    address, _ = prometheus
    errors = (
        f'100 * sum(rate({SERVING}request_count{{status!="OK"}}[{WINDOW}])) by (instance)'
        f" / sum(rate({SERVING}request_count[{WINDOW}])) by (instance)"
    )
    [(_, percent)] = query(address, errors, has_growth)
    assert 0 < percent < 100
    queuing = SERVING + "batching_session:queuing_latency"
    waited = f"increase({queuing}_sum[{WINDOW}]) / increase({queuing}_count[{WINDOW}])"
    [(_, micros)] = query(address, waited, has_growth)
    assert 0 < micros < 5_000_000
