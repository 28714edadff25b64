"""A real Prometheus reads the pages. Run by `make test-ops`."""

import subprocess

import pytest

from model_server import PROJECT
from programs import program
from prometheus import query, running_prometheus

MODEL = PROJECT / "models" / "half_plus_two"
TENSORFLOW_PATH = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory):
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
    for _ in range(3):
        assert server.predict_rest("half_plus_two", '{"instances": [1.0]}')[0] == 200
    return server


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """The address of a Prometheus that scrapes both pages of the server."""
    target = f"127.0.0.1:{server.rest_port}"
    jobs = [("own", target, "/metrics"), ("tensorflow", target, TENSORFLOW_PATH)]
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), jobs) as address:
        yield address


def test_prometheus_scrapes_both_pages(prometheus):
    requests = 'onnx_model_server_requests_total{model="half_plus_two",method="predict",code="OK"}'
    [(labels, count)] = query(prometheus, requests)
    assert count == 3
    assert (labels["job"], labels["protocol"], labels["version"]) == ("own", "rest", "1")
    counts = '{__name__=":tensorflow:serving:request_latency_count",API="predict"}'
    [(labels, count)] = query(prometheus, counts)
    assert count == 3
    assert (labels["job"], labels["entrypoint"]) == ("tensorflow", "REST")
    assert [value for _, value in query(prometheus, "up == 1")] == [1.0, 1.0]
    quantile = (
        "histogram_quantile(0.99, sum by (le) (onnx_model_server_request_duration_seconds_bucket))"
    )
    [(_, seconds)] = query(prometheus, quantile)
    assert 0 < seconds < 30


def test_promtool_has_nothing_to_say_about_the_own_page(server):
    promtool = program("promtool")
    status, _, page = server.rest("GET", "/metrics")
    assert status == 200
    check = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")
