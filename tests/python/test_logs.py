"""The process log in JSON, the access log, and request ids."""

import http.client
import json
import time

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from grpc_calls import ENDLESS, model_flags, predict_request, prediction, slow_request
from model_server import PROJECT, ModelServer, free_ports

MODEL = PROJECT / "models" / "half_plus_two"
FLAGS = ["--model_name=half_plus_two", f"--model_base_path={MODEL}"]
PATH = "/v1/models/half_plus_two:predict"
SECONDS = 30


@pytest.fixture(scope="module")
def logging_server(start_server):
    """Logs every request, in JSON."""
    return start_server([*FLAGS, "--log_format=json", "--access_log=all"], ["half_plus_two"])


def access_lines(server):
    # The last line might not be complete yet.
    complete = server.log(limit=None).rpartition("\n")[0]
    events = (json.loads(line) for line in complete.splitlines())
    return [it for it in events if it["message"] == "request"]


def wait_for_line(server, **members):
    """The first line of the access log with these members: it is written after the answer."""
    deadline = time.monotonic() + SECONDS
    while True:
        for line in access_lines(server):
            if members.items() <= line.items():
                return line
        assert time.monotonic() < deadline, f"no line with {members}:\n{server.log()}"
        time.sleep(0.02)


def test_every_line_is_json_with_the_originals_texts(logging_server):
    events = [json.loads(line) for line in logging_server.log(limit=None).splitlines()]
    for event in events:
        assert {"time", "level", "source", "message"} <= set(event)
    messages = [event["message"] for event in events]
    # monitoring.md, section 2: the lines that scripts look for.
    for text in (
        f"Running gRPC ModelServer at 0.0.0.0:{logging_server.grpc_port} ...",
        f"Exporting HTTP/REST API at:localhost:{logging_server.rest_port} ...",
        "Successfully loaded servable version {name: half_plus_two version: 1}",
        "Entering the event loop ...",
    ):
        assert text in messages


def test_access_log_tells_a_rest_request(logging_server):
    body = '{"instances": [1.0, 2.0]}'
    headers = {"X-Request-Id": "rest-1"}
    status, reply_headers, reply = logging_server.rest("POST", PATH, body, headers)
    assert (status, reply_headers["x-request-id"]) == (200, "rest-1")
    line = wait_for_line(logging_server, request_id="rest-1")
    expected = {
        "level": "INFO",
        "protocol": "rest",
        "method": "POST",
        "path": PATH,
        "api": "predict",
        "model": "half_plus_two",
        "version": 1,
        "signature": "serving_default",
        "code": "OK",
        "http_status": 200,
        "bytes_in": len(body),
        "bytes_out": len(reply),
    }
    assert {key: line.get(key) for key in expected} == expected
    assert 0 < line["duration_ms"] < 60_000


def test_access_log_tells_requests_on_the_admin_port(start_server):
    (port,) = free_ports(1)
    flags = [f"--admin_port={port}", "--admin_host=127.0.0.1", "--log_format=json"]
    server = start_server([*FLAGS, *flags, "--access_log=all"], ["half_plus_two"])
    for path, status in [("/readyz?secret", 200), ("/metrics", 200), ("/no/such/page", 404)]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        connection.request("GET", path, headers={"X-Request-Id": f"admin-{status}"})
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        assert (reply.status, reply.headers["x-request-id"]) == (status, f"admin-{status}")
        path = path.split("?")[0]
        line = wait_for_line(server, path=path)
        expected = {
            "protocol": "admin",
            "method": "GET",
            "http_status": status,
            "bytes_out": len(content),
            "request_id": f"admin-{status}",
        }
        assert {key: line.get(key) for key in expected} == expected
    assert "secret" not in server.log(limit=None)


def test_access_log_tells_errors_and_no_query(logging_server):
    headers = {"X-Request-Id": "rest-2"}
    path = "/v1/models/nope/metadata?token=secret"
    assert logging_server.rest("GET", path, headers=headers)[0] in (400, 404)
    line = wait_for_line(logging_server, request_id="rest-2")
    assert line["path"] == "/v1/models/nope/metadata"
    assert line["http_status"] in (400, 404)
    assert line["code"] != "OK"
    assert "secret" not in logging_server.log(limit=None)


