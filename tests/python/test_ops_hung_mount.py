"""The base path of one model, or a file of the start, is on a mount that hangs: bindfs, stopped. Run by
`make test-ops`.

Where bindfs is not installed (`apt-get install bindfs`), or nothing can be mounted, the tests are
skipped, or fail if `REQUIRE_TEST_PROGRAMS` is set.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

import onnx_models
from grpc_calls import LOAD_TIMEOUT, predict_request, prediction
from model_server import STOP_SECONDS, ModelServer, free_ports, poll
from test_health import get, ready
from test_signals import FLAGS, Starting

# A poll counts as hung after 5 s.
STALL_TIMEOUT = 60


def missing(text):
    if os.environ.get("REQUIRE_TEST_PROGRAMS"):
        pytest.fail(text)
    pytest.skip(text)


class Mount:
    """A folder of another one, by a process that can be stopped."""

    def __init__(self, source, target):
        program = shutil.which("bindfs")
        if program is None:
            missing("bindfs is not installed: apt-get install bindfs")
        target.mkdir()
        self.target = target
        # The kernel caches nothing, so that every poll asks the process.
        options = "attr_timeout=0,entry_timeout=0,negative_timeout=0"
        command = [program, "-f", "-o", options, str(source), str(target)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            poll(lambda: self.process.poll() is not None or target.is_mount())
        except BaseException:
            self.end()
            raise
        if self.process.poll() is not None:
            missing(f"bindfs cannot mount: {self.process.stderr.read().decode()}")

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def recover(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        self.recover()
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def mount(tmp_path):
    for name in ("hung", "other"):
        onnx_models.publish(tmp_path / "models" / name, 1, onnx_models.says_its_version(1))
    mount = Mount(tmp_path / "models", tmp_path / "mount")
    yield mount
    mount.end()


def config_text(tmp_path, names):
    paths = {"hung": tmp_path / "mount/hung", "other": tmp_path / "models/other"}
    models = "".join(
        f"config {{ name: '{name}' base_path: '{paths[name]}' model_platform: 'onnx' }}\n"
        for name in names
    )
    return f"model_config_list {{\n{models}}}\n"


@pytest.fixture
def server(start_server, mount, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(config_text(tmp_path, ["hung", "other"]))
    (admin_port,) = free_ports(1)
    flags = [f"--model_config_file={config}", "--file_system_poll_wait_seconds=1"]
    flags += [f"--admin_port={admin_port}", "--admin_host=127.0.0.1"]
    flags += ["--enable_grpc_healthcheck_service"]
    server = start_server(flags, ["hung", "other"])
    server.admin_port = admin_port
    return server


def await_stalled(server):
    body = {"status": "ready", "missing_models": [], "stalled_models": ["hung"]}
    poll(lambda: ready(server.rest_port) == (200, body), STALL_TIMEOUT)


def says(server, model, version):
    status, body = server.predict_rest(model, '{"instances": [0]}')
    return status == 200 and json.loads(body) == {"predictions": [version]}


def threads(server):
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def metadata_request(model):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    return request


def test_one_mount_that_hangs_stops_nothing_else(server, mount, tmp_path):
    mount.hang()
    await_stalled(server)
    before = threads(server)
    with grpc.insecure_channel(server.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for version in (2, 3):
            # Loaded versions answer over both protocols, including those on the mount.
            for model, current in (("hung", 1), ("other", version - 1)):
                assert says(server, model, current)
                reply = prediction(channel).Predict(predict_request(model, x=[0.0]), timeout=10)
                assert reply.outputs["y"].float_val == [current]
                prediction(channel).GetModelMetadata(metadata_request(model), timeout=10)
                assert server.rest("GET", f"/v1/models/{model}/metadata")[0] == 200
                check = health_pb2.HealthCheckRequest(service=model)
                assert health.Check(check, timeout=10).status == 1
            for port in (server.rest_port, server.admin_port):
                assert get(port, "/healthz") == (200, b"ok\n")
                assert ready(port)[0] == 200
            assert get(server.admin_port, "/metrics")[0] == 200
            # Other models get new versions.
            content = onnx_models.says_its_version(version)
            onnx_models.publish(tmp_path / "models/other", version, content)
            poll(lambda: says(server, "other", version), LOAD_TIMEOUT)
    # It is logged once, and no thread is added for the same model.
    assert server.log(None).count("has not answered for") == 1
    assert threads(server) <= before + 1

    onnx_models.publish(tmp_path / "models/hung", 2, onnx_models.says_its_version(2))
    mount.recover()
    poll(lambda: says(server, "hung", 2), LOAD_TIMEOUT)
    assert "stalled_models" not in ready(server.rest_port)[1]
    assert "answers again" in server.log(None)


def reload_config(server, text, timeout):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        return stub.HandleReloadConfigRequest(request, timeout=timeout).status


def test_a_reload_is_bounded_and_leaves_the_others_alone(server, mount, tmp_path):
    only_other = config_text(tmp_path, ["other"])
    assert reload_config(server, only_other, LOAD_TIMEOUT).error_code == 0
    mount.hang()
    with pytest.raises(grpc.RpcError) as caught:
        reload_config(server, config_text(tmp_path, ["hung", "other"]), LOAD_TIMEOUT)
    path = tmp_path / "mount/hung"
    assert f"the base path {path} of model hung has not answered" in caught.value.details()
    # The next one works without that model.
    assert reload_config(server, only_other, LOAD_TIMEOUT).error_code == 0
    assert says(server, "other", 1)
    mount.recover()
    both = config_text(tmp_path, ["hung", "other"])
    poll(lambda: succeeds(lambda: reload_config(server, both, LOAD_TIMEOUT)))
    # A reload that fails leaves the model configured. The next one waits for new models alone, so it
    # can return before this one has loaded.
    poll(lambda: says(server, "hung", 1), LOAD_TIMEOUT)


def succeeds(call):
    try:
        call()
    except grpc.RpcError:
        return False
    return True


def test_a_stop_does_not_wait_for_the_mount(mount, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(config_text(tmp_path, ["hung", "other"]))
    flags = [f"--model_config_file={config}"]
    server = ModelServer(flags, ["hung", "other"], tmp_path / "log")
    try:
        mount.hang()
        await_stalled(server)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS) == 0
        print(f"stopped in {time.monotonic() - begin:.2f} s")
    finally:
        mount.recover()
        server.stop()


def test_a_start_goes_on_without_the_mount(start_server, mount, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(config_text(tmp_path, ["hung", "other"]))
    mount.hang()
    flags = [f"--model_config_file={config}", "--wait_for_models=false"]
    server = start_server(flags, ["other"])
    try:
        assert says(server, "other", 1)
        body = {"status": "models missing", "missing_models": ["hung"], "stalled_models": ["hung"]}
        poll(lambda: ready(server.rest_port) == (503, body), STALL_TIMEOUT)
    finally:
        mount.recover()
    poll(lambda: says(server, "hung", 1), LOAD_TIMEOUT)


def waits_for_a_mount(process):
    """Whether a thread of the process waits for the answer of a FUSE mount."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    return any((task / "wchan").read_text() == "request_wait_answer" for task in tasks)


