"""The server is killed and started again while clients ask it: those that try again lose nothing."""

import http.client
import json
import threading
import time

import grpc
import numpy as np
import pytest

from grpc_calls import LOAD_TIMEOUT, predict_request, prediction
from model_server import ModelServer
from onnx_models import publish, says_its_version

RESTARTS = 3
# Answers of each client between two restarts.
ANSWERS = 100
# Codes of calls while the server is down, or was down until the end of the call.
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Client(threading.Thread):
    """Asks for one number after the other, each until it is answered."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.ports = ports
        self.answered = 0
        self.retries = 0
        self.failure = None
        self.is_over = threading.Event()

    def run(self):
        try:
            while not self.is_over.is_set():
                answer = self.ask_until_answered(self.answered)
                assert answer == self.answered + 1, (self.answered, answer)
                self.answered += 1
        except Exception as error:
            self.failure = repr(error)

    def ask_until_answered(self, number):
        deadline = time.monotonic() + LOAD_TIMEOUT
        while (answer := self.ask(number)) is None:
            assert time.monotonic() < deadline, "no answer any more"
            self.retries += 1
            time.sleep(0.02)
        return answer


class GrpcClient(Client):
    def __init__(self, ports):
        super().__init__(ports)
        # By default it would wait longer and longer before it connects again.
        options = [("grpc.max_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
        self.stub = prediction(grpc.insecure_channel(f"127.0.0.1:{ports[0]}", options))

    def ask(self, number):
        request = predict_request("steady", x=np.float32([number]))
        try:
            response = self.stub.Predict(request, timeout=LOAD_TIMEOUT)
        except grpc.RpcError as error:
            assert error.code() in AGAIN, error
            return None
        return response.outputs["y"].float_val[0]


class RestClient(Client):
    connection = None

    def ask(self, number):
        try:
            if not self.connection:
                self.connection = http.client.HTTPConnection(
                    "127.0.0.1", self.ports[1], timeout=LOAD_TIMEOUT
                )
            body = json.dumps({"instances": [number]})
            self.connection.request("POST", "/v1/models/steady:predict", body)
            reply = self.connection.getresponse()
            answer = reply.read()
        except (ConnectionError, http.client.HTTPException):
            self.connection = None
            return None
        assert reply.status == 200, answer
        return json.loads(answer)["predictions"][0]


@pytest.fixture
def start(tmp_path):
    """Starts a server, on the ports of the one before if there was one."""
    publish(tmp_path / "steady", 1, says_its_version(1))
    started = []

    def start(ports=None):
        flags = ["--model_name=steady", f"--model_base_path={tmp_path / 'steady'}"]
        log = tmp_path / f"server{len(started)}.log"
        started.append(ModelServer(flags, ["steady"], log, ports=ports))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def test_killed_server_loses_no_request_of_those_who_retry(start):
    server = start()
    ports = server.grpc_port, server.rest_port
    clients = [kind(ports) for kind in (GrpcClient, RestClient) for _ in range(2)]
    for client in clients:
        client.start()
    for _ in range(RESTARTS):
        await_answers(clients)
        server.process.kill()
        server.process.wait()
        server = start(ports)
    await_answers(clients)
    for client in clients:
        client.is_over.set()
        client.join(LOAD_TIMEOUT)

    print([(client.answered, client.retries) for client in clients])
    assert [client.failure for client in clients] == [None] * len(clients)
    assert all(client.retries >= RESTARTS for client in clients)


def await_answers(clients):
    """Waits until each client has got so many answers more."""
    wanted = [client.answered + ANSWERS for client in clients]
    deadline = time.monotonic() + LOAD_TIMEOUT
    while any(client.answered < count for client, count in zip(clients, wanted)):
        assert time.monotonic() < deadline, [client.failure for client in clients]
        time.sleep(0.02)
