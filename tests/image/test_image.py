"""What users of `tensorflow/serving` do with its image, done with ours.

The image is the real one and its containers run the server. Expected answers are TensorFlow
Serving's, of its own example x / 2 + 2.
"""

import concurrent.futures
import json
import pathlib
import shutil
import subprocess

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from containers import ENTRYPOINT, buildah, rest, wait_for

PROJECT = pathlib.Path(__file__).resolve().parents[2]
MODELS = PROJECT / "models"
HALF_PLUS_TWO = MODELS / "half_plus_two"

GRPC_PORT, REST_PORT = 8500, 8501
MAX_BYTES = 120 * 1000 * 1000
CALL_SECONDS = 60


def config_of(image):
    return json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]


def test_configuration_is_that_of_the_original(image):
    config = config_of(image)
    assert config["Entrypoint"] == [ENTRYPOINT]
    assert not config.get("Cmd")
    assert not config.get("User")
    assert set(config["ExposedPorts"]) == {"8500/tcp", "8501/tcp"}
    assert {"MODEL_NAME=model", "MODEL_BASE_PATH=/models"} <= set(config["Env"])
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/onnx_model_server", "health"]
    labels = config["Labels"]
    for label in ("title", "description", "licenses", "version", "revision"):
        assert labels[f"org.opencontainers.image.{label}"]


def test_files_are_where_users_look(image):
    with Mounted(image) as root:
        bin = root / "usr" / "bin"
        assert (bin / "tensorflow_model_server").resolve() == bin / "onnx_model_server"
        assert (root / "models").is_dir()
        documents = root / "usr" / "share" / "doc"
        crates = (documents / "onnx_model_server" / "THIRD_PARTY_LICENCES").read_text()
        assert "\ntokio " in crates and "Permission is hereby granted" in crates
        assert "Apache License" in (documents / "onnx_model_server" / "LICENSE").read_text()
        assert (documents / "onnxruntime" / "LICENSE").stat().st_size > 0
        assert (documents / "onnxruntime" / "ThirdPartyNotices.txt").stat().st_size > 0


def test_size_on_top_of_the_base(image, base_image, capsys):
    with Mounted(image) as root:
        whole = size(root)
    with Mounted(base_image) as root:
        added = whole - size(root)
    with capsys.disabled():
        print(f"the image adds {added / 1e6:.1f} MB to its base, {whole / 1e6:.1f} MB in all")
    assert 0 < added < MAX_BYTES


def test_mounted_model_with_a_name(start):
    container = start(
        environment={"MODEL_NAME": "half_plus_two"},
        volumes={"/models/half_plus_two": HALF_PLUS_TWO},
    )
    container.wait_until_available(REST_PORT, "half_plus_two")
    # The line that TensorFlow Serving's own test of its image waits for.
    assert "Exporting HTTP/REST API" in container.log()
    assert predict_rest() == (200, [2.5, 3.0, 4.5])
    assert predict_grpc() == [2.5, 3.0, 4.5]


def test_other_base_path(start):
    container = start(
        environment={"MODEL_NAME": "half_plus_two", "MODEL_BASE_PATH": "/srv/my models"},
        volumes={"/srv/my models": MODELS},
    )
    container.wait_until_available(REST_PORT, "half_plus_two")


def test_model_config_file(start):
    config = PROJECT / "deploy" / "compose"
    container = start(
        ["--model_config_file=/config/models.config"],
        volumes={"/models": MODELS, "/config": config},
    )
    for model in ("half_plus_two", "mnist", "siamese"):
        container.wait_until_available(REST_PORT, model)


def test_appended_flags_win(start):
    container = start(
        ["--port=9000", "--rest_api_port=9001"],
        environment={"MODEL_NAME": "half_plus_two"},
        volumes={"/models": MODELS},
    )
    container.wait_until_available(9001, "half_plus_two")
    assert rest(REST_PORT, "GET", "/v1/models/half_plus_two")[0] == 0
    assert predict_grpc(9000) == [2.5, 3.0, 4.5]
    health = container.execute("/usr/bin/onnx_model_server", "health")
    assert health.returncode == 0, health.stdout + health.stderr


@pytest.fixture
def derived(image, tmp_path):
    """An image with a model copied in, as users derive theirs."""
    shutil.copytree(HALF_PLUS_TWO, tmp_path / "half_plus_two")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        f"FROM {image}\nCOPY half_plus_two /models/half_plus_two\nENV MODEL_NAME=half_plus_two\n"
    )
    name = f"{image.rsplit(':', 1)[0]}-derived:latest"
    buildah("bud", "--format", "docker", "--tag", name, "--file", dockerfile, tmp_path)
    yield name
    buildah("rmi", name)


