"""The web API of deploy/compose and the server, as two processes; the shape of compose.yaml."""

import base64
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest
import yaml

from model_server import PROJECT, free_ports

COMPOSE = PROJECT / "deploy" / "compose"
WEB = COMPOSE / "web"
DIGITS = PROJECT / "tests" / "data" / "mnist"
START_SECONDS = 60
CALL_SECONDS = 60


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Stubs made from `proto/` alone, as web/Dockerfile makes them."""
    folder = tmp_path_factory.mktemp("stubs")
    command = [sys.executable, WEB / "make_stubs.py", "--proto", PROJECT / "proto"]
    subprocess.run([*command, "--output", folder], check=True, timeout=120)
    # Packages with an `__init__.py` precede those of the same name in site-packages; the image has no
    # tensorflow.
    for package in [path for path in folder.rglob("*") if path.is_dir()]:
        (package / "__init__.py").touch()
    return folder


@pytest.fixture(scope="module")
def start_web(stubs, tmp_path_factory):
    """Starts the web API against a gRPC address, returns its port and stops it after the module."""
    started = []

    def start(address):
        (port,) = free_ports(1)
        path = [str(stubs), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "MODEL_SERVER": address,
        }
        command = [sys.executable, "-m", "gunicorn", f"--bind=127.0.0.1:{port}", "--threads=8"]
        command += ["--no-control-socket"]
        log = tmp_path_factory.mktemp("web") / "web.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [*command, "web:create_app()"],
                cwd=WEB,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        wait_for_port(process, port, log)
        return port

    yield start
    for process in started:
        process.terminate()
    for process in started:
        assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def web(server, start_web):
    return start_web(server.grpc_address)


@pytest.mark.parametrize("digit", range(10))
def test_web_api_reads_the_digit(web, digit):
    status, answer = post(web, {"image": encoded(DIGITS / f"{digit}.png")})
    assert status == 200, answer
    assert answer["digit"] == digit
    assert len(answer["probabilities"]) == 10
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([], "the body has to be"),
        ({}, "the body has to be"),
        ({"image": 7}, "the body has to be"),
        ({"image": "not base64"}, "image: "),
        ({"image": base64.b64encode(b"no picture").decode()}, "image: neither"),
    ],
)
def test_web_api_refuses_what_is_no_image(web, body, error):
    status, answer = post(web, body)
    assert status == 400
    assert error in answer["error"]


def test_web_api_says_that_the_server_is_away(start_web):
    (port,) = free_ports(1)
    status, answer = post(start_web(f"127.0.0.1:{port}"), {"image": encoded(DIGITS / "0.png")})
    assert status == 502
    assert answer["error"] == "the model server answered UNAVAILABLE"


def test_requirements_are_those_of_the_tests():
    """What these tests run is what the image installs."""
    tested = requirements(PROJECT / "tests" / "python" / "requirements.txt")
    assert requirements(WEB / "requirements.txt") <= tested


def test_compose_file_starts_the_server_first():
    compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    server, web = compose["services"]["server"], compose["services"]["web"]
    assert web["depends_on"]["server"]["condition"] == "service_healthy"
    assert web["environment"]["MODEL_SERVER"] == "server:8500"
    context = (COMPOSE / web["build"]["context"]).resolve()
    assert context == PROJECT
    assert (context / web["build"]["dockerfile"]).is_file()
    for volume in server["volumes"]:
        source, _, mode = volume.split(":")
        assert (COMPOSE / source).exists()
        assert mode == "ro"


def test_compose_models_are_in_the_mounted_folder():
    text = (COMPOSE / "models.config").read_text()
    paths = [line.split('"')[1] for line in text.splitlines() if "base_path:" in line]
    assert len(paths) == 3
    for path in map(pathlib.PurePosixPath, paths):
        assert path.parent == pathlib.PurePosixPath("/models")
        assert (PROJECT / "models" / path.name).is_dir()


def requirements(file):
    lines = file.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def encoded(path):
    return base64.b64encode(path.read_bytes()).decode()


def post(port, body):
    """POSTs JSON to `/predict`: the status and the answer's JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/predict", json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def wait_for_port(process, port, log):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            running = process.poll() is None and time.monotonic() < deadline
            assert running, f"the web API does not listen; its log:\n{log.read_text()}"
            time.sleep(0.05)
