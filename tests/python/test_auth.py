"""Authentication: who may call what, on both protocols, by every kind of credential."""

import hashlib
import json
import time

import grpc
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from certificates import Authority, write_ssl_config
from credentials import ADMIN, ALICE, ALL, ROBOT, basic, bearer, hashed, token_identity
from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import CALL_SECONDS, MODELS_FOLDER

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
MODELS = ("half_plus_two", "mnist")
BODY = '{"instances": [1.0, 2.0, 5.0]}'
PREDICT = "/v1/models/half_plus_two:predict"
NOTICE_SECONDS = 60

def write(path, content):
    new = path.with_suffix(".new")
    new.write_text(content)
    new.replace(path)


def models_config(names):
    models = "".join(
        f"config {{ name: '{name}' base_path: '{MODELS_FOLDER / name}' "
        "model_platform: 'tensorflow' }\n"
        for name in names
    )
    return f"model_config_list {{\n{models}}}\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "ours")


@pytest.fixture(scope="module")
def auth_config():
    """`admin` may everything, `robot` and `alice` little, and each has another credential."""
    return (
        token_identity("admin", ADMIN, ALL)
        + token_identity("robot", ROBOT, "predict: 'half_plus_two' status: 'half_plus_two'")
        + f"identity {{ name: 'alice' password_argon2: '{hashed('hash_password', ALICE)}' "
        "metadata: ['half_plus_two', 'mnist'] admin: 'half_plus_two' }\n"
    )


@pytest.fixture(scope="module")
def guarded(start_server, auth_config, tmp_path_factory):
    """A server that asks for credentials, and logs all that it and its libraries can say."""
    folder = tmp_path_factory.mktemp("auth")
    models, auth = folder / "models.config", folder / "auth.config"
    write(models, models_config(MODELS))
    write(auth, auth_config)
    flags = [
        f"--model_config_file={models}",
        f"--auth_config_file={auth}",
        "--enable_grpc_healthcheck_service",
        "--enable_model_listing",
        "--rest_api_enable_cors_support",
        f"--model_base_path_allowlist={MODELS_FOLDER}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODEL_SERVER_LOG", "trace")
        return start_server(flags, MODELS, headers=bearer(ADMIN))


@pytest.fixture(scope="module")
def channel(guarded):
    with grpc.insecure_channel(guarded.grpc_address) as channel:
        yield channel


def rest(server, method, path, headers=None, body=None):
    """As a client without the fixture's own credentials."""
    reply = requests.request(
        method, server.rest_url + path, headers=headers, data=body, timeout=TIMEOUT
    )
    return reply.status_code, reply


def grpc_code(call, request, headers):
    try:
        call(request, timeout=TIMEOUT, metadata=[*(headers or {}).items()])
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


WRONG = [
    {},
    bearer("nobodys-token"),
    bearer(""),
    bearer(hashlib.sha256(ADMIN.encode()).hexdigest()),
    basic("alice", "wrong"),
    basic("mallory", ALICE),
    basic("admin", ADMIN),
    {"authorization": "Basic !"},
    {"authorization": f"Digest {ADMIN}"},
]


@pytest.mark.parametrize("headers", WRONG)
def test_rest_without_good_credentials(guarded, headers):
    for method, path, body in [
        ("POST", PREDICT, BODY),
        ("GET", "/v1/models/half_plus_two", None),
        ("GET", "/v1/models/half_plus_two/metadata", None),
        ("GET", "/v1/models", None),
        ("GET", "/openapi.json", None),
        ("GET", "/elsewhere", None),
        ("POST", "/v1/models/nosuch:predict", BODY),
    ]:
        status, reply = rest(guarded, method, path, headers, body)
        assert status == 401, path
        assert list(reply.json()) == ["error"]
        assert reply.headers["Content-Type"] == "application/json"
        assert "Bearer realm=" in reply.headers["WWW-Authenticate"]
        assert "Basic realm=" in reply.headers["WWW-Authenticate"]


