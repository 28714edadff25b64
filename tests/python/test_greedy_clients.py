"""Clients that take whatever the server gives, each beside a good one: it is answered all the time,
and memory, connections and threads stay within their bounds.
"""

import concurrent.futures
import contextlib
import http.client
import itertools
import os
import pathlib
import resource
import socket
import struct
import threading
import time

import grpc
import numpy as np
import pytest

from credentials import basic, hashed
from good_client import serves_meanwhile
from grpc_calls import (
    GRPC_MODELS,
    TIMEOUT,
    predict_request,
    prediction,
    refused,
    slow_request,
)
from model_server import PROJECT, peak_memory_mib, poll
from process_usage import Usage
from raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2,
    frame,
    grpc_headers,
    request_headers,
)


FLAGS = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
    "--enable_grpc_healthcheck_service",
]
PROFILE = "/tensorflow.ProfilerService/Profile"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
STATUS = "/v1/models/half_plus_two"

PROC = pathlib.Path("/proc")

# Many runs of this many steps last for minutes; each step takes some memory.
STEPS = 400_000

# The server's own memory, and the growth that attacks are allowed to cause.
MAX_MIB = 250


@pytest.fixture(scope="module")
def victim(start_server):
    return start_server([*FLAGS, "--stall_timeout_seconds=2"], ["half_plus_two"])


def raw_call(channel, method, payload, timeout=TIMEOUT):
    return channel.unary_unary(method)(payload, timeout=timeout)


# Bytes before a request.


UNKNOWN_FRAME = 0x55
# The limits of headers and frames are 64 and 16 KiB; each connection has buffers of its own.
MAX_OF_CONNECTION = 100 << 10


@pytest.mark.parametrize(
    ("port", "beginning"),
    [
        ("grpc_port", PREFACE + frame(SETTINGS) + frame(UNKNOWN_FRAME, payload=bytes(1 << 20))),
        ("rest_port", b"GET /v1/models/half_plus_two HTTP/1.1\r\nx: " + b"x" * 380_000),
    ],
    ids=["frame", "headers"],
)
def test_unfinished_beginnings_take_little_memory(start_server, port, beginning):
    server = start_server(FLAGS, ["half_plus_two"])
    count, before = 200, Usage(server.process.pid).resident
    with (
        serves_meanwhile(server, f"{count} unfinished beginnings", MAX_MIB),
        contextlib.ExitStack() as held,
    ):
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", getattr(server, port)), TIMEOUT)
            held.enter_context(connection)
            # A connection that is refused accepts no more bytes.
            with contextlib.suppress(ConnectionError):
                connection.sendall(beginning[:-100])
        held_bytes = Usage(server.process.pid).resident - before
    print(f"{held_bytes >> 20} MiB for {count} connections")
    assert held_bytes < count * MAX_OF_CONNECTION
    # The memory is released, although no request was sent.
    poll(lambda: Usage(server.process.pid).resident < before + (16 << 20) + (10 << 20))


# The services in addition to TensorFlow Serving's.


@pytest.mark.parametrize("method", [PROFILE, HEALTH, WATCH, REFLECTION, "/no.Such/Method"])
def test_large_messages_to_small_services_are_refused_unread(victim, method):
    large = bytes(100 << 20)
    with serves_meanwhile(victim, f"large messages to {method}", MAX_MIB):
        for _ in range(4):
            options = [("grpc.max_send_message_length", -1)]
            with grpc.insecure_channel(victim.grpc_address, options=options) as channel:
                expected = grpc.StatusCode.RESOURCE_EXHAUSTED
                if method.startswith("/no."):
                    expected = grpc.StatusCode.UNIMPLEMENTED
                if method in (WATCH, REFLECTION):
                    call = channel.stream_stream(method)(iter([large]), timeout=TIMEOUT)
                    with refused(expected):
                        list(call)
                else:
                    with refused(expected):
                        raw_call(channel, method, large)


