"""Hostile bytes on both ports: an error or a closed connection, and the next request works."""

import gzip
import random
import socket
import struct

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

ANSWER = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
PREDICT = "/v1/models/half_plus_two:predict"
PREDICT_RPC = "/tensorflow.serving.PredictionService/Predict"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TIMEOUT = 20
SEED = 20240229


@pytest.fixture(autouse=True)
def serves_afterwards(server):
    """After each of these tests both ports must answer as before."""
    yield
    assert server.is_running(), f"the server ended; its log:\n{server.log()}"
    assert server.predict_rest("half_plus_two", '{"instances":[1.0,2.0,5.0]}') == (200, ANSWER)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(good_request(), timeout=TIMEOUT)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert "panicked" not in server.log(limit=None)


def good_request():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 5.0]))
    return request


# Both ports, raw bytes.

# None, and prefixes that make the server read on as HTTP/2 or as HTTP/1.
PREFIXES = [b"", HTTP2_PREFACE, f"POST {PREDICT} HTTP/1.1\r\n".encode()]


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_random_bytes(server, port, prefix):
    generator = random.Random(SEED)
    for _ in range(20):
        noise = generator.randbytes(generator.randrange(1, 4000))
        send_raw(getattr(server, port), prefix + noise)


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_connections_that_say_nothing(server, port):
    silent = [
        socket.create_connection(("127.0.0.1", getattr(server, port)), TIMEOUT) for _ in range(50)
    ]
    for connection in silent:
        connection.close()


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_connections_that_are_reset(server, port):
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", getattr(server, port)), TIMEOUT)
        # Closing now sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"POST /v1")
        connection.close()


