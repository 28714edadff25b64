"""Attacks, a small form of each; `--full` sends as much as an attacker would.

Throughout, a good client is answered (its p99 is printed), and the server's memory stays bounded.
"""

import concurrent.futures
import contextlib
import gzip
import resource
import socket
import struct

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from good_client import serves_meanwhile
from grpc_calls import TIMEOUT, predict_request, prediction, refused
from model_server import PROJECT
from raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    Http2,
    frame,
    grpc_headers,
    request_headers,
)

MIB = 1 << 20
# Far above the server's normal memory (some 150), far below the size that the attacks request.
MAX_MIB = 1024
STATUS = "/v1/models/half_plus_two"
STATUS_RPC = "/tensorflow.serving.ModelService/GetModelStatus"
PREDICT = f"{STATUS}:predict"
PREDICT_RPC = "/tensorflow.serving.PredictionService/Predict"
# A small number is enough for an attacker.
CONNECTIONS = 4


@pytest.fixture(scope="module")
def victim(start_server):
    flags = [
        "--model_name=half_plus_two",
        f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
        f"--max_bytes_in_flight={256 * MIB}",
    ]
    return start_server(flags, ["half_plus_two"])


@pytest.fixture
def scale(request):
    """How much of an attack to send."""
    return 1 if request.config.getoption("--full") else 0.1