@pytest.mark.parametrize("headers", WRONG)
def test_grpc_without_good_credentials(channel, headers):
    service = model_service_pb2_grpc.ModelServiceStub(channel)
    request = predict_request("half_plus_two", x=[1.0])
    status = get_model_status_pb2.GetModelStatusRequest(model_spec=request.model_spec)
    reload = model_management_pb2.ReloadConfigRequest()
    assert grpc_code(prediction(channel).Predict, request, headers) == UNAUTHENTICATED
    assert grpc_code(service.GetModelStatus, status, headers) == UNAUTHENTICATED
    assert grpc_code(service.HandleReloadConfigRequest, reload, headers) == UNAUTHENTICATED


@pytest.mark.parametrize(
    "headers, predict, metadata, status",
    [
        (bearer(ADMIN), (200, 200), (200, 200), (200, 200)),
        (bearer(ROBOT), (200, 403), (403, 403), (200, 403)),
        (basic("alice", ALICE), (403, 403), (200, 200), (403, 403)),
    ],
)
def test_rest_by_the_lists(guarded, headers, predict, metadata, status):
    mnist_body = mnist_request_body(guarded)
    models = [("half_plus_two", 1, BODY), ("mnist", 2, mnist_body)]
    for index, (model, version, body) in enumerate(models):
        url = f"/v1/models/{model}"
        assert rest(guarded, "POST", f"{url}:predict", headers, body)[0] == predict[index]
        assert rest(guarded, "GET", f"{url}/metadata", headers)[0] == metadata[index]
        assert rest(guarded, "GET", url, headers)[0] == status[index]
        assert rest(guarded, "GET", f"{url}/versions/{version}", headers)[0] == status[index]


def mnist_request_body(server):
    """Zeros of the shape that the model's own metadata tells."""
    _, reply = rest(server, "GET", "/v1/models/mnist/metadata", bearer(ADMIN))
    inputs = reply.json()["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    (alias, info), = inputs.items()
    value = 0.0
    for dim in reversed(info["tensor_shape"]["dim"]):
        value = [value] * max(1, int(dim["size"]))
    return json.dumps({"inputs": {alias: value}})


def test_a_refusal_says_who_may_not_what(guarded):
    status, reply = rest(guarded, "POST", "/v1/models/mnist:predict", bearer(ROBOT), "{}")
    assert (status, reply.json()) == (403, {"error": "'robot' is not allowed to call model 'mnist'"})
    # Nor does the answer reveal whether the model exists.
    assert rest(guarded, "POST", "/v1/models/nosuch:predict", bearer(ROBOT), "{}")[0] == 403
    assert rest(guarded, "POST", "/v1/models/nosuch:predict", bearer(ADMIN), BODY)[0] == 404


def test_the_list_has_the_models_that_a_caller_may_see(guarded):
    def names(headers):
        status, reply = rest(guarded, "GET", "/v1/models", headers)
        return status, [model["name"] for model in reply.json().get("models", [])]

    assert names(bearer(ADMIN)) == (200, ["half_plus_two", "mnist"])
    assert names(bearer(ROBOT)) == (200, ["half_plus_two"])
    assert names(basic("alice", ALICE)) == (403, [])


def test_grpc_by_the_lists(channel):
    stub = prediction(channel)
    service = model_service_pb2_grpc.ModelServiceStub(channel)
    ok = grpc.StatusCode.OK

    def codes(headers, model):
        predict = predict_request(model, x=[1.0])
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=predict.model_spec)
        metadata.metadata_field.append("signature_def")
        status = get_model_status_pb2.GetModelStatusRequest(model_spec=predict.model_spec)
        return [
            grpc_code(stub.Predict, predict, headers),
            grpc_code(stub.GetModelMetadata, metadata, headers),
            grpc_code(service.GetModelStatus, status, headers),
        ]

    assert codes(bearer(ADMIN), "half_plus_two") == [ok, ok, ok]
    assert codes(bearer(ROBOT), "half_plus_two") == [ok, DENIED, ok]
    assert codes(bearer(ROBOT), "mnist") == [DENIED, DENIED, DENIED]
    assert codes(basic("alice", ALICE), "mnist") == [DENIED, ok, DENIED]


