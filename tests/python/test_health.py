"""What probes are told, on the REST port and on the admin port, from the start to the end."""

import http.client
import json
import shutil
import signal
import socket
import subprocess

import grpc
import pytest

from grpc_calls import ENDLESS, GRPC_MODELS, model_flags, prediction, refused, slow_request
from model_server import BINARY, LIBRARY, PROJECT, STOP_SECONDS, free_ports, poll

MODEL = PROJECT / "models" / "half_plus_two"


def get(port, path, host="127.0.0.1"):
    """Status and body, or None where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def ready(port):
    answer = get(port, "/readyz")
    return answer and (answer[0], json.loads(answer[1]))


def test_rest_port_tells_health(server):
    assert get(server.rest_port, "/healthz") == (200, b"ok\n")
    assert ready(server.rest_port) == (200, {"status": "ready", "missing_models": []})
    # These paths are not part of TensorFlow Serving's API, which stays unchanged.
    assert server.rest("POST", "/healthz")[0] == 404
    assert get(server.rest_port, "/v1/healthz")[0] == 400


def test_admin_port_follows_a_start_and_a_stop(tmp_path):
    base_path = tmp_path / "slow"
    port, admin_port = free_ports(2)
    flags = [f"--port={port}", f"--admin_port={admin_port}", "--admin_host=127.0.0.1"]
    flags += ["--model_name=slow", f"--model_base_path={base_path}"]
    flags += ["--file_system_poll_wait_seconds=1", "--drain_timeout_seconds=20"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [str(BINARY), f"--onnxruntime_library={LIBRARY}", *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        # It waits for the model with its port closed; the admin port shows the reason.
        assert poll(lambda: get(admin_port, "/healthz")) == (200, b"ok\n")
        starting = {"status": "starting", "missing_models": ["slow"]}
        starting["errors"] = {"slow": f"NOT_FOUND: {base_path} not found"}
        poll(lambda: ready(admin_port) == (503, starting))
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port))

        shutil.copytree(GRPC_MODELS / "slow", base_path)
        poll(lambda: ready(admin_port) == (200, {"status": "ready", "missing_models": []}))
        assert b"onnx_model_server_model_state" in get(admin_port, "/metrics")[1]
        states = json.loads(get(admin_port, "/v1/models")[1])
        assert states["models"][0]["versions"][0]["state"] == "AVAILABLE"
        assert get(admin_port, "/v1/models/slow")[0] == 404

        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            under_way = prediction(channel).Predict.future(slow_request(ENDLESS), timeout=60)
            in_flight = b'onnx_model_server_requests_in_flight{model="slow"'
            poll(lambda: in_flight in get(admin_port, "/metrics")[1])
            process.send_signal(signal.SIGTERM)
            draining = {"status": "draining", "missing_models": []}
            poll(lambda: ready(admin_port) == (503, draining))
            assert get(admin_port, "/healthz") == (200, b"ok\n")
            under_way.cancel()
            assert process.wait(STOP_SECONDS) == 0
        assert get(admin_port, "/healthz") is None
    finally:
        process.kill()
        process.wait()
    assert "cut off" not in (tmp_path / "log").read_text()


def test_a_missing_model_is_named(start_server, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{
        config {{ name: "there" base_path: "{MODEL}" model_platform: "onnx" }}
        config {{ name: "later" base_path: "{tmp_path}/later" model_platform: "onnx" }}
        }}""".replace('model_platform: "onnx"', 'model_platform: "tensorflow"')
    )
    flags = [f"--model_config_file={config}", "--wait_for_models=false"]
    server = start_server([*flags, "--file_system_poll_wait_seconds=1"], ["there"])
    missing = {"status": "models missing", "missing_models": ["later"]}
    missing["errors"] = {"later": f"NOT_FOUND: {tmp_path}/later not found"}
    assert ready(server.rest_port) == (503, missing)
    shutil.copytree(MODEL, tmp_path / "later")
    poll(lambda: ready(server.rest_port)[0] == 200)


