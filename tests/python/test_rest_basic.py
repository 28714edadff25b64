"""REST as a client with nothing but HTTP sees it, compared byte for byte.

The expected bodies are TensorFlow Serving's: recorded from it, or made by its own JSON writer.
"""

import json
import re
import socket

import pytest
import requests

from model_server import CALL_SECONDS, PROJECT

PREDICT = "/v1/models/half_plus_two:predict"
ANSWER = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'

README_EXAMPLE = r"curl -d '([^']+)' localhost:8501(/\S+)\n```\n\n```json\n(.*?)\n```"


def test_the_readme_shows_what_the_server_answers(server):
    readme = (PROJECT / "README.md").read_text()
    example = re.search(README_EXAMPLE, readme, re.DOTALL)
    assert example, "the README's curl and its answer"
    body, path, shown = example.groups()

    status, headers, reply = server.rest("POST", path, body)

    assert (status, reply) == (200, ANSWER)
    assert shown.encode() == ANSWER
    assert headers["Content-Type"] == "application/json"


def test_a_users_program_with_requests(server):
    reply = requests.post(
        server.rest_url + PREDICT, json={"instances": [1.0, 2.0, 5.0]}, timeout=CALL_SECONDS
    )
    assert reply.status_code == 200
    assert reply.json() == {"predictions": [2.5, 3.0, 4.5]}


GOOD = {
    "row": ('{"instances":[1.0,2.0,5.0]}', ANSWER),
    "row of lists": (
        '{"instances":[[1.0,2.0],[3.0,4.0]]}',
        b'{\n    "predictions": [[2.5, 3.0], [3.5, 4.0]\n    ]\n}',
    ),
    "row of objects": (
        '{"instances":[{"x":1.0},{"x":2.0}]}',
        b'{\n    "predictions": [2.5, 3.0\n    ]\n}',
    ),
    "columnar": (
        '{"inputs":[1.0,2.0,5.0]}',
        b'{\n    "outputs": [\n        2.5,\n        3.0,\n        4.5\n    ]\n}',
    ),
    "named columnar": (
        '{"signature_name":"serving_default","inputs":{"x":[2.0]}}',
        b'{\n    "outputs": [\n        3.0\n    ]\n}',
    ),
    "trailing text": ('{"instances":[1.0,2.0,5.0]} trailing', ANSWER),
}


@pytest.mark.parametrize("case", GOOD)
def test_predict_answers(server, case):
    body, expected = GOOD[case]
    assert server.predict_rest("half_plus_two", body) == (200, expected)


# The messages of JSON's reader and of the tensor conversion, as TensorFlow Serving words them.
BAD = {
    "empty body": ("", "JSON Parse error: The document is empty"),
    "not JSON": ("instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
    "cut off": (
        '{"v":[1]',
        "JSON Parse error: Missing a comma or '}' after an object member. at offset: 8",
    ),
    "list": ("[1,2]", "JSON Value: [1, 2] Is not object"),
    "no instances": ("{}", "Missing 'inputs' or 'instances' key"),
    "instances not a list": (
        '{"instances":5}',
        "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array",
    ),
    "no values": (
        '{"instances":[]}',
        "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
    ),
    "strings for floats": (
        '{"instances":["x","y"]}',
        "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "x" Type: String is not of expected type: float',
    ),
    "ragged": (
        '{"instances":[[1,2],[3]]}',
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
        "Expecting tensor size: 2 but got: 1",
    ),
    "unknown input": (
        '{"instances":[{"y":1.5}]}',
        "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: y",
    ),
    "unknown signature": (
        '{"signature_name":"nope","instances":[1.0]}',
        'Serving signature name: "nope" not found in signature def',
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_predict_refuses(server, case):
    body, message = BAD[case]
    assert server.predict_rest("half_plus_two", body) == (400, error_body(message))


def test_status_document(server):
    status, headers, body = server.rest("GET", "/v1/models/half_plus_two")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert body == (
        b'{\n "model_version_status": [\n  {\n   "version": "1",\n   "state": "AVAILABLE",\n'
        b'   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  }\n ]\n}\n'
    )


UNKNOWN = [
    ("GET", "/v1/models/nope", 404, "Could not find any versions of model nope"),
    (
        "GET",
        "/v1/models/half_plus_two/versions/9",
        404,
        "Could not find version 9 of model half_plus_two",
    ),
    ("POST", "/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
    (
        "POST",
        "/v1/models/nope/versions/50:predict",
        404,
        "Servable not found for request: Specific(nope, 50)",
    ),
    ("GET", "/v1/models/", 400, "Malformed request: GET /v1/models/"),
    (
        "GET",
        "/v1/models/half_plus_two:predict",
        400,
        "Malformed request: GET /v1/models/half_plus_two:predict",
    ),
    (
        "POST",
        "/v1/models/half_plus_two:explain",
        400,
        "Malformed request: POST /v1/models/half_plus_two:explain",
    ),
]


@pytest.mark.parametrize(("method", "path", "status", "message"), UNKNOWN)
def test_unknown_names_and_paths(server, method, path, status, message):
    body = '{"instances":[1.0]}' if method == "POST" else None
    got, _, reply = server.rest(method, path, body)
    assert (got, reply) == (status, error_body(message))


def test_two_requests_on_one_connection(server):
    body = b'{"instances":[1.0,2.0,5.0]}'
    request = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % (
        PREDICT.encode(),
        len(body),
    )
    with socket.create_connection(("127.0.0.1", server.rest_port), CALL_SECONDS) as connection:
        connection.sendall(request + b"\r\n" + body)
        connection.sendall(request + b"Connection: close\r\n\r\n" + body)
        replies = receive_all(connection)

    assert replies.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert replies.count(ANSWER) == 2
    assert replies.endswith(ANSWER)


def error_body(message):
    """The body of an error: four spaces, no newline at the end."""
    return b'{\n    "error": %s\n}' % json.dumps(message, ensure_ascii=False).encode()


def receive_all(connection):
    """What the peer sends until it closes."""
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
    return bytes(received)
