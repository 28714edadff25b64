"""Failed requests are counted with the version and signature that they got to; those whose message
never arrived are counted as well."""

import socket
import struct

import grpc
import pytest

from grpc_calls import TIMEOUT, predict_request, prediction, refused
from model_server import poll
from raw_http2 import ACK, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, Http2, grpc_headers


def count(server, **labels):
    """The value of `onnx_model_server_requests_total` for these labels."""
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    for line in server.rest("GET", "/metrics")[2].decode().splitlines():
        if line.startswith("onnx_model_server_requests_total{"):
            if all(label in line for label in wanted):
                return int(line.split()[-1])
    return 0


@pytest.mark.parametrize(
    ("protocol", "signature", "labels"),
    [
        ("grpc", "", ("1", "serving_default", "INVALID_ARGUMENT")),
        ("rest", "", ("1", "serving_default", "INVALID_ARGUMENT")),
        ("grpc", "invented", ("1", "", "FAILED_PRECONDITION")),
        ("rest", "invented", ("1", "", "INVALID_ARGUMENT")),
    ],
)
def test_failures_have_their_version(server, protocol, signature, labels):
    version, known_signature, code = labels
    labels = dict(
        model="half_plus_two",
        version=version,
        signature=known_signature,
        protocol=protocol,
        method="predict",
        code=code,
    )
    before = count(server, **labels)
    if protocol == "rest":
        body = f'{{"signature_name": "{signature or "serving_default"}", "instances": ["no"]}}'
        assert server.predict_rest("half_plus_two", body)[0] == 400
    else:
        with grpc.insecure_channel(server.grpc_address) as channel:
            request = predict_request("half_plus_two", signature, no=[1.0])
            with refused(getattr(grpc.StatusCode, code)):
                prediction(channel).Predict(request, timeout=TIMEOUT)
    poll(lambda: count(server, **labels) == before + 1)


@pytest.mark.parametrize("end", ["reset", "close"])
def test_calls_whose_client_leaves_within_the_message(server, end):
    labels = dict(model="", protocol="grpc", method="predict", code="CANCELLED")
    before = count(server, **labels)
    with Http2(server.grpc_port) as connection:
        connection.accept_settings()
        block = grpc_headers("/tensorflow.serving.PredictionService/Predict")
        connection.send(HEADERS, END_HEADERS, block, 1)
        # Ten bytes of a hundred.
        connection.send(DATA, 0, struct.pack(">BI", 0, 100) + bytes(10), 1)
        # The answer shows that the server has read up to here.
        connection.send(PING, 0, bytes(8))
        connection.wait_for(PING, ACK)
        if end == "reset":
            connection.send(RST_STREAM, 0, struct.pack(">I", 8), 1)
            poll(lambda: count(server, **labels) == before + 1)
    poll(lambda: count(server, **labels) == before + 1)


def test_rest_requests_whose_client_leaves_within_the_body(server):
    labels = dict(protocol="rest", method="predict", code="CANCELLED")
    before = count(server, **labels)
    with socket.create_connection(("127.0.0.1", server.rest_port), TIMEOUT) as connection:
        head = "POST /v1/models/half_plus_two:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + bytes(10))
    poll(lambda: count(server, **labels) == before + 1)


def test_a_malformed_body_is_the_clients_error(server):
    with socket.create_connection(("127.0.0.1", server.rest_port), TIMEOUT) as connection:
        head = "POST /v1/models/half_plus_two:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"not a size\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