def test_ports_open_on_the_hosts_given(start_server):
    (admin_port,) = free_ports(1)
    flags = ["--model_name=half_plus_two", f"--model_base_path={MODEL}"]
    flags += ["--grpc_host=127.0.0.2", "--rest_api_host=localhost", f"--admin_port={admin_port}"]
    server = start_server(flags, ["half_plus_two"])
    for host, port, is_open in [
        ("127.0.0.2", server.grpc_port, True),
        ("127.0.0.1", server.grpc_port, False),
        ("127.0.0.1", server.rest_port, True),
        ("127.0.0.2", server.rest_port, False),
        # As the REST port, if no other host is given.
        ("127.0.0.1", admin_port, True),
        ("127.0.0.2", admin_port, False),
    ]:
        with socket.socket() as client:
            assert (client.connect_ex((host, port)) == 0) == is_open, (host, port)


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--grpc_host=no.such.host.invalid", "cannot listen on host 'no.such.host.invalid'"),
        ("--admin_port=70000", "--admin_port=70000 is not a port number"),
        ("--max_connections=0", "--max_connections=0 is less than 1"),
        ("--max_header_bytes=100", "--max_header_bytes=100 is less than 8192"),
        ("--drain_timeout_seconds=-1", "--drain_timeout_seconds=-1 is less than 0"),
        ("--busy_poll_micros=-1", "--busy_poll_micros=-1 is less than 0"),
        ("--busy_poll_micros=10001", "--busy_poll_micros=10001 is more than 10000"),
        ("--max_bytes_in_flight=-1", "--max_bytes_in_flight=-1 is less than 0"),
        ("--model_memory_limit_mb=-1", "--model_memory_limit_mb=-1 is less than 0"),
        ("--model_load_timeout_seconds=-1", "--model_load_timeout_seconds=-1 is less than 0"),
        (
            "--companion_files_wait_seconds=-1",
            "--companion_files_wait_seconds=-1 is less than 0",
        ),
    ],
)
def test_values_without_sense_end_the_start(flag, text):
    (port,) = free_ports(1)
    command = [str(BINARY), f"--port={port}", f"--model_base_path={MODEL}", flag]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 255
    assert f"INVALID_ARGUMENT: {text}" in ended.stdout


def test_an_admin_port_that_is_taken_ends_the_start():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        (port,) = free_ports(1)
        admin = f"--admin_port={taken.getsockname()[1]}"
        command = [str(BINARY), f"--onnxruntime_library={LIBRARY}", f"--port={port}", admin]
        command += [f"--model_base_path={MODEL}", "--admin_host=127.0.0.1"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 255
    assert "(--admin_port)" in ended.stdout


def test_probes_are_answered_by_a_busy_server(start_server):
    (admin_port,) = free_ports(1)
    flags = [*model_flags("slow"), "--max_concurrent_requests=1", f"--admin_port={admin_port}"]
    server = start_server([*flags, "--enable_grpc_healthcheck_service=true"], ["slow"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        under_way = prediction(channel).Predict.future(slow_request(ENDLESS), timeout=60)
        poll(lambda: server.rest("GET", "/v1/models/slow")[0] == 429)
        status, headers, body = server.rest("GET", "/v1/models/slow")
        assert (status, headers["Retry-After"]) == (429, "1")
        assert b"--max_concurrent_requests" in body
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
            prediction(channel).Predict(slow_request(1), timeout=30)
        assert ("grpc-retry-pushback-ms", "1000") in caught.value.trailing_metadata()
        for port in (server.rest_port, admin_port):
            assert get(port, "/healthz")[0] == get(port, "/readyz")[0] == 200
        assert b'code="RESOURCE_EXHAUSTED"' in get(admin_port, "/metrics")[1]

        under_way.cancel()
        poll(lambda: server.rest("GET", "/v1/models/slow")[0] == 200)
        assert b'code="CANCELLED"' in get(admin_port, "/metrics")[1]
