"""Answers that are ready before the body was read arrive, and what can stay open stays open.

TensorFlow Serving reads bodies whole before it looks at a request. Clients and proxies count on it:
many do not read before they have sent everything, some wait for `100 Continue` without end.
"""

import contextlib
import hashlib
import http.client
import socket
import threading
import time

import grpc
import pytest

from grpc_calls import (
    ENDLESS,
    TIMEOUT,
    model_flags,
    predict_request,
    prediction,
    slow_request,
)
from model_server import MODELS_FOLDER, ModelServer, free_ports, peak_memory_mib, poll
from raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    Http2,
    grpc_headers,
    request_headers,
)

FLAGS = ["--model_name=half_plus_two", f"--model_base_path={MODELS_FOLDER / 'half_plus_two'}"]
STATUS = "/v1/models/half_plus_two"
PREDICT = STATUS + ":predict"
MISTYPED = STATUS + "/predict"
MALFORMED = b'"error": "Malformed request: POST /v1/models/half_plus_two/predict"'
NO_ERROR = bytes(4)
MB = 1_000_000
MAX_REQUEST_BYTES = 500_000
# Far more than any limit, so that only a server that waits for ever fails.
PATIENCE = 60


@pytest.fixture(scope="module")
def server(start_server):
    flags = [f"--max_request_bytes={MAX_REQUEST_BYTES}", "--stall_timeout_seconds=2"]
    return start_server([*FLAGS, *flags], ["half_plus_two"])


@pytest.fixture(scope="module")
def guarded(start_server, tmp_path_factory):
    """A server with an admin port that asks for a token on both HTTP ports."""
    config = tmp_path_factory.mktemp("auth") / "auth.config"
    digest = hashlib.sha256(b"token").hexdigest()
    rights = "predict: 'other' status: '*'"
    config.write_text(f"identity {{ name: 'a' token_sha256: '{digest}' {rights} }}")
    [admin_port] = free_ports(1)
    flags = [f"--auth_config_file={config}", f"--admin_port={admin_port}", "--admin_host=127.0.0.1"]
    headers = {"authorization": "Bearer token"}
    server = start_server([*FLAGS, *flags], ["half_plus_two"], headers=headers)
    server.admin_port = admin_port
    return server