def test_derived_image_with_a_model(derived, start):
    container = start(image=derived)
    container.wait_until_available(REST_PORT, "half_plus_two")
    assert predict_rest() == (200, [2.5, 3.0, 4.5])
    assert container.terminate() == 0


@pytest.mark.parametrize("user", ["1000:1000", "1234567:0"])
def test_any_user_on_a_read_only_root(start, user):
    container = start(
        environment={"MODEL_NAME": "half_plus_two"},
        volumes={"/models/half_plus_two": HALF_PLUS_TWO},
        user=user,
        read_only=True,
    )
    container.wait_until_available(REST_PORT, "half_plus_two")
    assert predict_rest() == (200, [2.5, 3.0, 4.5])
    status = pathlib.Path(f"/proc/{container.server_id()}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split("\t")[0] == user.split(":")[0]
    assert int(fields["CapEff"], 16) == 0
    assert container.execute("/usr/bin/touch", "/models/file").returncode != 0
    assert container.terminate() == 0


def test_health_check_follows_the_models(start, image, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    container = start(
        ["--wait_for_models=false", "--file_system_poll_wait_seconds=1"],
        environment={"MODEL_NAME": "half_plus_two"},
        volumes={"/models": models},
    )
    _, *check = config_of(image)["Healthcheck"]["Test"]
    wait_for(lambda: rest(REST_PORT, "GET", "/healthz")[0] == 200, "not alive", container)
    health = container.execute(*check)
    assert health.returncode == 1, health.stdout
    assert "half_plus_two" in health.stdout

    # Under a name that is not a version until it is complete.
    shutil.copytree(HALF_PLUS_TWO, models / "copying")
    (models / "copying").rename(models / "half_plus_two")
    container.wait_until_available(REST_PORT, "half_plus_two")
    assert container.execute(*check).returncode == 0


def test_sigterm_under_load_loses_no_request(start, tmp_path):
    """Requests that wait in the batch queue when the signal comes are all answered."""
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 1024 } batch_timeout_micros { value: 3000000 }"
        " max_enqueued_batches { value: 1000 } num_batch_threads { value: 2 }"
    )
    container = start(
        [
            "--enable_batching",
            "--adaptive_batching=false",
            "--batching_parameters_file=/config/batching.config",
        ],
        environment={"MODEL_NAME": "half_plus_two"},
        volumes={"/models": MODELS, "/config": tmp_path},
    )
    container.wait_until_available(REST_PORT, "half_plus_two")
    calls = [predict_rest] * 32 + [predict_grpc] * 32
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        answers = [pool.submit(call) for call in calls]
        wait_for(lambda: requests_in_flight() == len(calls), "not all accepted", container)
        assert container.terminate() == 0
        answers = [answer.result() for answer in answers]
    assert answers == [(200, [2.5, 3.0, 4.5])] * 32 + [[2.5, 3.0, 4.5]] * 32
    assert "cut off" not in container.log()


def test_version(start):
    container = start(["--version"])
    assert container.process.wait(CALL_SECONDS) == 0
    assert "ONNX ModelServer: " in container.log()


class Mounted:
    """An image's files, by a container that does not run."""

    def __init__(self, image):
        self.name = buildah("from", image)

    def __enter__(self):
        return pathlib.Path(buildah("mount", self.name))

    def __exit__(self, *error):
        buildah("rm", self.name)


def size(folder):
    command = ["du", "--summarize", "--block-size=1", "--one-file-system", folder]
    return int(subprocess.run(command, capture_output=True, check=True).stdout.split()[0])


def predict_rest(port=REST_PORT):
    body = '{"instances": [1.0, 2.0, 5.0]}'
    status, reply = rest(port, "POST", "/v1/models/half_plus_two:predict", body)
    return status, json.loads(reply or "{}").get("predictions")


def predict_grpc(port=GRPC_PORT):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.array([1.0, 2.0, 5.0], np.float32)))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=CALL_SECONDS, wait_for_ready=True)
    return list(tf.make_ndarray(response.outputs["y"]))


def requests_in_flight():
    _, page = rest(REST_PORT, "GET", "/metrics")
    lines = page.decode().splitlines()
    values = [line for line in lines if line.startswith("onnx_model_server_requests_in_flight{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in values)
