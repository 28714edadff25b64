"""The kinds of clients that a server meets in production, the unpleasant ones included.

Each checks what it is answered: `Client.act` raises at anything unexpected, also at no answer.
"""

import json
import os
import socket
import ssl
import time

import grpc
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from certificates import write_ssl_config
from crowd import Client
from grpc_calls import TIMEOUT, predict_request, prediction, slow_request
from steady_load import Call, open_channel

PREDICT = "/v1/models/steady:predict"
# Below gRPC's default limit of 4 MiB for a message that a client receives.
LARGE = 250_000
# Steps of `slow` that take far longer than any client here waits, but not much memory.
LONG = 300_000


class Asking(Client):
    """Asks places what version serves there; `Judging` looks at the answers."""

    pause_seconds = 0.004

    def __init__(self, client, places, calls):
        super().__init__()
        self.name = f"Asking by {type(client).__name__}"
        self.client = client
        self.places = places
        self.calls = calls

    def act(self):
        call = Call(self.places[self.acts % len(self.places)], time.monotonic())
        self.calls.append(call)
        try:
            self.client.ask(call)
        except Exception as error:  # Any error means that the request failed.
            call.failure = repr(error)
        call.end = time.monotonic()


class Changing(Client):
    """Changes versions, labels and models, and judges what was answered meanwhile."""

    pause_seconds = 0.3

    def __init__(self, serving, calls):
        super().__init__()
        self.serving = serving
        self.calls = calls
        self.version = 1
        self.newest = 1
        self.judged = 0

    def act(self):
        self.newest += 1
        rolls_back = self.newest % 2 == 0
        self.version = self.serving.round(self.version, self.newest, rolls_back)
        self.judge()

    def judge(self):
        """Looks at the calls that have ended; forgets them, and what nobody can answer any more."""
        now = time.monotonic()
        waiting = []
        for _ in range(len(self.calls)):
            call = self.calls.popleft()
            if not 0 < call.end <= now:
                waiting.append(call)
                continue
            self.judged += 1
            if complaint := call.complaint():
                self.complain(complaint)
        self.calls.extend(waiting)
        oldest = min((call.begin for call in waiting), default=now)
        serving = self.serving
        for place in (serving.latest, serving.label, serving.steady, serving.visitor):
            place.lives = [life for life in place.lives if life.cannot_serve >= oldest]


class LargeGrpc(Client):
    """Sends tensors of up to a megabyte."""

    def __init__(self, server, credentials, seed):
        super().__init__()
        self.stub = prediction(open_channel(server, credentials))
        self.random = np.random.default_rng(seed)

    def act(self):
        x = self.random.standard_normal(self.random.integers(1, LARGE), np.float32)
        response = self.stub.Predict(predict_request("steady", x=x), timeout=TIMEOUT)
        assert np.array_equal(np.float32(response.outputs["y"].float_val), x + np.float32(1))


class LargeRest(Client):
    """Sends much JSON, each time on a connection of its own."""

    pause_seconds = 0.2

    def __init__(self, server, seed):
        super().__init__()
        self.server = server
        self.random = np.random.default_rng(seed)

    def act(self):
        x = self.random.integers(0, 1000, self.random.integers(1, 50_000))
        status, _, body = self.server.rest("POST", PREDICT, json.dumps({"instances": x.tolist()}))
        assert status == 200, body[:200]
        assert np.array_equal(json.loads(body)["predictions"], x + 1)


class Coming(Client):
    """Comes with a new connection for each request, and goes."""

    def __init__(self, server, credentials):
        super().__init__()
        self.server = server
        self.credentials = credentials

    def act(self):
        with open_channel(self.server, self.credentials) as channel:
            response = prediction(channel).Predict(
                predict_request("steady", x=np.float32([1])), timeout=TIMEOUT
            )
        assert list(response.outputs["y"].float_val) == [2]
        status, body = self.server.predict_rest("steady", b'{"instances": [1]}')
        assert status == 200 and json.loads(body) == {"predictions": [2]}