@pytest.fixture(scope="module")
def busy(start_server):
    """A server with one place for requests, which a run without end takes."""
    server = start_server([*model_flags("slow"), "--max_concurrent_requests=1"], ["slow"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        run = prediction(channel).Predict.future(slow_request(ENDLESS))
        poll(lambda: server.rest("GET", STATUS)[0] == 429)
        yield server
        run.cancel()


def open_request(port, path, length, *more):
    """A raw connection that has sent a POST's headers."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def read_reply(connection):
    """The status, the headers and the body of the next answer on a raw connection."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply.status, reply.headers, reply.read()


def pieces(size):
    """So many bytes as `http.client` sends them: without a length, and blind to an answer."""
    piece = bytes(MB)
    return (piece for _ in range(size // MB))


def exchange(connection, method, path, body, headers):
    connection.request(method, path, body=body, headers=headers)
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read()


def check(port, method, path, size, status, headers=None, is_page=False):
    """Sends a body that nobody wants; the answer comes, and the connection goes on if it may."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        for body in (bytes(size), pieces(size) if size >= MB else [bytes(size)]):
            answer = exchange(connection, method, path, body, headers or {})
            assert answer[0] == status, answer
            # As in TensorFlow Serving for its pages.
            assert answer[1]["Connection"] == ("close" if is_page else None)
            if not is_page:
                used = connection.sock
                assert exchange(connection, "GET", "/healthz", None, {})[0] == 200
                assert connection.sock is used
    finally:
        connection.close()


SIZES = pytest.mark.parametrize("size", [10, 200_000, 20 * MB])


@SIZES
@pytest.mark.parametrize(
    "method, path, status, is_page",
    [
        ("POST", MISTYPED, 400, False),
        ("PUT", PREDICT, 400, False),
        ("PATCH", PREDICT, 400, False),
        ("DELETE", PREDICT, 400, False),
        ("GET", STATUS, 200, False),
        ("POST", "/healthz", 404, True),
        ("POST", "/nothing", 404, True),
        ("PROPFIND", PREDICT, 501, True),
    ],
)
def test_wrong_requests(server, method, path, status, is_page, size):
    if (method, path) == ("GET", STATUS):
        path += "/nothing"
        status = 400
    check(server.rest_port, method, path, size, status, is_page=is_page)


def test_bodies_beyond_the_bound(server):
    for size in (MAX_REQUEST_BYTES + 1, 20 * MB):
        check(server.rest_port, "POST", PREDICT, size, 429)


@SIZES
def test_who_may_not_ask(guarded, size):
    check(guarded.rest_port, "POST", PREDICT, size, 401)
    check(guarded.rest_port, "POST", PREDICT, size, 403, guarded.headers)
    check(guarded.admin_port, "POST", "/v1/models", size, 401)
    check(guarded.admin_port, "POST", "/v1/models", size, 404, guarded.headers, is_page=True)


@SIZES
def test_requests_beyond_the_bound(busy, size):
    check(busy.rest_port, "POST", PREDICT, size, 429)


@pytest.mark.parametrize("path, status", [(MISTYPED, 400), ("/nothing", 404), (PREDICT, 429)])
@pytest.mark.parametrize("length", [{}, {"Content-Length": str(300 * MB)}])
def test_very_large_bodies(server, path, status, length):
    """Too large to be waited for, but the answer outlives what follows. None of it is held."""
    before = peak_memory_mib(server.process.pid)
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE)
    answer = exchange(connection, "POST", path, pieces(300 * MB), length)
    assert (answer[0], answer[1]["Connection"]) == (status, "close")
    connection.close()
    assert peak_memory_mib(server.process.pid) < before + 50


@pytest.mark.parametrize("path, status", [(MISTYPED, 400), (PREDICT, 200), (PREDICT, 400)])
@pytest.mark.parametrize("header", ["Expect: 100-continue", "expect: 100-Continue"])
def test_continue_where_it_is_expected(server, path, status, header):
    body = b'{"instances": [1.0]}' if status == 200 else b'{"instances": [1.0 '
    with open_request(server.rest_port, path, len(body), header) as connection:
        for _ in range(2):
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            answer = read_reply(connection)
            assert (answer[0], answer[1]["Connection"]) == (status, None)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {len(body)}"
            connection.sendall(f"{head}\r\n\r\n".encode())


def test_continue_before_a_body_that_is_too_large(server):
    """Java's client waits for it even if another answer comes."""
    header = "Expect: 100-continue"
    with open_request(server.rest_port, MISTYPED, 300 * MB, header) as connection:
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in pieces(300 * MB):
            connection.sendall(piece)
        status, headers, body = read_reply(connection)
        assert (status, headers["Connection"]) == (400, "close")
        assert MALFORMED in body
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "sent, status",
    [
        (f"POST {MISTYPED} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: nine\r\n\r\n", 400),
        (f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nX-Large: {'x' * MB}\r\n\r\n", 431),
        (f"POST {PREDICT} NO HTTP\r\nHost: x\r\n\r\n", 400),
    ],
    ids=["chunk, refused", "chunk, read", "length", "headers", "version"],
)
def test_what_is_no_http_is_answered(server, sent, status):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=PATIENCE) as connection:
        connection.sendall(sent.encode())
        for piece in pieces(5 * MB):
            connection.sendall(piece)
        answer = read_reply(connection)
        assert (answer[0], answer[1]["Connection"]) == (status, "close")
        assert connection.recv(1) == b""


def test_a_client_that_stalls_is_answered(server):
    with open_request(server.rest_port, MISTYPED, 1000) as connection:
        connection.sendall(b"x")
        status, headers, body = read_reply(connection)
        assert (status, headers["Connection"]) == (400, "close")
        assert MALFORMED in body
        # There is time to send the rest.
        connection.sendall(b"x")
        assert connection.recv(1) == b""


def test_a_stop_does_not_wait_for_a_body(tmp_path):
    server = ModelServer(FLAGS, ["half_plus_two"], tmp_path / "log")
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        unfinished = stack.enter_context(open_request(server.rest_port, MISTYPED, 1000))
        lingering = stack.enter_context(open_request(server.rest_port, MISTYPED, 300 * MB))
        assert read_reply(lingering)[0] == 400
        unfinished.sendall(b"x")
        # It has arrived once a later request is answered.
        assert server.rest("GET", "/healthz")[0] == 200
        server.process.terminate()
        status, headers, _ = read_reply(unfinished)
        assert (status, headers["Connection"]) == (400, "close")
        assert server.process.wait(PATIENCE) == 0


def read_answer(connection, stream):
    """Reads to the end of an answer; nothing else ends the stream."""
    for kind, flags, number, payload in connection.stream_frames():
        if number == stream:
            assert kind in (HEADERS, DATA), (kind, flags, payload)
            if flags & END_STREAM:
                return
    raise AssertionError("the connection ended")


def read_resets(connection, streams):
    """Waits until each of these streams was reset, and returns the reasons."""
    reasons = {}
    for kind, _, number, payload in connection.stream_frames():
        if kind == RST_STREAM:
            reasons[number] = payload
        if reasons.keys() == set(streams):
            break
    return reasons


HTTP2_REQUESTS = pytest.mark.parametrize(
    "port, headers",
    [
        ("rest_port", request_headers("POST", MISTYPED)),
        ("rest_port", request_headers("POST", "/nothing")),
        ("grpc_port", grpc_headers("/tensorflow.serving.PredictionService/Nothing")),
        ("grpc_port", grpc_headers("/nothing")),
    ],
    ids=["malformed", "page", "method", "service"],
)


@HTTP2_REQUESTS
def test_http2_streams_end_after_their_answer(server, port, headers):
    streams = range(1, 20, 2)
    with Http2(getattr(server, port)) as connection:
        connection.accept_settings()
        for stream in streams:
            connection.send(HEADERS, END_HEADERS, headers, stream)
            read_answer(connection, stream)
            # Together they are larger than the connection's window.
            for _ in range(150):
                connection.send(DATA, 0, bytes(16_000), stream)
        assert read_resets(connection, streams) == dict.fromkeys(streams, NO_ERROR)


@HTTP2_REQUESTS
def test_http2_bodies_may_follow_their_answer(server, port, headers):
    """Java's client waits without end for an answer that is followed by a reset while it sends."""
    with Http2(getattr(server, port)) as connection:
        connection.accept_settings()
        for stream in range(1, 20, 2):
            connection.send(HEADERS, END_HEADERS, headers, stream)
            read_answer(connection, stream)
            for _ in range(150):
                connection.send(DATA, 0, bytes(16_000), stream)
            connection.send(DATA, END_STREAM, b"", stream)
        connection.send(PING, 0, bytes(8))
        kinds = set()
        for kind, flags, _ in connection.frames():
            kinds.add(kind)
            if kind == PING and flags & ACK:
                break
        assert not kinds & {RST_STREAM, GOAWAY}


def test_http2_refusals_end_after_their_answer(guarded, busy):
    method = "/tensorflow.serving.PredictionService/Predict"
    for port, headers in [
        (guarded.rest_port, request_headers("POST", PREDICT)),
        (guarded.grpc_port, grpc_headers(method)),
        (busy.rest_port, request_headers("POST", PREDICT)),
        (busy.grpc_port, grpc_headers(method)),
    ]:
        with Http2(port) as connection:
            connection.accept_settings()
            connection.send(HEADERS, END_HEADERS, headers, 1)
            connection.send(DATA, 0, bytes(16_000), 1)
            read_answer(connection, 1)
            assert read_resets(connection, [1]) == {1: NO_ERROR}


def test_grpc_clients_see_the_refusal(guarded, server):
    """Of messages larger than all windows."""
    request = predict_request("half_plus_two", x=[1.0] * (20 * MB // 4))
    for refusing, code in [
        (guarded, grpc.StatusCode.UNAUTHENTICATED),
        (server, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ]:
        with grpc.insecure_channel(refusing.grpc_address) as channel:
            for _ in range(3):
                with pytest.raises(grpc.RpcError) as refusal:
                    prediction(channel).Predict(request, timeout=TIMEOUT)
                assert refusal.value.code() == code


def test_others_are_served_meanwhile(server):
    """Bodies that are thrown away take no place and hold up no request."""
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE)
            assert exchange(connection, "POST", MISTYPED, pieces(100 * MB), {})[0] == 400
            connection.close()

    floods = [threading.Thread(target=flood) for _ in range(2)]
    for each in floods:
        each.start()
    try:
        for _ in range(50):
            assert server.predict_rest("half_plus_two", '{"instances": [1.0]}')[0] == 200
    finally:
        stop.set()
        for each in floods:
            each.join()
