"""A real Prometheus reads the pages. Run by `make test-ops`."""

import json
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from model_server import PROJECT, free_ports
from programs import program

MODEL = PROJECT / "models" / "half_plus_two"
TENSORFLOW_PATH = "/monitoring/prometheus/metrics"
SECONDS = 60


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
    binary = program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    target = f"127.0.0.1:{server.rest_port}"
    jobs = [
        {
            "job_name": name,
            "metrics_path": path,
            "static_configs": [{"targets": [target]}],
        }
        for name, path in (("own", "/metrics"), ("tensorflow", TENSORFLOW_PATH))
    ]
    # JSON is YAML.
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(30)


def query(address, expression, process_seconds=SECONDS):
    """The expression's values by their labels, once there are any."""
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    deadline = time.monotonic() + process_seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                result = json.load(reply)["data"]["result"]
        except OSError:
            result = []
        if result:
            return [(it["metric"], float(it["value"][1])) for it in result]
        assert time.monotonic() < deadline, f"no answer to {expression}"
        time.sleep(0.2)


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