def test_every_task_of_a_multi_inference_counts(channel):
    request = inference_pb2.MultiInferenceRequest()
    for model in ("half_plus_two", "mnist"):
        task = request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name = model
    call = prediction(channel).MultiInference
    assert grpc_code(call, request, bearer(ROBOT)) == DENIED
    assert grpc_code(call, request, bearer(ADMIN)) == grpc.StatusCode.INVALID_ARGUMENT


def reload_request(base_paths):
    request = model_management_pb2.ReloadConfigRequest()
    for name, base_path in base_paths.items():
        request.config.model_config_list.config.add(
            name=name, base_path=str(base_path), model_platform="tensorflow"
        )
    return request


def test_a_reload_needs_all_models_that_it_touches(channel):
    reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
    both = {name: MODELS_FOLDER / name for name in MODELS}
    one = {"half_plus_two": both["half_plus_two"]}
    assert grpc_code(reload, reload_request(both), bearer(ROBOT)) == DENIED
    assert grpc_code(reload, reload_request(both), basic("alice", ALICE)) == DENIED
    # It would unload `mnist`.
    assert grpc_code(reload, reload_request(one), basic("alice", ALICE)) == DENIED
    assert grpc_code(reload, reload_request(both), bearer(ADMIN)) == grpc.StatusCode.OK


def test_a_reload_stays_within_the_folders(channel, tmp_path):
    reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
    both = {name: MODELS_FOLDER / name for name in MODELS}
    for base_path in [tmp_path, "/etc", MODELS_FOLDER / ".." / "tests", f"{MODELS_FOLDER}x"]:
        request = reload_request({**both, "more": base_path})
        assert grpc_code(reload, request, bearer(ADMIN)) == DENIED, base_path
    assert grpc_code(reload, reload_request(both), bearer(ADMIN)) == grpc.StatusCode.OK


def test_health_is_open(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_needs_any_identity(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    def services(headers):
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        metadata = [*headers.items()]
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT, metadata=metadata)
        return {service.name for service in reply.list_services_response.service}

    assert "tensorflow.serving.PredictionService" in services(basic("alice", ALICE))
    with pytest.raises(grpc.RpcError) as refusal:
        services({})
    assert refusal.value.code() == UNAUTHENTICATED


def test_metrics_and_preflights_are_open(guarded):
    assert rest(guarded, "GET", "/v1/models")[0] == 401
    status, reply = rest(guarded, "GET", "/metrics")
    assert status == 200
    assert 'code="UNAUTHENTICATED"' in reply.text
    status, reply = rest(guarded, "OPTIONS", PREDICT, {"Origin": "http://example.com"})
    assert status == 200
    assert "Authorization" in reply.headers["Access-Control-Allow-Headers"]


def test_a_large_body_is_refused_and_the_answer_arrives(guarded):
    """The body is not taken in, yet the client reads its 401."""
    for size in (100_000, 5_000_000, 50_000_000):
        assert rest(guarded, "POST", PREDICT, bearer("wrong"), b" " * size)[0] == 401


def test_metrics_may_need_an_identity(start_server, auth_config, tmp_path):
    models, auth = tmp_path / "models.config", tmp_path / "auth.config"
    write(models, models_config(["half_plus_two"]))
    write(auth, auth_config + "metrics_need_identity: true")
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true path: '/monitoring/metrics' }")
    server = start_server(
        [
            f"--model_config_file={models}",
            f"--auth_config_file={auth}",
            f"--monitoring_config_file={monitoring}",
        ],
        ["half_plus_two"],
        headers=bearer(ADMIN),
    )
    for page in ("/metrics", "/monitoring/metrics"):
        for method in ("GET", "HEAD", "OPTIONS"):
            assert rest(server, method, page)[0] == 401
        assert rest(server, "GET", page, basic("alice", ALICE))[0] == 200