@pytest.mark.parametrize("method", [PROFILE, HEALTH, REFLECTION])
def test_unfinished_messages_to_small_services_take_no_memory(victim, method):
    with serves_meanwhile(victim, f"unfinished messages to {method}", MAX_MIB):
        with contextlib.ExitStack() as held:
            for _ in range(20):
                connection = held.enter_context(Http2(victim.grpc_port))
                connection.accept_settings()
                for stream in range(1, 21, 2):
                    connection.send(HEADERS, END_HEADERS, grpc_headers(method), stream)
                    # Three million bytes are announced, and most of them come.
                    announced = b"\0" + struct.pack(">I", 3_000_000)
                    with contextlib.suppress(ConnectionError):
                        connection.send(DATA, 0, announced + bytes(1_000_000), stream)
            # A message that is small enough, but whose end never comes.
            connection = held.enter_context(Http2(victim.grpc_port))
            connection.send(HEADERS, END_HEADERS, grpc_headers(method), 1)
            connection.send(DATA, 0, b"\0\0\0\0\x05ab", 1)
            poll_frames(connection, {RST_STREAM})


def poll_frames(connection, kinds):
    """Waits for a frame of one of these kinds that belongs to a stream."""
    for kind, _, stream, _ in connection.stream_frames():
        if kind in kinds and stream:
            return kind
    raise AssertionError("the connection ended")


def test_a_silent_stream_of_reflection_ends(victim):
    with Http2(victim.grpc_port) as connection:
        connection.send(HEADERS, END_HEADERS, grpc_headers(REFLECTION), 1)
        ended = (flags & END_STREAM for kind, flags, _ in connection.frames() if kind == HEADERS)
        assert any(ended)


# Answers that are not read.


def test_one_read_answer_does_not_keep_unread_ones(start_server):
    """Streams stall, while another of the connection is asked and read every now and then."""
    server = start_server([*FLAGS, "--stall_timeout_seconds=1"], ["half_plus_two"])
    count = 200_000
    body = b'{"instances": [' + b"1.0," * count + b"1.0]}"
    predict = request_headers("POST", f"{STATUS}:predict", ("content-length", str(len(body))))
    with Http2(server.rest_port) as connection:
        connection.accept_settings()
        stalled = [1, 3, 5]
        for stream in stalled:
            # Its answer does not fit into a window of 64 KiB.
            connection.send(HEADERS, END_HEADERS, predict, stream)
            for at in range(0, len(body), 16_000):
                connection.send(DATA, 0, body[at : at + 16_000], stream)
            connection.send(DATA, END_STREAM, b"", stream)
        stop = threading.Event()

        def ask():
            for stream in itertools.count(7, 2):
                if stop.wait(0.2):
                    return
                block = request_headers("GET", STATUS)
                connection.send(HEADERS, END_HEADERS | END_STREAM, block, stream)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            reset, answered = set(), 0
            for kind, flags, stream, _ in connection.stream_frames():
                answered += stream > 5 and bool(flags & END_STREAM)
                if kind == RST_STREAM:
                    reset.add(stream)
                if reset == set(stalled):
                    break
            assert reset == set(stalled)
            # The connection stays usable.
            before = answered
            for _, flags, stream, _ in connection.stream_frames():
                answered += stream > 5 and bool(flags & END_STREAM)
                if answered > before + 2:
                    break
            assert answered > before + 2
        finally:
            stop.set()
            asking.join()


def test_an_answer_that_is_taken_by_the_byte_is_given_up(start_server):
    server = start_server([*FLAGS, "--stall_timeout_seconds=1"], ["half_plus_two"])
    with socket.create_connection(("127.0.0.1", server.rest_port), TIMEOUT) as connection:
        one_byte = b"\0\4\0\0\0\1"
        block = request_headers("GET", STATUS)
        connection.sendall(
            PREFACE
            + frame(SETTINGS, 0, one_byte)
            + frame(HEADERS, END_HEADERS | END_STREAM, block, 1)
        )
        connection.settimeout(0.1)
        with contextlib.suppress(ConnectionError):
            deadline = time.monotonic() + TIMEOUT
            while time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    received = connection.recv(1 << 16)
                    # Closed, or the stream is reset.
                    if not received or frame(RST_STREAM, 0, b"\0\0\0\x08", 1) in received:
                        return
                # Too slow to read the whole answer in time.
                time.sleep(0.1)
                more = struct.pack(">I", 1)
                connection.sendall(frame(WINDOW_UPDATE, 0, more, 1))
            raise AssertionError("the client was never given up")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/openapi.json"])
