"""How the process ends: what is under way is finished, what only watches is not waited for."""

import signal
import subprocess

import grpc
import model_server
from grpc_health.v1 import health_pb2, health_pb2_grpc

MODEL = model_server.PROJECT / "models" / "half_plus_two"


def start(tmp_path, *flags):
    flags = ["--model_name=half_plus_two", f"--model_base_path={MODEL}", *flags]
    return model_server.ModelServer(flags, ["half_plus_two"], tmp_path / "server.log")


def test_sigterm_does_not_wait_for_watchers(tmp_path):
    server = start(tmp_path, "--enable_grpc_healthcheck_service=true")
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            request = health_pb2.HealthCheckRequest(service="half_plus_two")
            watch = health_pb2_grpc.HealthStub(channel).Watch(request)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

            server.process.send_signal(signal.SIGTERM)

            assert server.process.wait(timeout=model_server.STOP_SECONDS) == 0
    finally:
        server.stop()
    assert "cut off" not in (tmp_path / "server.log").read_text()


def test_ports_that_are_none_are_refused():
    command = [str(model_server.BINARY), "--port=70000", f"--model_base_path={MODEL}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 255
    assert "INVALID_ARGUMENT: --port=70000 is not a port number" in ended.stdout


def test_a_missing_library_says_what_to_do(tmp_path):
    command = [
        str(model_server.BINARY),
        f"--model_base_path={MODEL}",
        f"--onnxruntime_library={tmp_path / 'none.so'}",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 255
    assert "make onnxruntime" in ended.stdout
