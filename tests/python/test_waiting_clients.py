"""Clients that have the server wait for them, each beside a good one: however many requests are not sent
wholly and however many answers are not read, others are answered, and memory stays within its bounds.
"""

import contextlib
import socket
import time

import grpc
import pytest

from good_client import BODY, serves_meanwhile
from grpc_calls import TIMEOUT
from model_server import PROJECT, peak_memory_mib, poll
from raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    Http2,
    frame,
    grpc_headers,
    request_headers,
)

# A small number, so that a few connections reach it.
MAX_REQUESTS = 200
FLAGS = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
    "--enable_grpc_healthcheck_service",
    f"--max_concurrent_requests={MAX_REQUESTS}",
]
STATUS = "/v1/models/half_plus_two"
PREDICT = f"{STATUS}:predict"
PREDICT_RPC = "/tensorflow.serving.PredictionService/Predict"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MAX_MIB = 250
MAX_FRAME = 16_000
NO_WINDOW = b"\0\4\0\0\0\0"
EMPTY_MESSAGE = b"\0\0\0\0\0"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server(FLAGS, ["half_plus_two"])


def headers_frames(block, stream):
    """Headers of any size, of a request whose body does not come."""
    first, rest = block[:MAX_FRAME], block[MAX_FRAME:]
    frames = frame(HEADERS, 0 if rest else END_HEADERS, first, stream)
    while rest:
        piece, rest = rest[:MAX_FRAME], rest[MAX_FRAME:]
        frames += frame(CONTINUATION, 0 if rest else END_HEADERS, piece, stream)
    return frames


def send_calls(connection, block, count):
    """As many as the connection takes."""
    with contextlib.suppress(ConnectionError):
        for stream in range(1, 2 * count, 2):
            connection.socket.sendall(headers_frames(block, stream))


def answers_newcomers(server):
    """On connections of their own."""
    for _ in range(20):
        answer = server.rest("POST", PREDICT, BODY.encode())
        assert answer[0] == 200, answer


@pytest.mark.parametrize("method", [PREDICT_RPC, "/tensorflow.serving.ModelService/GetModelStatus"])
def test_calls_without_a_message_make_room(server, method):
    with serves_meanwhile(server, f"calls without a message to {method}", MAX_MIB):
        with contextlib.ExitStack() as held:
            for _ in range(8):
                connection = held.enter_context(Http2(server.grpc_port))
                connection.accept_settings()
                send_calls(connection, grpc_headers(method), 100)
            answers_newcomers(server)


@pytest.mark.parametrize("begun", [b"", b"{"], ids=["none", "begun"])
def test_bodies_that_do_not_come_make_room(server, begun):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    with serves_meanwhile(server, "bodies that do not come", MAX_MIB):
        with contextlib.ExitStack() as held:
            for _ in range(MAX_REQUESTS + 100):
                address = ("127.0.0.1", server.rest_port)
                connection = held.enter_context(socket.create_connection(address, TIMEOUT))
                connection.sendall(head.encode() + begun)
            answers_newcomers(server)


def test_one_that_makes_room_is_told(start_server):
    server = start_server([*FLAGS, "--max_concurrent_requests=1"], ["half_plus_two"])
    with Http2(server.grpc_port) as connection:
        connection.send(HEADERS, END_HEADERS, grpc_headers(PREDICT_RPC), 1)
        # Otherwise it might be taken for one in flight.
        poll(lambda: server.rest("POST", PREDICT, BODY.encode())[0] == 200)
        is_told = []

        def has_made_room():
            assert server.rest("POST", PREDICT, BODY.encode())[0] == 200
            with contextlib.suppress(TimeoutError):
                connection.socket.settimeout(0.1)
                for kind, flags, stream, payload in connection.stream_frames():
                    if kind == HEADERS and stream == 1 and flags & END_STREAM:
                        is_told.append(payload)
                        break
            return is_told

        poll(has_made_room)


@pytest.mark.parametrize("path", [PREDICT, "/healthz"])
def test_unread_small_answers_make_room(server, path):
    """Their client gives them no window."""
    body = BODY.encode() if path == PREDICT else b""
    method = "POST" if body else "GET"
    block = request_headers(method, path, ("content-length", str(len(body))))
    with serves_meanwhile(server, f"unread answers of {path}", MAX_MIB):
        with contextlib.ExitStack() as held:
            for _ in range(8):
                address = ("127.0.0.1", server.rest_port)
                connection = held.enter_context(socket.create_connection(address, TIMEOUT))
                connection.sendall(PREFACE + frame(SETTINGS, 0, NO_WINDOW))
                for stream in range(1, 200, 2):
                    request = frame(HEADERS, END_HEADERS, block, stream)
                    connection.sendall(request + frame(DATA, END_STREAM, body, stream))
            answers_newcomers(server)


@pytest.mark.parametrize("method", [PREDICT_RPC, HEALTH])
def test_headers_of_unfinished_calls_share_their_memory(start_server, method):
    flags = [*FLAGS, "--max_concurrent_requests=65536", "--max_bytes_in_flight=30000000"]
    server = start_server(flags, ["half_plus_two"])
    block = grpc_headers(method, ("x-pad", "p" * 60_000))
    before = peak_memory_mib(server.process.pid)
    with serves_meanwhile(server, f"large headers of calls to {method}", before + 150):
        with contextlib.ExitStack() as held:
            for _ in range(8):
                connection = held.enter_context(Http2(server.grpc_port))
                connection.accept_settings()
                send_calls(connection, block, 1000)
            answers_newcomers(server)


@pytest.mark.parametrize(
    ("method", "payload", "count"), [(WATCH, EMPTY_MESSAGE, 64), (REFLECTION, b"", 16)]
)
def test_the_newest_of_a_connection_is_let_in(server, method, payload, count):
    """Calls that last, of which a connection has a number."""
    with Http2(server.grpc_port) as connection:
        for stream in range(1, 2 * (count + 1), 2):
            connection.send(HEADERS, END_HEADERS, grpc_headers(method), stream)
            if payload:
                connection.send(DATA, END_STREAM, payload, stream)
            if stream < 2 * count:
                connection.wait_for(HEADERS, END_HEADERS)
        for kind, flags, stream, _ in connection.stream_frames():
            if kind == HEADERS and flags & END_STREAM:
                assert stream == 1
                return
        raise AssertionError("the connection ended")


def test_many_that_reflect_leave_room(server):
    """As many streams as there may be, on connections without number."""
    with contextlib.ExitStack() as held:
        for _ in range(70):
            connection = held.enter_context(Http2(server.grpc_port))
            for stream in range(1, 32, 2):
                connection.send(HEADERS, END_HEADERS, grpc_headers(REFLECTION), stream)
        with grpc.insecure_channel(server.grpc_address) as channel:
            # Lists the services.
            for _ in range(3):
                call = channel.stream_stream(REFLECTION)(iter([b"\x3a\0"]), timeout=TIMEOUT)
                assert b"PredictionService" in next(call)


def test_bodies_that_keep_coming_unfinished_leave_room(start_server):
    """More come in a moment than there may be requests, so that none has waited for long."""
    server = start_server([*FLAGS, "--max_concurrent_requests=8"], ["half_plus_two"])
    head = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{\"i"
    with serves_meanwhile(server, "unfinished bodies", MAX_MIB), contextlib.ExitStack() as held:
        for _ in range(300):
            address = ("127.0.0.1", server.rest_port)
            connection = held.enter_context(socket.create_connection(address, TIMEOUT))
            connection.sendall(head)
            time.sleep(0.01)