def test_access_log_tells_grpc_calls(logging_server):
    with grpc.insecure_channel(logging_server.grpc_address) as channel:
        request = predict_request("half_plus_two", x=[1.0])
        metadata = [("x-request-id", "grpc-1")]
        predict = prediction(channel).Predict
        _, call = predict.with_call(request, timeout=30, metadata=metadata)
        assert ("x-request-id", "grpc-1") in call.initial_metadata()

        with pytest.raises(grpc.RpcError) as caught:
            metadata = [("x-request-id", "grpc-2")]
            predict(predict_request("nope", x=[1.0]), timeout=30, metadata=metadata)
        error = caught.value
        sent = [*error.initial_metadata(), *error.trailing_metadata()]
        assert ("x-request-id", "grpc-2") in sent

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "half_plus_two"
        metadata = [("x-request-id", "grpc-3")]
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        stub.GetModelStatus(request, timeout=30, metadata=metadata)
        unknown = channel.unary_unary("/no.such/Method")
        with pytest.raises(grpc.RpcError):
            unknown(b"", timeout=30, metadata=[("x-request-id", "grpc-4")])
    for request_id, api, model, code in (
        ("grpc-1", "predict", "half_plus_two", "OK"),
        ("grpc-2", "predict", "nope", "NOT_FOUND"),
        ("grpc-3", "status", "half_plus_two", "OK"),
        ("grpc-4", None, None, "UNIMPLEMENTED"),
    ):
        line = wait_for_line(logging_server, request_id=request_id)
        assert line["protocol"] == "grpc"
        assert (line.get("api"), line.get("model"), line["code"]) == (api, model, code)
    line = wait_for_line(logging_server, request_id="grpc-1")
    assert line["path"] == "/tensorflow.serving.PredictionService/Predict"
    assert (line["version"], line["signature"]) == (1, "serving_default")
    assert line["bytes_in"] > 20 and line["bytes_out"] > 20


def test_calls_that_are_given_up_are_cancelled(start_server):
    flags = [*model_flags("slow"), "--log_format=json", "--access_log=errors"]
    server = start_server(flags, ["slow"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            metadata = [("x-request-id", "impatient")]
            predict = prediction(channel).Predict
            predict(slow_request(ENDLESS), timeout=0.5, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    line = wait_for_line(server, request_id="impatient")
    # The code depends on which comes first: the server's own deadline, or the client that leaves.
    assert line["code"] in ("DEADLINE_EXCEEDED", "CANCELLED")
    assert (line["api"], line["model"]) == ("predict", "slow")


def test_requests_without_an_id_get_one(logging_server):
    status, headers, _ = logging_server.rest("GET", "/v1/models/half_plus_two")
    assert status == 200
    made = headers["x-request-id"]
    assert len(made) == 32
    assert wait_for_line(logging_server, request_id=made)["api"] == "status"
    for bad in ("two words", "x" * 129):
        headers = {"X-Request-Id": bad}
        _, headers, _ = logging_server.rest("GET", "/v1/models/half_plus_two", headers=headers)
        assert len(headers["x-request-id"]) == 32


def test_trace_of_the_client_is_named(logging_server):
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "X-Request-Id": "traced"}
    logging_server.rest("GET", "/metrics", headers=headers)
    assert wait_for_line(logging_server, request_id="traced")["trace_id"] == trace_id


def test_errors_only(start_server):
    server = start_server([*FLAGS, "--log_format=json", "--access_log=errors"], ["half_plus_two"])
    assert server.rest("POST", PATH, '{"instances": [1.0]}')[0] == 200
    assert server.rest("POST", PATH, '{"instances": "no"', {"X-Request-Id": "bad"})[0] == 400
    wait_for_line(server, request_id="bad")
    codes = {line.get("http_status") for line in access_lines(server)}
    # The status of a model that is still loading counts as an error, too.
    assert codes <= {400, 404}


def test_by_default_nothing_is_logged_and_only_given_ids_come_back(tmp_path):
    server = ModelServer(FLAGS, ["half_plus_two"], tmp_path / "server.log")
    try:
        status, headers, _ = server.rest("POST", PATH, '{"instances": [1.0]}')
        assert status == 200
        assert headers["x-request-id"] is None
        given = {"X-Request-Id": "a"}
        status, headers, _ = server.rest("POST", PATH, '{"instances": [1.0]}', given)
        assert (status, headers["x-request-id"]) == (200, "a")
    finally:
        server.stop()
    assert "bytes_out" not in server.log(limit=None)