def send_raw(port, content):
    """Sends bytes, says that no more will come, and takes what comes back, whatever it is."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except TimeoutError:
            pytest.fail("the server keeps a connection whose client has said all")
        except OSError:
            # The server has closed the connection before it received everything.
            pass
    return bytes(received)


# REST.


def http_request(*headers, body=b"", method=b"POST"):
    head = method + b" " + PREDICT.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


RAW_HTTP = {
    "length too large for any number": http_request(b"Content-Length: " + b"9" * 40),
    "negative length": http_request(b"Content-Length: -1", body=b"{}"),
    "two lengths": http_request(b"Content-Length: 2", b"Content-Length: 3", body=b"{} "),
    "less than was promised": http_request(b"Content-Length: 1000000000000", body=b"{}"),
    "chunk size too large": http_request(
        b"Transfer-Encoding: chunked", body=b"ffffffffffffffffff\r\n{}\r\n"
    ),
    "chunk that ends early": http_request(b"Transfer-Encoding: chunked", body=b"10\r\n{}"),
    "endless header": http_request()[:-2] + b"X: " + b"a" * 2_000_000,
    "thousands of headers": http_request(*[b"X-%d: y" % index for index in range(20_000)]),
    "no end of headers": http_request()[:-2],
    "zero byte in a header": http_request(b"X: a\0b", b"Content-Length: 2", body=b"{}"),
    "no such method": http_request(method=b"FOO"),
    "garbage": b"GARBAGE\r\n\r\n",
    "no such version": b"GET / HTTP/9.9\r\n\r\n",
    "gRPC's preface": HTTP2_PREFACE,
}


@pytest.mark.parametrize("case", RAW_HTTP)
def test_malformed_http(server, case):
    reply = send_raw(server.rest_port, RAW_HTTP[case])
    assert not reply.startswith(b"HTTP/1.1 200")


DEPTH = 500_000
# All of these are refused, by the JSON reader or by the tensor's conversion.
HOSTILE_JSON = {
    "deep lists": '{"instances":' + "[" * DEPTH,
    "deep lists, closed": '{"instances":' + "[" * DEPTH + "]" * DEPTH + "}",
    "deep objects": '{"instances":[' + '{"x":' * DEPTH,
    "deep signature name": '{"signature_name":' + "[" * DEPTH + "]" * DEPTH + "}",
    "number too big": '{"instances":[1e400]}',
    "not a float": '{"instances":[1.0, "2.0"]}',
    "zero byte": '{"instances":[1.0\0]}',
    "half a surrogate pair": '{"instances":["\\ud800"]}',
    "long list of nothing": '{"instances":[' + "null," * 100_000 + "null]}",
}


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_hostile_json(server, case):
    status, reply = server.predict_rest("half_plus_two", HOSTILE_JSON[case])
    assert status == 400
    assert reply.startswith(b'{\n    "error": "')


def test_deep_list_in_a_member_nobody_reads(server):
    """TensorFlow Serving answers this one: its reader does not recurse."""
    body = '{"instances": [1.0,2.0,5.0], "nested":' + "[" * DEPTH + "]" * DEPTH + "}"
    assert server.predict_rest("half_plus_two", body) == (200, ANSWER)


def test_random_mutations_of_a_good_body(server):
    generator = random.Random(SEED)
    good = b'{"signature_name":"serving_default","instances":[1.0,-25,5e3,0.125]}'
    for _ in range(200):
        status, _ = server.predict_rest("half_plus_two", mutate(generator, good))
        assert status in (200, 400)


def test_gzip_that_unpacks_to_too_much(server):
    body = gzip.compress(b" " * (101 * 1024 * 1024))
    status, _, reply = server.rest("POST", PREDICT, body, {"Content-Encoding": "gzip"})
    # TensorFlow Serving treats the body as empty.
    assert status == 400
    assert reply == b'{\n    "error": "JSON Parse error: The document is empty"\n}'


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/half_plus_two/versions/99999999999999999999:predict",
        "/v1/models/%00%ff%zz:predict",
        "/v1/models/" + "a" * 50_000 + ":predict",
        "/v1/models/../../../etc/passwd",
    ],
)
def test_hostile_paths(server, path):
    status, _, _ = server.rest("POST", path, '{"instances":[1.0]}')
    assert 400 <= status < 500


# gRPC.


def call_with_bytes(server, message):
    """Sends `message` as the request of a Predict and returns the status code."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(PREDICT_RPC)
        try:
            call(message, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_random_messages(server):
    generator = random.Random(SEED)
    for _ in range(100):
        call_with_bytes(server, generator.randbytes(generator.randrange(1, 2000)))


def test_random_mutations_of_a_good_message(server):
    generator = random.Random(SEED)
    good = good_request().SerializeToString()
    for _ in range(200):
        call_with_bytes(server, mutate(generator, good))


def test_every_truncation_of_a_good_message(server):
    good = good_request().SerializeToString()
    for length in range(len(good)):
        code = call_with_bytes(server, good[:length])
        assert code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def test_message_that_is_not_protobuf(server):
    # TensorFlow Serving's gRPC library answers the same.
    assert call_with_bytes(server, b"\xff" * 100) == grpc.StatusCode.INTERNAL


LARGE = 2**62
HOSTILE_SHAPES = {
    "more elements than a number can hold": [LARGE, LARGE, LARGE],
    "more bytes than a number can hold": [LARGE],
    "more than any machine has": [2**40, 2**10],
    "negative": [-1],
    "large beside negative": [LARGE, -LARGE],
    "many dimensions": [1] * 10_000 + [2**40],
}


@pytest.mark.parametrize("content", ["none", "float_val", "tensor_content"])
@pytest.mark.parametrize("case", HOSTILE_SHAPES)
def test_hostile_shapes(server, case, content):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    x = request.inputs["x"]
    x.dtype = tf.float32.as_datatype_enum
    for size in HOSTILE_SHAPES[case]:
        x.tensor_shape.dim.add(size=size)
    if content == "float_val":
        x.float_val.append(1.0)
    if content == "tensor_content":
        x.tensor_content = struct.pack("<f", 1.0)

    code = call_with_bytes(server, request.SerializeToString())

    # "Too large" is refused before memory is allocated, or because the allocation fails cleanly.
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_huge_shape_of_no_elements(server):
    """Whether it is answered or refused is up to the runtime; it must not take memory or crash."""
    request = good_request()
    request.inputs["x"].Clear()
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    for size in (0, LARGE, LARGE, LARGE):
        request.inputs["x"].tensor_shape.dim.add(size=size)
    code = call_with_bytes(server, request.SerializeToString())
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)


def test_tensor_content_of_a_wrong_length(server):
    request = good_request()
    request.inputs["x"].tensor_content = b"\0" * 11
    assert call_with_bytes(server, request.SerializeToString()) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("dtype", [0, 7, 20, 21, 99, 101, -1])
def test_dtypes_that_are_not_the_signatures(server, dtype):
    """None, string, resource, variant, unknown, a reference to a float, negative."""
    request = good_request()
    request.inputs["x"].ClearField("tensor_content")
    request.inputs["x"].dtype = dtype
    assert call_with_bytes(server, request.SerializeToString()) == grpc.StatusCode.INVALID_ARGUMENT


def mutate(generator, good):
    """`good` with a few bytes changed, left out, or put in."""
    content = bytearray(good)
    for _ in range(generator.randrange(1, 6)):
        position = generator.randrange(len(content))
        what = generator.randrange(3)
        if what == 0:
            content[position] = generator.randrange(256)
        elif what == 1:
            del content[position]
        else:
            content.insert(position, generator.randrange(256))
    return bytes(content)