def test_unread_pages_share_their_memory(start_server, path):
    server = start_server(FLAGS, ["half_plus_two"])
    # A page with many series is a large one.
    for number in range(300):
        server.rest("GET", f"/v1/models/none{number}")
    before = peak_memory_mib(server.process.pid)
    block = request_headers("GET", path)
    no_window = b"\0\4\0\0\0\0"
    with contextlib.ExitStack() as held:
        with serves_meanwhile(server, f"unread {path}", before + 120):
            for _ in range(10):
                connection = held.enter_context(
                    socket.create_connection(("127.0.0.1", server.rest_port), TIMEOUT)
                )
                streams = range(1, 2000, 2)
                requests = (frame(HEADERS, END_HEADERS | END_STREAM, block, it) for it in streams)
                connection.sendall(PREFACE + frame(SETTINGS, 0, no_window) + b"".join(requests))
            for _ in range(20):
                assert server.rest("GET", path)[0] == 200


# Bodies that arrive very slowly.


def test_a_body_that_trickles_is_given_up(victim):
    with socket.create_connection(("127.0.0.1", victim.rest_port), TIMEOUT) as connection:
        head = f"POST {STATUS}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode())
        connection.settimeout(0.1)
        answer = b""
        for _ in range(300):
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(100)
                break
        assert answer.startswith(b"HTTP/1.1 504 ")


# Descriptors.


def limit_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


def test_idle_connections_make_room(start_server):
    server = start_server(FLAGS, ["half_plus_two"], preexec_fn=limit_descriptors)
    with contextlib.ExitStack() as held:
        for number in range(520):
            port = (server.grpc_port, server.rest_port)[number % 2]
            address = ("127.0.0.1", port)
            connection = held.enter_context(socket.create_connection(address, TIMEOUT))
            if port == server.grpc_port:
                connection.sendall(PREFACE + frame(SETTINGS))
            if number % 10 == 0:
                # Probes and calls on connections of their own, while the others stay open.
                assert server.rest("GET", "/healthz")[0] == 200
        for _ in range(20):
            assert server.rest("GET", "/healthz")[0] == 200
            with grpc.insecure_channel(server.grpc_address) as channel:
                request = predict_request("half_plus_two", x=np.float32([1]))
                assert prediction(channel).Predict(request, timeout=TIMEOUT).outputs["y"]
    assert "cannot accept connections" not in server.log(limit=None)


def test_clients_that_come_back_keep_no_others_waiting(start_server):
    """More connections than there are places, each opened again as soon as it had to go."""
    server = start_server(FLAGS, ["half_plus_two"], preexec_fn=limit_descriptors)
    over = threading.Event()

    def comes_back():
        while not over.is_set():
            with contextlib.suppress(OSError):
                address = ("127.0.0.1", server.rest_port)
                with socket.create_connection(address, TIMEOUT) as connection:
                    connection.sendall(f"POST {STATUS}:predict HTTP/1.1\r\nHo".encode())
                    connection.settimeout(0.5)
                    while not over.is_set():
                        with contextlib.suppress(TimeoutError):
                            if not connection.recv(100):
                                break

    with concurrent.futures.ThreadPoolExecutor(260) as pool:
        attackers = [pool.submit(comes_back) for _ in range(260)]
        try:
            time.sleep(2)
            began = time.monotonic()
            for _ in range(20):
                assert server.rest("GET", STATUS)[0] == 200
            seconds = time.monotonic() - began
            print(f"20 requests on new connections took {seconds:.1f} s")
            # 5 s each, if connections were handled one after the other.
            assert seconds < 30
        finally:
            over.set()
        for each in attackers:
            each.result()