@pytest.mark.parametrize(
    "flags",
    [
        [*FLAGS, "--onnxruntime_library=FILE"],
        ["--model_config_file=FILE"],
        [*FLAGS, "--auth_config_file=FILE"],
    ],
    ids=lambda flags: flags[-1].split("=")[0],
)
def test_a_start_that_waits_for_the_mount_is_ended(mount, tmp_path, flags):
    (tmp_path / "models/file").write_text("")
    mount.hang()
    file = tmp_path / "mount/file"
    flags = [flag.replace("FILE", str(file)) for flag in flags]
    server = Starting([*flags, f"--port={free_ports(1)[0]}"], tmp_path / "log")
    try:
        poll(lambda: waits_for_a_mount(server.process))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS) == 128 + signal.SIGTERM
    finally:
        mount.recover()
        server.end()


def test_a_stop_does_not_wait_for_the_file_of_a_socket(mount, tmp_path):
    """With one worker, so that there is no other one to go on."""
    flags = [*FLAGS, f"--grpc_socket_path={tmp_path / 'mount/socket'}"]
    environment = {**os.environ, "TOKIO_WORKER_THREADS": "1"}
    server = ModelServer(flags, ["half_plus_two"], tmp_path / "log", env=environment)
    try:
        mount.hang()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS) == 0
    finally:
        mount.recover()
        server.stop()
