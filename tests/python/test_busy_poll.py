"""A client that is prompt and alone: workers look for its requests instead of sleeping."""

import contextlib
import json
import os
import pathlib
import time

import grpc
import numpy as np
import pytest

from certificates import Authority, write_ssl_config
from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import PROJECT, STOP_SECONDS, ModelServer

FLAGS = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
]
PREDICT = "/v1/models/half_plus_two:predict"
STATUS = "/v1/models/half_plus_two"
# TensorFlow Serving's own example, and its answer.
QUESTION = [1.0, 2.0, 5.0]
ANSWER = [2.5, 3.0, 4.5]
# Longer than the time between an answer and the next request of any client here.
LOOK = "--busy_poll_micros=10000"
# Longer than the server needs to read a request's headers.
BETWEEN = 200e-6
CALLS = 500
TRIES = 10

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="nobody looks for requests on one processor"
)


@contextlib.contextmanager
def rest(server):
    """Asks on one connection."""
    connection = server.rest_connection()

    def ask(question=QUESTION):
        connection.request("POST", PREDICT, json.dumps({"instances": question}))
        reply = connection.getresponse()
        assert reply.status == 200
        return json.loads(reply.read())["predictions"]

    with contextlib.closing(connection):
        yield ask


@contextlib.contextmanager
def halves(server):
    """Asks in two pieces, of which the server hears one after the other."""
    connection = server.rest_connection()

    def ask():
        body = json.dumps({"instances": QUESTION}).encode()
        connection.putrequest("POST", PREDICT)
        connection.putheader("Content-Length", len(body))
        connection.endheaders()
        late = time.perf_counter() + BETWEEN
        while time.perf_counter() < late:
            pass
        connection.send(body)
        reply = connection.getresponse()
        return json.loads(reply.read())["predictions"]

    with contextlib.closing(connection):
        yield ask


@contextlib.contextmanager
def rpc(server, path=None):
    """The same for gRPC."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(path or server.grpc_address, options=options) as channel:
        predict = prediction(channel).Predict

        def ask(question=QUESTION):
            request = predict_request("half_plus_two", x=np.array(question, np.float32))
            return list(predict(request, timeout=TIMEOUT).outputs["y"].float_val)

        yield ask


@contextlib.contextmanager
def unix(server):
    """The same on a Unix socket."""
    with rpc(server, f"unix:{server.socket_path}") as ask:
        yield ask


def sleeps(server):
    """How often threads of the server have gone to sleep."""
    tasks = pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    counts = [line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")]
    return sum(map(int, counts))


def sleeps_per_call(server, ask):
    for _ in range(100):
        ask()
    before = sleeps(server)
    for _ in range(CALLS):
        assert ask() == ANSWER
    return (sleeps(server) - before) / CALLS


def start(start_server, folder, *flags):
    socket_path = folder / "grpc.sock"
    flags = [*FLAGS, f"--grpc_socket_path={socket_path}", *flags]
    server = start_server(flags, ["half_plus_two"])
    server.socket_path = socket_path
    return server


@pytest.fixture(scope="module")
def looking(start_server, tmp_path_factory):
    return start(start_server, tmp_path_factory.mktemp("looking"), LOOK)


@pytest.fixture(scope="module")
def sleeping(start_server, tmp_path_factory):
    return start(start_server, tmp_path_factory.mktemp("sleeping"), "--busy_poll_micros=0")


@pytest.mark.parametrize("client", [rest, halves, rpc, unix])
def test_workers_sleep_less(looking, sleeping, client):
    # On a busy machine a client is not always prompt, so the best of some tries counts.
    with_looks, without = [], []
    for _ in range(TRIES):
        for counts, server in [(without, sleeping), (with_looks, looking)]:
            with client(server) as ask:
                counts.append(sleeps_per_call(server, ask))
        if min(with_looks) < min(without) / 2:
            break
    print(f"{with_looks} instead of {without} sleeps per call")
    assert min(with_looks) < min(without) / 2


@pytest.mark.parametrize("client", [rest, rpc, unix])
def test_large_requests_are_found_as_well(looking, client):
    sizes = [3, 5_000, 16_384, 100_000, 1_000_000]
    with client(looking) as ask:
        for size in sizes:
            for _ in range(100):
                assert ask() == ANSWER
            numbers = np.arange(size, dtype=np.float32)
            assert ask(numbers.tolist()) == (numbers / 2 + 2).tolist()


def test_others_are_heard_beside_it(looking):
    with rest(looking) as ask, rpc(looking) as other:
        for _ in range(20):
            for _ in range(80):
                assert ask() == ANSWER
            assert other() == ANSWER
            assert looking.rest("GET", STATUS)[0] == 200


def test_tls_is_looked_through(start_server, tmp_path):
    authority = Authority(tmp_path / "ours")
    config = write_ssl_config(tmp_path / "ssl.config", authority.sign("server"))
    flags = [*FLAGS, LOOK, f"--ssl_config_file={config}", "--rest_api_use_ssl"]
    server = start_server(flags, ["half_plus_two"], context=authority.context())
    with rest(server) as ask:
        for _ in range(3):
            for _ in range(100):
                assert ask() == ANSWER
            numbers = np.arange(100_000, dtype=np.float32)
            assert ask(numbers.tolist()) == (numbers / 2 + 2).tolist()


def test_server_stops_beside_it(tmp_path):
    server = ModelServer([*FLAGS, LOOK], ["half_plus_two"], tmp_path / "log")
    try:
        with rest(server) as ask:
            for _ in range(200):
                ask()
            server.process.terminate()
            assert server.process.wait(STOP_SECONDS) == 0
    finally:
        server.stop()
