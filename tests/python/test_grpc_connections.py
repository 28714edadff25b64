"""How clients reach the gRPC port: Unix socket, channel arguments, keepalive."""

import socket
import struct
import subprocess
import time

import grpc
import numpy as np
import pytest

from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import BINARY, LIBRARY, PROJECT, ModelServer, free_ports
from raw_http2 import ACK, GOAWAY, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, PING, SETTINGS, Http2

HALF_PLUS_TWO = [
    "--model_name=half_plus_two",
    f"--model_base_path={PROJECT / 'models' / 'half_plus_two'}",
]


def predict_over(channel):
    request = predict_request("half_plus_two", x=np.float32([2]))
    response = prediction(channel).Predict(request, timeout=TIMEOUT)
    return list(response.outputs["y"].float_val)


def test_unix_socket_beside_the_port(tmp_path):
    path = tmp_path / "grpc.sock"
    # A socket file left by a server that was killed does not matter.
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    flags = [*HALF_PLUS_TWO, f"--grpc_socket_path={path}"]
    server = ModelServer(flags, ["half_plus_two"], tmp_path / "server.log")
    try:
        for address in (f"unix:{path}", server.grpc_address):
            with grpc.insecure_channel(address) as channel:
                for _ in range(3):
                    assert predict_over(channel) == [3.0]
        assert f"Running gRPC ModelServer at UNIX socket {path}" in server.log()
    finally:
        server.stop()
    assert not path.exists()


def test_port_that_is_taken_ends_the_start():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        ended = start_and_wait([*HALF_PLUS_TWO, f"--port={taken.getsockname()[1]}"])
    assert ended.returncode != 0
    assert "Failed to BuildAndStart gRPC server" in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    ["novalue", "grpc.max_concurrent_streams=many", "grpc.keepalive_time_ms=1,oops"],
)
def test_malformed_channel_arguments_end_the_start(arguments):
    (port,) = free_ports(1)
    flags = [*HALF_PLUS_TWO, f"--port={port}", f"--grpc_channel_arguments={arguments}"]
    ended = start_and_wait(flags)
    assert ended.returncode != 0
    assert "grpc_channel_arguments" in ended.stdout


def start_and_wait(flags):
    """Runs the server until it ends by itself."""
    return subprocess.run(
        [str(BINARY), f"--onnxruntime_library={LIBRARY}", *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def settings(payload):
    return dict(struct.unpack(">HI", payload[at : at + 6]) for at in range(0, len(payload), 6))


def test_channel_arguments_take_effect(start_server):
    arguments = (
        "grpc.max_concurrent_streams=7,grpc.http2.max_frame_size=65536,"
        "grpc.keepalive_time_ms=300,grpc.keepalive_timeout_ms=500,grpc.no_such_thing=x"
    )
    server = start_server(
        [*HALF_PLUS_TWO, f"--grpc_channel_arguments={arguments}"], ["half_plus_two"]
    )
    with Http2(server.grpc_port) as connection:
        announced = settings(connection.wait_for(SETTINGS))
        assert announced[MAX_CONCURRENT_STREAMS] == 7
        assert announced[MAX_FRAME_SIZE] == 65536

        # The server pings a quiet peer, again and again while the peer answers,
        for _ in range(2):
            ping = connection.wait_for(PING)
            connection.send(PING, ACK, ping)
        # and closes the connection when it does not.
        started = time.monotonic()
        for _ in connection.frames():
            pass
        assert time.monotonic() - started < 10
    with grpc.insecure_channel(server.grpc_address) as channel:
        assert predict_over(channel) == [3.0]
    assert "grpc.no_such_thing has no effect" in server.log()


def test_old_connections_are_asked_to_end(start_server):
    server = start_server(
        [*HALF_PLUS_TWO, "--grpc_channel_arguments=grpc.max_connection_age_ms=500"],
        ["half_plus_two"],
    )
    with Http2(server.grpc_port) as connection:
        connection.wait_for(GOAWAY)
    # Clients reconnect by themselves.
    with grpc.insecure_channel(server.grpc_address) as channel:
        for _ in range(4):
            assert predict_over(channel) == [3.0]
            time.sleep(0.3)


def test_pings_are_answered(server):
    with Http2(server.grpc_port) as connection:
        for number in range(20):
            payload = struct.pack(">Q", number)
            connection.send(PING, 0, payload)
            assert connection.wait_for(PING, ACK) == payload


def test_a_client_that_pings_keeps_its_connection(server):
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(server.grpc_address, options=options) as channel:
        seen = []
        channel.subscribe(seen.append)
        assert predict_over(channel) == [3.0]
        time.sleep(1.5)
        assert predict_over(channel) == [3.0]
        assert seen[-1] == grpc.ChannelConnectivity.READY
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in seen
