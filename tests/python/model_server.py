"""Starts the server's binary for a test, waits until it serves, and stops it.

Not here: pytest's side of it (`conftest.py`), and what a client does with the server (the tests).
"""

import http.client
import os
import pathlib
import random
import socket
import subprocess
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]
MODELS_FOLDER = PROJECT / "models"
# The developers' material, if it exists. It is outside of the repository, so tests work without it.
SHARED = pathlib.Path(os.environ.get("SHARED", PROJECT.parent / "shared"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
BINARY = pathlib.Path(
    os.environ.get("ONNX_MODEL_SERVER", TARGET / "debug" / "onnx_model_server")
)
LIBRARY = os.environ.get(
    "ORT_DYLIB_PATH", str(PROJECT / ".onnxruntime" / "lib" / "libonnxruntime.so")
)

# Below net.ipv4.ip_local_port_range of Linux.
SERVERS_PORTS = (10_000, 32_000)

START_SECONDS = 60
STOP_SECONDS = 15
CALL_SECONDS = 60


class ModelServer:
    """One running server. It listens on two ports of its own and logs into a file."""

    def __init__(
        self,
        flags,
        models,
        log_path,
        on_start=lambda pid: None,
        context=None,
        headers=None,
        ports=None,
        **process,
    ):
        """Starts the server with `flags` and waits until each of `models` is available.

        Calls `on_start` with the process's id before it waits. `context` is for REST over TLS,
        `headers` are what each REST call needs, `ports` those for gRPC and REST, by default free
        ones. `process` goes to `subprocess.Popen`: another
        `executable`, `user`, `env`, `stdout` or `stderr`.
        """
        self.log_path = log_path
        self.context = context
        self.headers = headers or {}
        self.grpc_port, self.rest_port = ports or free_ports(2)
        command = [str(BINARY), f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}"]
        command += [f"--onnxruntime_library={LIBRARY}", *flags]
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(
                command,
                **{
                    "stdin": subprocess.DEVNULL,
                    "stdout": log,
                    "stderr": subprocess.STDOUT,
                    **process,
                },
            )
        try:
            on_start(self.process.pid)
            self._wait_until_available(models)
        except BaseException:
            self.stop()
            raise

    @property
    def grpc_address(self):
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def rest_url(self):
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.rest_port}"

    def is_running(self):
        return self.process.poll() is None

    def rest(self, method, path, body=None, headers=None):
        """One REST call on a connection of its own: the status, the headers and the body."""
        connection = self.rest_connection()
        try:
            connection.request(method, path, body=body, headers={**self.headers, **(headers or {})})
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()

    def rest_connection(self):
        """A connection to the REST port, not yet open."""
        if self.context:
            return http.client.HTTPSConnection(
                "127.0.0.1", self.rest_port, timeout=CALL_SECONDS, context=self.context
            )
        return http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=CALL_SECONDS)

    def predict_rest(self, model, body):
        """POSTs `body` to the model's `:predict` and returns the status and the body."""
        status, _, reply = self.rest("POST", f"/v1/models/{model}:predict", body)
        return status, reply

    def log(self, limit=20_000):
        """What the server has printed so far; the last `limit` bytes of it, or all for None."""
        content = self.log_path.read_bytes()
        return content[-limit if limit else 0 :].decode(errors="replace")

    def stop(self):
        """Asks the server to end and, if it does not, ends it."""
        if self.is_running():
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_available(self, models):
        deadline = time.monotonic() + START_SECONDS
        waiting_for = list(models)
        while waiting_for:
            if not self.is_running():
                code = self.process.returncode
                raise RuntimeError(f"the server ended with status {code}; its log:\n{self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{waiting_for[0]} not available after {START_SECONDS} s; the server's log:\n"
                    f"{self.log()}"
                )
            if self._is_available(waiting_for[0]):
                waiting_for.pop(0)
            else:
                time.sleep(0.05)

    def _is_available(self, model):
        try:
            status, _, body = self.rest("GET", f"/v1/models/{model}")
        except (OSError, http.client.HTTPException):
            return False
        return status == 200 and b'"AVAILABLE"' in body


def peak_memory_mib(pid):
    """The most memory that a process has had resident."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel does not say")


def poll(condition, seconds=30):
    """Waits until `condition()` is true and returns what it was."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)
    return value


def free_ports(count):
    """Ports that nobody listens on at this moment. They are below those that Linux gives to the clients'
    own ends of connections, one of which would otherwise be there before a server is, now and then."""
    sockets = []
    try:
        while len(sockets) < count:
            sockets.append(socket.socket())
            try:
                sockets[-1].bind(("", random.randrange(*SERVERS_PORTS)))
            except OSError:
                sockets.pop().close()
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def write_models_config(path):
    """Writes `models/models.config` with absolute base paths, as `make serve` does."""
    models = PROJECT / "models"
    template = (models / "models.config").read_text()
    path.write_text(template.replace("${MODELS}", str(models)))
    return path
