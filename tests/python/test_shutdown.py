"""How the process ends: what is under way is finished, what only watches is not waited for."""

import collections
import http.client
import pathlib
import shutil
import signal
import socket
import subprocess
import threading

import grpc
import model_server
import numpy as np
import pytest
from grpc_calls import ENDLESS, model_flags, predict_request, prediction, slow_request
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_server import poll
from raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    WINDOW_UPDATE,
    Http2,
    grpc_headers,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    regression_pb2,
)

MODEL = model_server.PROJECT / "models" / "half_plus_two"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
CALLERS = 8


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


class Caller(threading.Thread):
    """Calls on one connection without a pause, until the server does not want it any more."""

    def __init__(self, address, answered):
        super().__init__(daemon=True)
        self.address = address
        self.answered = answered
        self.failure = None

    def run(self):
        try:
            self.call_until_the_end()
        except Exception as error:  # noqa: BLE001, any error fails the test
            self.failure = error
            self.answered["failed"] += 1


class RestCaller(Caller):
    """Keeps its connection for as long as the server does; a new one may be refused."""

    def call_until_the_end(self):
        while True:
            host, port = self.address.split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            while connection.sock:
                connection.request("POST", "/v1/models/half_plus_two:predict", BODY)
                reply = connection.getresponse()
                assert reply.status == 200 and b"2.5, 3.0, 4.5" in reply.read()
                # After `Connection: close` the client has closed its socket.
                self.answered["rest"] += 1


class GrpcCaller(Caller):
    def call_until_the_end(self):
        with grpc.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            request = predict_request("half_plus_two", x=np.float32([2]))
            while True:
                try:
                    response = prediction(channel).Predict(request, timeout=60)
                except grpc.RpcError as error:
                    # The port is closed: this call was not accepted.
                    if error.code() == grpc.StatusCode.UNAVAILABLE and is_refused(error):
                        return
                    raise
                assert response.outputs["y"].float_val == [3.0]
                self.answered["grpc"] += 1


def is_refused(error):
    return "Connection refused" in error.details()


def test_sigterm_under_load_fails_no_request(tmp_path):
    server = start(tmp_path)
    answered = collections.Counter()
    callers = [RestCaller(f"127.0.0.1:{server.rest_port}", answered) for _ in range(CALLERS)]
    callers += [GrpcCaller(server.grpc_address, answered) for _ in range(CALLERS)]
    try:
        for caller in callers:
            caller.start()
        poll(lambda: answered["rest"] > 50 * CALLERS and answered["grpc"] > 50 * CALLERS)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=25) == 0
        for caller in callers:
            caller.join(60)
            assert not caller.is_alive()
    finally:
        server.stop()
    print(f"answered: {dict(answered)}")
    assert [caller.failure for caller in callers if caller.failure] == []
    assert "cut off" not in server.log(limit=None)


def test_requests_on_idle_connections_are_answered_while_stopping(tmp_path):
    server = start(tmp_path)
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    try:
        for expected in (None, "close"):
            connection.request("POST", "/v1/models/half_plus_two:predict", BODY)
            reply = connection.getresponse()
            assert (reply.status, reply.headers["Connection"]) == (200, expected)
            reply.read()
            if expected is None:
                server.process.send_signal(signal.SIGTERM)
                poll(lambda: "Stopping" in server.log())
        assert server.process.wait(timeout=model_server.STOP_SECONDS) == 0
    finally:
        connection.close()
        server.stop()


SERVICE = "/tensorflow.serving."
SPEC = {"model_spec": {"name": "half_plus_two"}}
GRPC_CALLS = {
    SERVICE + "PredictionService/Predict": predict_request("half_plus_two", x=np.float32([2])),
    SERVICE + "PredictionService/Classify": classification_pb2.ClassificationRequest(**SPEC),
    SERVICE + "PredictionService/Regress": regression_pb2.RegressionRequest(**SPEC),
    SERVICE + "PredictionService/MultiInference": inference_pb2.MultiInferenceRequest(
        tasks=[inference_pb2.InferenceTask(**SPEC)]
    ),
    SERVICE + "PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"], **SPEC
    ),
    SERVICE + "ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest(**SPEC),
    SERVICE + "ModelService/HandleReloadConfigRequest": (
        model_management_pb2.ReloadConfigRequest(config={"model_config_list": {}})
    ),
}
REST_CALLS = {
    "POST /v1/models/half_plus_two:predict": BODY,
    "POST /v1/models/half_plus_two:classify": '{"examples": [{"x": 1.0}]}',
    "POST /v1/models/half_plus_two:regress": '{"examples": [{"x": 1.0}]}',
    "GET /v1/models/half_plus_two/metadata": "",
    "GET /v1/models/half_plus_two": "",
}