class Wrong(Client):
    """Sends what must be refused; the codes are TensorFlow Serving's."""

    def __init__(self, server, credentials):
        super().__init__()
        self.server = server
        self.stub = prediction(open_channel(server, credentials))

    def act(self):
        self.refuses_rest("steady", b'{"instances": [1', 400)
        self.refuses_rest("steady", b'{"instances": ["text"]}', 400)
        self.refuses_rest("unknown", b'{"instances": [1]}', 404)
        self.refuses_grpc("steady", np.int32([1]), grpc.StatusCode.INVALID_ARGUMENT)
        self.refuses_grpc("unknown", np.float32([1]), grpc.StatusCode.NOT_FOUND)
        for port in (self.server.rest_port, self.server.grpc_port):
            self.ends_connection(port)

    def refuses_rest(self, model, body, expected):
        status, reply = self.server.predict_rest(model, body)
        assert (status, list(json.loads(reply))) == (expected, ["error"]), (status, reply)

    def refuses_grpc(self, model, x, expected):
        try:
            self.stub.Predict(predict_request(model, x=x), timeout=TIMEOUT)
        except grpc.RpcError as error:
            assert error.code() == expected, error
        else:
            raise AssertionError("a wrong request was answered")

    def ends_connection(self, port):
        """Sends what is neither TLS nor HTTP and waits until the server has had enough."""
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            # A complete line, so that the server does not wait for more.
            connection.sendall(b"\xff" + os.urandom(60) + b"\r\n\r\n")
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass


class Slow(Client):
    """Takes its time to send a request, and to take the answer."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.request = request_bytes(server, json.dumps({"instances": [1] * 2000}))

    def act(self):
        with socket.create_connection(("127.0.0.1", self.server.rest_port), TIMEOUT) as connection:
            for piece in pieces(self.request, 10):
                connection.sendall(piece)
                self.is_over.wait(0.05)
            answer = b""
            while received := connection.recv(1024):
                answer += received
                self.is_over.wait(0.02)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), answer[:200]
        assert json.loads(body) == {"predictions": [2] * 2000}


class Leaving(Client):
    """Goes in the middle of a request, or before its answer."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.request = request_bytes(server, json.dumps({"instances": [1] * 2000}))

    def act(self):
        port = self.server.rest_port
        for sent in (self.request[: len(self.request) // 2], self.request):
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
                connection.sendall(sent)


class Cancelling(Client):
    """Wants no answer any more, by a cancellation or by its deadline."""

    pause_seconds = 0.2

    def __init__(self, server, credentials):
        super().__init__()
        self.stub = prediction(open_channel(server, credentials))

    def act(self):
        call = self.stub.Predict.future(slow_request(LONG), timeout=TIMEOUT)
        self.is_over.wait(0.03)
        call.cancel()
        assert call.code() == grpc.StatusCode.CANCELLED, call
        try:
            self.stub.Predict(slow_request(LONG), timeout=0.05)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        else:
            raise AssertionError("it was quicker than its deadline")


class Scraping(Client):
    """Reads both pages of metrics, as Prometheus does."""

    pause_seconds = 0.5

    def __init__(self, server):
        super().__init__()
        self.server = server

    def act(self):
        for path in ("/metrics", "/monitoring/prometheus/metrics"):
            status, _, page = self.server.rest("GET", path)
            assert status == 200, page[:200]
            if path == "/metrics":
                families = text_string_to_metric_families(page.decode())
                assert "onnx_model_server_requests" in {family.name for family in families}


class Rotating(Client):
    """Has the server take another certificate, and waits until it shows that one."""

    pause_seconds = 5

    def __init__(self, server, authority, config):
        super().__init__()
        self.server = server
        self.authority = authority
        self.config = config

    def act(self):
        certificate = self.authority.sign("server")
        expected = ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())
        write_ssl_config(self.config, certificate)
        deadline = time.monotonic() + 2 * TIMEOUT
        while self.shown() != expected:
            assert time.monotonic() < deadline, "the old certificate is still shown"
            time.sleep(0.1)

    def shown(self):
        address = ("127.0.0.1", self.server.grpc_port)
        context = self.authority.context()
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(address, TIMEOUT) as connection:
            with context.wrap_socket(connection, server_hostname="localhost") as tls:
                return tls.getpeercert(binary_form=True)


def request_bytes(server, body):
    """A REST request that ends its connection."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def pieces(content, count):
    size = -(-len(content) // count)
    return [content[start : start + size] for start in range(0, len(content), size)]
