"""Each bound that a flag sets, just reached and just passed."""

import contextlib
import gzip
import http.client
import json
import pathlib
import socket

import grpc
import numpy as np
import pytest

from grpc_calls import (
    ENDLESS,
    TIMEOUT,
    model_flags,
    predict_request,
    prediction,
    refused,
    slow_request,
)
from model_server import PROJECT, poll
from raw_http2 import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    SETTINGS,
    PREFACE,
    Http2,
    frame,
    request_headers,
)

FLAGS = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
]
PREDICT = "/v1/models/half_plus_two:predict"
STATUS = "/v1/models/half_plus_two"


@pytest.fixture(scope="module")
def bounded(start_server):
    flags = ["--max_connections=8", "--max_request_bytes=5000", "--max_decompressed_bytes=9000"]
    flags += ["--max_header_bytes=10000", "--rest_api_max_json_depth=3"]
    flags += ["--rest_api_idle_timeout_seconds=1", "--stall_timeout_seconds=2"]
    return start_server([*FLAGS, *flags], ["half_plus_two"])


def grpc_predict(server, count, compression=None):
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=options) as channel:
        request = predict_request("half_plus_two", x=np.zeros(count, np.float32))
        reply = prediction(channel).Predict(request, timeout=TIMEOUT, compression=compression)
        return len(reply.outputs["y"].float_val)


def test_message_size(bounded):
    assert grpc_predict(bounded, 1000) == 1000
    text = "SERVER: Received message larger than max ("
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, starts=text):
        grpc_predict(bounded, 1300)
    body = json.dumps({"instances": [1.0]})
    assert bounded.predict_rest("half_plus_two", body.ljust(5000))[0] == 200
    status, text = bounded.predict_rest("half_plus_two", body.ljust(5001))
    assert (status, b"larger than 5000 bytes" in text) == (429, True)


def test_decompressed_size(bounded):
    assert grpc_predict(bounded, 2000, grpc.Compression.Gzip) == 2000
    assert grpc_predict(bounded, 2000, grpc.Compression.Deflate) == 2000
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, contains="9000 bytes"):
            grpc_predict(bounded, 3000, compression)
    body = json.dumps({"instances": [1.0]})
    for length, status in [(9000, 200), (9001, 400)]:
        gzipped = gzip.compress(body.ljust(length).encode())
        headers = {"Content-Encoding": "gzip"}
        assert bounded.rest("POST", PREDICT, gzipped, headers)[0] == status


def test_header_size(bounded):
    for length, status in [(8000, 200), (30_000, 431)]:
        assert bounded.rest("GET", STATUS, headers={"X-Large": "x" * length})[0] == status
    for length, is_fine in [(8000, True), (12_000, False)]:
        with Http2(bounded.rest_port) as connection:
            block = request_headers("GET", STATUS, ("x-large", "x" * length))
            connection.send(HEADERS, END_HEADERS | END_STREAM, block, 1)
            answers = (payload for kind, _, payload in connection.frames() if kind == HEADERS)
            # `:status: 200` is one byte (RFC 7541, appendix A).
            assert next(answers).startswith(b"\x88") == is_fine


def test_json_depth(bounded):
    for depth, is_refused in [(2, False), (3, True)]:
        body = '{"instances": ' + "[" * depth + "]" * depth + "}"
        status, text = bounded.predict_rest("half_plus_two", body)
        assert (status == 429, b"--rest_api_max_json_depth" in text) == (is_refused, is_refused)


def test_idle_connections_make_room(bounded):
    address = ("127.0.0.1", bounded.grpc_port)
    # A client of an earlier test might not be disconnected yet.
    poll(lambda: connections(bounded.grpc_port) == 0)
    open_ones = [socket.create_connection(address, TIMEOUT) for _ in range(8)]
    try:
        assert grpc_predict(bounded, 1) == 1
        # Earlier messages of the server come first.
        while not is_closed(open_ones[0]):
            pass
        assert connections(bounded.grpc_port) <= 8
    finally:
        for connection in open_ones:
            connection.close()