class BegunGrpcCall:
    """A call whose last byte is still to come."""

    def __init__(self, port, path, request):
        message = request.SerializeToString()
        message = b"\0" + len(message).to_bytes(4, "big") + message
        self.connection = Http2(port)
        self.connection.accept_settings()
        self.connection.send(HEADERS, END_HEADERS, grpc_headers(path), 1)
        self.connection.send(DATA, payload=message[:-1], stream=1)
        self.rest = message[-1:]

    def finish(self):
        """Whether the call was answered, and if so, with a message."""
        self.connection.send(DATA, END_STREAM, self.rest, 1)
        frames = [
            (kind, flags)
            for kind, flags, stream, _ in self.connection.stream_frames()
            if stream == 1 and kind != WINDOW_UPDATE
        ]
        self.connection.socket.close()
        return frames[-1] == (HEADERS, END_HEADERS | END_STREAM), len(frames) == 3


class BegunRestCall:
    """The same over REST; a request without a body lacks the end of its head."""

    def __init__(self, port, line, body):
        request = f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.sendall(request[:-1].encode())
        self.rest = request[-1:].encode()

    def finish(self):
        self.socket.sendall(self.rest)
        reply = http.client.HTTPResponse(self.socket)
        reply.begin()
        return reply.status, reply.headers["Connection"]


def test_begun_calls_are_answered_while_stopping(tmp_path):
    """Of each API, over both protocols; the port accepts no further connection."""
    server = start(tmp_path)
    try:
        grpc_calls = {
            path: BegunGrpcCall(server.grpc_port, path, request)
            for path, request in GRPC_CALLS.items()
        }
        rest_calls = {
            line: BegunRestCall(server.rest_port, line, body) for line, body in REST_CALLS.items()
        }
        server.process.send_signal(signal.SIGTERM)
        poll(lambda: "Stopping" in server.log())
        for port in (server.grpc_port, server.rest_port):
            poll(lambda port=port: is_closed(port))

        for line, call in rest_calls.items():
            status = 400 if ":classify" in line or ":regress" in line else 200
            assert call.finish() == (status, "close"), line
        for path, call in grpc_calls.items():
            # The model has no signature for these.
            has_message = path.split("/")[-1] not in ("Classify", "Regress", "MultiInference")
            assert call.finish() == (True, has_message), path
        assert server.process.wait(timeout=model_server.STOP_SECONDS) == 0
    finally:
        server.stop()
    assert "cut off" not in server.log(limit=None)


def is_closed(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def start_slow(tmp_path, *flags):
    flags = [*model_flags("slow"), *flags]
    return model_server.ModelServer(flags, ["slow"], tmp_path / "server.log")


def is_running(server):
    page = server.rest("GET", "/metrics")[2]
    return b'onnx_model_server_requests_in_flight{model="slow"' in page


def test_what_the_timeout_cuts_off_is_counted(tmp_path):
    server = start_slow(tmp_path, "--drain_timeout_seconds=1")
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            calls = [
                prediction(channel).Predict.future(slow_request(ENDLESS), timeout=60)
                for _ in range(2)
            ]
            poll(lambda: is_running(server))
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=model_server.STOP_SECONDS) == 0
            for call in calls:
                assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop()
    (line,) = [line for line in server.log().splitlines() if "cut off" in line]
    assert "requests were cut off after 1 s" in line and "requests=2" in line


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path, kind):
    server = start_slow(tmp_path)
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = prediction(channel).Predict.future(slow_request(ENDLESS), timeout=60)
            poll(lambda: is_running(server))
            server.process.send_signal(signal.SIGTERM)
            poll(lambda: "Stopping" in server.log())
            server.process.send_signal(kind)
            assert server.process.wait(timeout=model_server.STOP_SECONDS) == 128 + kind
            assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop()


def test_the_first_process_leaves_no_zombies(tmp_path):
    """As in a container, where orphans become its children."""
    unshare = shutil.which("unshare")
    namespace = [unshare or "", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not unshare or subprocess.run([*namespace, "true"], check=False).returncode != 0:
        pytest.skip("no namespaces for processes here")
    (port,) = model_server.free_ports(1)
    # The shell has already become the server when its child ends.
    program = f"sleep 0.5 & exec {model_server.BINARY} \"$@\""
    flags = [f"--port={port}", f"--model_base_path={MODEL}"]
    flags += [f"--onnxruntime_library={model_server.LIBRARY}"]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*namespace, "sh", "-c", program, "sh", *flags], stdout=log, stderr=log
        )
    try:
        poll(lambda: "Entering the event loop" in (tmp_path / "log").read_text())
        (first,) = poll(lambda: children(process.pid))
        poll(lambda: children(first) == [])
    finally:
        process.terminate()
        process.kill()
        process.wait()


def children(pid):
    """Ids of a process's children, zombies too."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


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