def test_a_connection_that_makes_room_says_so(start_server):
    server = start_server([*FLAGS, "--max_connections=2"], ["half_plus_two"])
    with contextlib.ExitStack() as held:
        first = held.enter_context(Http2(server.grpc_port))
        first.wait_for(SETTINGS, 1)
        for _ in range(3):
            held.enter_context(Http2(server.grpc_port)).wait_for(SETTINGS, 1)
        first.wait_for(GOAWAY)


def test_watches_make_room_for_calls(start_server):
    """A call that lasts needs no more of its connection than an idle client does."""
    server = start_server([*FLAGS, "--max_connections=4"], ["half_plus_two"])
    with contextlib.ExitStack() as held:
        for _ in range(8):
            connection = held.enter_context(Http2(server.grpc_port))
            connection.send(HEADERS, END_HEADERS, grpc_headers(WATCH), 1)
            connection.send(DATA, END_STREAM, b"\0\0\0\0\0", 1)
            connection.wait_for(DATA)
        with grpc.insecure_channel(server.grpc_address) as channel:
            request = predict_request("half_plus_two", x=np.float32([1]))
            assert prediction(channel).Predict(request, timeout=TIMEOUT).outputs["y"]


# Logins.


def test_wrong_passwords_leave_room_for_right_ones(start_server, tmp_path):
    config = tmp_path / "auth.config"
    config.write_text(
        "".join(
            f"identity {{ name: '{name}' password_argon2: '{hashed('hash_password', name)}' "
            "predict: '*' status: '*' }\n"
            for name in ("alice", "bob")
        )
    )
    server = start_server(
        [*FLAGS, f"--auth_config_file={config}"],
        ["half_plus_two"],
        headers=basic("alice", "alice"),
    )
    before = peak_memory_mib(server.process.pid)
    stop = threading.Event()
    statuses = set()

    def guess(thread):
        for number in itertools.count():
            if stop.is_set():
                return
            headers = basic(("bob", "mallory")[number % 2], f"{thread} {number}")
            connection = http.client.HTTPConnection(
                "127.0.0.1", server.rest_port, timeout=TIMEOUT, source_address=("127.0.0.2", 0)
            )
            with contextlib.closing(connection), contextlib.suppress(TimeoutError):
                connection.request("GET", STATUS, headers=headers)
                statuses.add(connection.getresponse().status)

    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        guesses = [pool.submit(guess, thread) for thread in range(30)]
        try:
            poll(lambda: 401 in statuses)
            # A first login from another address, and one that was correct before.
            began = time.monotonic()
            status, _, _ = server.rest("GET", STATUS, headers=basic("bob", "bob"))
            print(f"a right login took {time.monotonic() - began:.2f} s beside wrong ones")
            assert status == 200
            assert server.rest("GET", STATUS)[0] == 200
            time.sleep(2)
        finally:
            stop.set()
        for each in guesses:
            each.result()
    assert statuses <= {401, 429}
    peak = peak_memory_mib(server.process.pid)
    print(f"wrong passwords: {before:.0f} MiB before, peak {peak:.0f} MiB")
    # Two checks at a time, each with 19 MiB.
    assert peak < before + 100


def password_config(path, *names):
    path.write_text(
        "".join(
            f"identity {{ name: '{name}' password_argon2: '{hashed('hash_password', name)}' "
            "predict: '*' status: '*' }\n"
            for name in names
        )
    )
    return f"--auth_config_file={path}"


@contextlib.contextmanager
def guessing(port, threads, login, keeps_connection):
    """So many clients that each try what `login` says, of this host as all others are."""
    over, statuses = threading.Event(), set()

    def guess(thread):
        attempts = (basic(*login(thread, number)) for number in itertools.count())
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            with contextlib.closing(connection), contextlib.suppress(OSError):
                for headers in itertools.islice(attempts, 1000 if keeps_connection else 1):
                    if over.is_set():
                        return
                    connection.request("GET", STATUS, headers=headers)
                    reply = connection.getresponse()
                    reply.read()
                    statuses.add(reply.status)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        guesses = [pool.submit(guess, thread) for thread in range(threads)]
        try:
            poll(lambda: 401 in statuses)
            yield
        finally:
            over.set()
        for each in guesses:
            each.result()
    assert statuses <= {401, 429}