def test_connections_that_all_work(start_server):
    server = start_server([*model_flags("slow"), "--max_connections=2"], ["slow"])
    options = [("grpc.use_local_subchannel_pool", 1)]
    with contextlib.ExitStack() as held:
        for _ in range(2):
            channel = grpc.insecure_channel(server.grpc_address, options=options)
            held.enter_context(channel)
            held.callback(prediction(channel).Predict.future(slow_request(ENDLESS)).cancel)

        def in_flight():
            page = server.rest("GET", "/metrics")[2].decode().splitlines()
            lines = [it for it in page if it.startswith("onnx_model_server_requests_in_flight{")]
            return sum(float(it.rpartition(" ")[2]) for it in lines)

        poll(lambda: in_flight() == 2)
        address = ("127.0.0.1", server.grpc_port)
        with socket.create_connection(address, TIMEOUT) as one_more:
            assert is_closed(one_more)
        poll(lambda: "2 (--max_connections)" in server.log())
        name = "onnx_model_server_connections_refused_total"
        page = server.rest("GET", "/metrics")[2].decode()
        assert f'{name}{{port="grpc"}} 1' in page.splitlines()
        assert f'{name}{{port="rest"}} 0' in page.splitlines()


def is_closed(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def connections(port):
    """How many connections the server has on this port."""
    established, close_wait = "01", "08"
    count = 0
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            is_ours = int(local.rpartition(":")[2], 16) == port
            count += is_ours and state in (established, close_wait)
    return count


def test_idle_connections_end(bounded):
    connection = http.client.HTTPConnection("127.0.0.1", bounded.rest_port, timeout=TIMEOUT)
    connection.request("GET", STATUS)
    reply = connection.getresponse()
    assert (reply.status, bool(reply.read())) == (200, True)
    assert is_closed(connection.sock)
    with Http2(bounded.rest_port) as connection:
        block = request_headers("GET", STATUS)
        connection.send(HEADERS, END_HEADERS | END_STREAM, block, 1)
        connection.wait_for(GOAWAY)


@pytest.mark.parametrize(
    ("port", "beginning"),
    [
        ("rest_port", b""),
        ("rest_port", b"GET / HTTP/1.1\r\nX-"),
        ("grpc_port", b""),
        ("grpc_port", PREFACE[:10]),
        # A frame of one mebibyte, most of which is missing.
        ("grpc_port", PREFACE + frame(SETTINGS) + b"\x0f\xff\xff\0\0\0\0\0\1ab"),
        ("rest_port", PREFACE + frame(SETTINGS) + b"\0\0\5\1"),
    ],
)
def test_stalled_beginnings_end(bounded, port, beginning):
    with socket.create_connection(("127.0.0.1", getattr(bounded, port)), TIMEOUT) as connection:
        connection.sendall(beginning)
        while not is_closed(connection):
            pass


def test_stalled_bodies_end(bounded):
    with socket.create_connection(("127.0.0.1", bounded.rest_port), TIMEOUT) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 504 ")
    with Http2(bounded.grpc_port) as connection:
        block = request_headers(
            "POST",
            "/tensorflow.serving.PredictionService/Predict",
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
        connection.send(HEADERS, END_HEADERS, block, 1)
        # An answer of headers alone is a refusal.
        connection.wait_for(HEADERS, END_HEADERS | END_STREAM)


@pytest.fixture(scope="module")
def stalling(start_server):
    """Takes large requests, and gives up who does not take the answer."""
    return start_server([*FLAGS, "--stall_timeout_seconds=1"], ["half_plus_two"])


LARGE = json.dumps({"instances": [1.0] * 2_000_000})


def test_unread_answers_end_on_http1(stalling):
    with socket.create_connection(("127.0.0.1", stalling.rest_port), TIMEOUT) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LARGE)}\r\n\r\n"
        connection.sendall(head.encode() + LARGE.encode())
        # The client reads nothing, until the server gives up the connection.
        poll(lambda: connections(stalling.rest_port) == 1)
        poll(lambda: connections(stalling.rest_port) == 0)


def test_unread_answers_end_on_http2(stalling):
    """The client lets no byte of the answer come, though it reads and pings."""
    with socket.create_connection(("127.0.0.1", stalling.rest_port), TIMEOUT) as connection:
        # SETTINGS_INITIAL_WINDOW_SIZE = 0.
        no_window = b"\0\4\0\0\0\0"
        block = request_headers("GET", STATUS)
        connection.sendall(
            PREFACE
            + frame(SETTINGS, 0, no_window)
            + frame(HEADERS, END_HEADERS | END_STREAM, block, 1)
        )
        while not is_closed(connection):
            pass