@pytest.fixture(autouse=True)
def many_descriptors():
    """A thousand connections need more than the usual 1024 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("port", "beginning"),
    [
        ("rest_port", f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nX-".encode()),
        ("rest_port", f"POST {PREDICT} HTTP/1.1\r\nContent-Length: 999\r\n\r\n{{".encode()),
        ("grpc_port", PREFACE),
    ],
    ids=["headers", "body", "settings"],
)
def test_slowloris(victim, port, beginning):
    with serves_meanwhile(victim, "slowloris", MAX_MIB), contextlib.ExitStack() as stack:
        address = ("127.0.0.1", getattr(victim, port))
        stalled = [
            stack.enter_context(socket.create_connection(address, TIMEOUT)) for _ in range(1000)
        ]
        for connection in stalled:
            connection.sendall(beginning)
        # A byte now and then, to look alive.
        for _ in range(3):
            for connection in stalled:
                connection.sendall(b"x")
        # New clients are served, too.
        assert victim.rest("GET", STATUS)[0] == 200


@pytest.fixture(scope="module")
def bomb():
    """300 MiB in 300 KiB."""
    return gzip.compress(bytes(300 * MIB))


def test_gzip_bomb_over_rest(victim, scale, bomb):
    headers = {"Content-Encoding": "gzip"}
    with serves_meanwhile(victim, "gzip bomb, REST", MAX_MIB):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            calls = [
                pool.submit(victim.rest, "POST", PREDICT, bomb, headers)
                for _ in range(int(80 * scale))
            ]
            statuses = {call.result()[0] for call in calls}
    # Counts as empty, as in TensorFlow Serving, or as too much at a time.
    assert statuses <= {400, 429}


def test_gzip_bomb_over_grpc(victim, scale, bomb):
    message = b"\1" + struct.pack(">I", len(bomb)) + bomb
    block = grpc_headers(PREDICT_RPC, ("grpc-encoding", "gzip"))
    with serves_meanwhile(victim, "gzip bomb, gRPC", MAX_MIB):
        for _ in range(max(1, int(10 * scale))):
            with Http2(victim.grpc_port) as connection:
                connection.accept_settings()
                connection.send(HEADERS, END_HEADERS, block, 1)
                for at in range(0, len(message), 16_000):
                    part = message[at : at + 16_000]
                    is_last = at + 16_000 >= len(message)
                    connection.send(DATA, END_STREAM if is_last else 0, part, 1)
                # An answer of headers alone is a refusal.
                connection.wait_for(HEADERS, END_HEADERS | END_STREAM)


def test_length_on_its_word_over_grpc(victim, scale):
    """Prefixes that announce 2 GiB each must not make the server take them."""
    block = grpc_headers(PREDICT_RPC)
    with serves_meanwhile(victim, "announced lengths", MAX_MIB):
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                connection = stack.enter_context(Http2(victim.grpc_port))
                connection.accept_settings()
                for stream in range(1, int(2000 * scale), 2):
                    connection.send(HEADERS, END_HEADERS, block, stream)
                    connection.send(DATA, 0, b"\0\x7f\xff\xff\xff", stream)
            assert victim.rest("GET", STATUS)[0] == 200


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_rapid_reset(victim, scale, port):
    if port == "rest_port":
        block = request_headers("GET", STATUS)
    else:
        block = grpc_headers(STATUS_RPC)
    reset = struct.pack(">I", 8)
    with serves_meanwhile(victim, f"rapid reset, {port}", MAX_MIB):
        sent = ended = 0
        while sent < 100_000 * scale:
            with Http2(getattr(victim, port)) as connection:
                try:
                    for first in range(1, 20_001, 200):
                        burst = [
                            frame(HEADERS, END_HEADERS | END_STREAM, block, stream)
                            + frame(RST_STREAM, 0, reset, stream)
                            for stream in range(first, first + 200, 2)
                        ]
                        connection.socket.sendall(b"".join(burst))
                        sent += 100
                except OSError:
                    ended += 1
        print(f"{sent} streams opened and reset, {ended} connections ended by the server")
        assert victim.rest("GET", STATUS)[0] == 200


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_tiny_concurrent_streams(victim, scale, port):
    """Every one is answered, though thousands wait at a time."""
    total = int(100_000 * scale) // CONNECTIONS
    if port == "rest_port":
        block, message = request_headers("GET", STATUS), None
    else:
        block = grpc_headers(STATUS_RPC)
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "half_plus_two"
        status = status.SerializeToString()
        message = b"\0" + struct.pack(">I", len(status)) + status
    with serves_meanwhile(victim, f"tiny streams, {port}", MAX_MIB):
        with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
            calls = [
                pool.submit(answer_streams, getattr(victim, port), block, message, total)
                for _ in range(CONNECTIONS)
            ]
            answered = sum(call.result() for call in calls)
    assert answered == total * CONNECTIONS


def answer_streams(port, block, message, total, at_a_time=1000):
    """Opens `total` streams, so many at a time, and counts those that end well."""
    with Http2(port) as connection:
        connection.accept_settings()
        opened = answered = 0

        def open_more(count):
            nonlocal opened
            parts = []
            for _ in range(min(count, total - opened)):
                stream = 2 * opened + 1
                opened += 1
                ends = 0 if message else END_STREAM
                parts.append(frame(HEADERS, END_HEADERS | ends, block, stream))
                if message:
                    parts.append(frame(DATA, END_STREAM, message, stream))
            connection.socket.sendall(b"".join(parts))

        open_more(at_a_time)
        for kind, flags, stream, _ in connection.stream_frames():
            assert kind not in (RST_STREAM, GOAWAY), (kind, stream)
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                answered += 1
                if answered == total:
                    break
                open_more(1)
        return answered


def test_oversized_headers_on_http1(victim):
    with serves_meanwhile(victim, "headers, HTTP/1", MAX_MIB):
        for _ in range(CONNECTIONS):
            with socket.create_connection(("127.0.0.1", victim.rest_port), TIMEOUT) as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET / HTTP/1.1\r\nX-Large: ")
                    for _ in range(64):
                        connection.sendall(b"x" * MIB)
                    reply = connection.recv(100)
                    assert reply.startswith(b"HTTP/1.1 431") or not reply


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_endless_headers_on_http2(victim, port):
    block = request_headers("GET", STATUS, *[(f"x-{i}", "y" * 100) for i in range(150)])
    with serves_meanwhile(victim, f"headers, {port}", MAX_MIB):
        with Http2(getattr(victim, port)) as connection:
            connection.accept_settings()
            ended = False
            try:
                connection.send(HEADERS, END_STREAM, block, 1)
                for _ in range(10_000):
                    connection.send(CONTINUATION, 0, block[-16_000:], 1)
            except OSError:
                ended = True
            assert ended, "the server reads headers without end"


NAMES = [
    "../../../../etc/passwd",
    "..",
    ".",
    "half_plus_two/../half_plus_two",
    "half_plus_two/versions/1",
    "/etc/passwd",
    "half_plus_two\0",
    "half_plus_two\n",
    "%2e%2e%2f",
    "\u202ehalf",
    "x" * 100_000,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:24])
def test_names_that_are_paths_name_nothing(victim, name):
    with grpc.insecure_channel(victim.grpc_address) as channel:
        request = predict_request(name, x=[1.0])
        with refused(grpc.StatusCode.NOT_FOUND):
            prediction(channel).Predict(request, timeout=TIMEOUT)
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    for path in (f"/v1/models/{quoted}", f"/v1/models/{quoted}/metadata"):
        status, _, body = victim.rest("GET", path)
        # Or the path is too long.
        assert status in (404, 414, 431), path[:100]
        assert b"root:" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/v1/models/../../../../etc/passwd",
        "/v1/models/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/v1/../healthz",
        "/v1/models/half_plus_two/versions/../../../../etc/passwd",
        "http://localhost/etc/passwd",
    ],
)
def test_paths_lead_nowhere(victim, path):
    status, _, body = victim.rest("GET", path)
    assert status in (400, 404), path
    assert b"root:" not in body


def test_requests_without_sense(victim):
    """Fields that name what is not there are errors of the request alone."""
    with grpc.insecure_channel(victim.grpc_address) as channel:
        request = predict_request("half_plus_two", x=[1.0])
        request.model_spec.signature_name = "../serving_default"
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            prediction(channel).Predict(request, timeout=TIMEOUT)
        request = predict_pb2.PredictRequest()
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            prediction(channel).Predict(request, timeout=TIMEOUT)