@pytest.mark.parametrize("keeps_connection", [True, False], ids=["kept", "fresh"])
def test_guesses_at_a_name_leave_room_for_its_user(start_server, tmp_path, keeps_connection):
    """From the same host, so that nothing else tells the two apart."""
    config = password_config(tmp_path / "auth.config", "alice", "bob")
    server = start_server([*FLAGS, config], ["half_plus_two"], headers=basic("bob", "bob"))

    def login(thread, number):
        return "alice", f"{thread} {number}"

    with guessing(server.rest_port, 150, login, keeps_connection):
        time.sleep(2)
        began = time.monotonic()
        status, _, _ = server.rest("GET", STATUS, headers=basic("alice", "alice"))
        print(f"a right login took {time.monotonic() - began:.2f} s beside wrong ones")
        assert status == 200


def test_a_wrong_login_that_is_repeated_costs_nothing(start_server, tmp_path):
    config = password_config(tmp_path / "auth.config", "alice", "bob")
    server = start_server([*FLAGS, config], ["half_plus_two"], headers=basic("bob", "bob"))
    for user in ("alice", "nobody"):
        assert server.rest("GET", STATUS, headers=basic(user, "wrong"))[0] == 401

    def login(thread, number):
        return ("alice", "nobody")[number % 2], "wrong"

    def processor_seconds():
        fields = (PROC / str(server.process.pid) / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = processor_seconds()
    for number in range(300):
        assert server.rest("GET", STATUS, headers=basic(*login(0, number)))[0] == 401
    # About 10 s, if they were checked each time.
    assert processor_seconds() - before < 4
    # The correct one is distinguished from them.
    assert server.rest("GET", STATUS, headers=basic("alice", "alice"))[0] == 200


def test_connections_that_wait_for_their_login_make_room(start_server, tmp_path):
    config = password_config(tmp_path / "auth.config", "alice", "bob")
    server = start_server(
        [*FLAGS, config],
        ["half_plus_two"],
        headers=basic("bob", "bob"),
        preexec_fn=limit_descriptors,
    )
    with contextlib.ExitStack() as held:
        for number in range(260):
            address = ("127.0.0.1", server.rest_port)
            connection = held.enter_context(socket.create_connection(address, TIMEOUT))
            [(name, value)] = basic(f"user {number}", "wrong").items()
            head = f"GET {STATUS} HTTP/1.1\r\nHost: x\r\n{name}: {value}\r\n\r\n"
            connection.sendall(head.encode())
            if number % 10 == 0:
                assert server.rest("GET", STATUS)[0] == 200
        for _ in range(10):
            assert server.rest("GET", STATUS)[0] == 200


# Runs.


def test_a_model_without_end_leaves_threads_to_others(start_server, tmp_path):
    config = tmp_path / "models.config"
    models = {"slow": GRPC_MODELS / "slow", "half_plus_two": PROJECT / "models" / "half_plus_two"}
    config.write_text(
        "model_config_list {"
        + "".join(
            f"config {{ name: '{name}' base_path: '{path}' model_platform: 'onnx' }}\n"
            for name, path in models.items()
        )
        + "}"
    )
    server = start_server([f"--model_config_file={config}"], list(models))
    with contextlib.ExitStack() as held:
        channels = [
            held.enter_context(
                grpc.insecure_channel(
                    server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            for _ in range(4)
        ]
        calls = [
            prediction(channels[number % 4]).Predict.future(slow_request(STEPS))
            for number in range(530)
        ]
        held.callback(lambda: [call.cancel() for call in calls])
        poll(lambda: b'slow",version="1"' in server.rest("GET", "/metrics")[2])
        with grpc.insecure_channel(server.grpc_address) as channel:
            for count in range(1, 30):
                # Of a size that no earlier run had, so it needs a thread.
                request = predict_request("half_plus_two", x=np.zeros(count * 1000, np.float32))
                reply = prediction(channel).Predict(request, timeout=TIMEOUT)
                assert len(reply.outputs["y"].float_val) == count * 1000
        # How many of them have ended depends on the machine's speed.
        assert not all(call.done() for call in calls)