def test_certificates_are_identities(start_server, authority, tmp_path):
    models, auth = tmp_path / "models.config", tmp_path / "auth.config"
    write(models, models_config(MODELS))
    write(
        auth,
        token_identity("admin", ADMIN, ALL)
        + "identity { name: 'by name' certificate_subject: 'robot' predict: 'half_plus_two' }\n"
        + "identity { name: 'by uri' certificate_subject: 'spiffe://mesh/ui' status: '*' }\n",
    )
    ssl_config = write_ssl_config(tmp_path / "ssl.config", authority.sign("server"), authority)
    robot = authority.sign("robot")
    ui = authority.sign("whoever", "URI:spiffe://mesh/ui")
    other = authority.sign("other")
    server = start_server(
        [
            f"--model_config_file={models}",
            f"--auth_config_file={auth}",
            f"--ssl_config_file={ssl_config}",
            "--rest_api_use_ssl",
        ],
        MODELS,
        context=authority.context(other),
        headers=bearer(ADMIN),
    )

    def status(certificate, method, path, headers=None):
        return requests.request(
            method,
            server.rest_url + path,
            data=BODY if method == "POST" else None,
            headers=headers,
            cert=certificate.files,
            verify=str(authority.certificate),
            timeout=TIMEOUT,
        ).status_code

    def code(certificate, headers=None):
        channel = grpc.secure_channel(
            server.grpc_address,
            grpc.ssl_channel_credentials(
                authority.certificate.read_bytes(),
                certificate.key.read_bytes(),
                certificate.certificate.read_bytes(),
            ),
        )
        with channel:
            request = predict_request("half_plus_two", x=[1.0])
            return grpc_code(prediction(channel).Predict, request, headers)

    mnist = "/v1/models/mnist"
    assert [status(it, "POST", PREDICT) for it in (robot, ui, other)] == [200, 403, 401]
    assert [status(it, "GET", mnist) for it in (robot, ui, other)] == [403, 200, 401]
    assert [code(it) for it in (robot, ui, other)] == [
        grpc.StatusCode.OK,
        DENIED,
        UNAUTHENTICATED,
    ]
    # A header goes before the certificate.
    assert status(other, "GET", mnist, bearer(ADMIN)) == 200
    assert code(robot, bearer("wrong")) == UNAUTHENTICATED


def test_rules_are_exchanged_while_serving(start_server, tmp_path):
    models, auth = tmp_path / "models.config", tmp_path / "auth.config"
    write(models, models_config(["half_plus_two"]))
    admin = token_identity("admin", ADMIN, ALL)
    write(auth, admin + token_identity("robot", ROBOT, "predict: '*'"))
    server = start_server(
        [f"--model_config_file={models}", f"--auth_config_file={auth}"],
        ["half_plus_two"],
        headers=bearer(ADMIN),
    )

    def status(token):
        return rest(server, "POST", PREDICT, bearer(token), BODY)[0]

    assert (status(ADMIN), status(ROBOT), status("new")) == (200, 200, 401)
    write(auth, admin + token_identity("robot", "new", "predict: '*'"))
    wait_until(lambda: status("new") == 200)
    assert (status(ADMIN), status(ROBOT)) == (200, 401)
    # A truncated file, and one that is not a configuration, is ignored.
    for count, broken in enumerate(["", admin + "identity { name: '"], start=1):
        write(auth, broken)
        wait_until(lambda: server.log(None).count("keeping the previous configuration") == count)
        assert (status(ADMIN), status("new"), status(ROBOT)) == (200, 200, 401)


def wait_until(condition):
    deadline = time.monotonic() + NOTICE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_open_port_is_logged_once(guarded, server):
    def lines(server):
        return [line for line in server.log(None).splitlines() if "Open to other hosts" in line]

    (line,) = lines(server)
    assert "gRPC on 0.0.0.0:" in line and "without TLS and authentication" in line
    (line,) = lines(guarded)
    assert "without TLS" in line and "authentication" not in line


# The last of this server's tests, after all the others have sent it their credentials.
def test_no_secret_is_in_the_log(guarded, auth_config):
    log = guarded.log(None)
    assert "Running gRPC ModelServer" in log
    encoded = [value.split()[1] for value in (basic("alice", ALICE)["authorization"],)]
    hashes = [word for word in auth_config.replace("'", " ").split() if len(word) > 40]
    assert len(hashes) == 3
    for secret in [ADMIN, ROBOT, ALICE, "nobodys-token", *encoded, *hashes]:
        assert secret not in log
