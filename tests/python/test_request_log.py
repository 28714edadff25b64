"""`logging_config`: sampled requests and answers in files that TensorFlow reads."""

import glob
import pathlib
import shutil
import time

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_log_pb2,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from grpc_calls import GOLDEN, example, predict_request, prediction, refused
from model_server import ModelServer, poll

HALF_PLUS_TWO = GOLDEN / "models" / "half_plus_two"
SECONDS = 30


def models_config(base_path, prefix, rate=1.0, kind="file"):
    logging = f"""
        logging_config {{
            log_collector_config {{ type: "{kind}" filename_prefix: "{prefix}" }}
            sampling_config {{ sampling_rate: {rate} }}
        }}"""
    return f"""
        model_config_list {{ config {{
            name: "half_plus_two" base_path: "{base_path}" model_platform: "tensorflow"
            {logging if prefix else ""}
        }} }}"""


@pytest.fixture
def start(tmp_path):
    """Starts a server, `start(models_config, *flags)`, that a test may stop by itself."""
    started = []

    def start(config, *flags):
        path = tmp_path / "models.config"
        path.write_text(config)
        flags = [f"--model_config_file={path}", *flags]
        started.append(ModelServer(flags, ["half_plus_two"], tmp_path / "server.log"))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def read_log(prefix, count):
    """The first `count` records, as TensorFlow reads them, once they are there."""
    deadline = time.monotonic() + SECONDS
    while True:
        files = sorted(glob.glob(f"{prefix}-*.tfrecord"))
        records = [it.numpy() for it in tf.data.TFRecordDataset(files)] if files else []
        if len(records) >= count:
            return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
        assert time.monotonic() < deadline, f"{len(records)} of {count} records in {files}"
        time.sleep(0.05)


def ask_everything(server):
    """One request of each kind; returns what was sent and answered."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction(channel)
        predict = predict_request("half_plus_two", x=[1.0, 2.0])
        predict.model_spec.version.value = 123
        predicted = stub.Predict(predict, timeout=30)
        examples = [example(x=[1.0]), example(x=[2.0])]
        classify = classification_pb2.ClassificationRequest()
        classify.model_spec.name = "half_plus_two"
        classify.model_spec.signature_name = "classify_x_to_y"
        classify.input.example_list.examples.extend(examples)
        classified = stub.Classify(classify, timeout=30)
        regress = regression_pb2.RegressionRequest()
        regress.model_spec.name = "half_plus_two"
        regress.model_spec.signature_name = "regress_x_to_y"
        regress.input.example_list.examples.extend(examples)
        regressed = stub.Regress(regress, timeout=30)
    status, _ = server.predict_rest("half_plus_two", '{"instances": [5.0]}')
    assert status == 200
    return (predict, predicted), (classify, classified), (regress, regressed)


def test_tensorflow_reads_what_was_sent_and_answered(start, tmp_path):
    prefix = tmp_path / "logs" / "half_plus_two"
    server = start(models_config(HALF_PLUS_TWO, prefix))
    before = int(time.time())
    (predict, predicted), (classify, classified), (regress, regressed) = ask_everything(server)

    logs = read_log(prefix, 4)

    assert len(logs) == 4
    for log in logs:
        metadata = log.log_metadata
        assert metadata.model_spec.name == "half_plus_two"
        assert metadata.model_spec.version.value == 123
        assert metadata.sampling_config.sampling_rate == 1.0
        assert metadata.saved_model_tags == ["serve"]
        assert before <= metadata.timestamp_secs <= time.time()

    log = logs[0].predict_log
    assert log.request.model_spec.name == "half_plus_two"
    assert not log.request.model_spec.HasField("version")
    assert log.response.model_spec == predicted.model_spec
    same_tensors(log.request.inputs, predict.inputs)
    same_tensors(log.response.outputs, predicted.outputs)
    assert logs[1].classify_log.request == classify
    assert logs[1].classify_log.response == classified
    assert logs[2].regress_log.request == regress
    assert logs[2].regress_log.response == regressed
    rest = logs[3].predict_log
    assert tf.make_ndarray(rest.request.inputs["x"]).tolist() == [5.0]
    assert tf.make_ndarray(rest.response.outputs["y"]).tolist() == [4.5]


def same_tensors(actual, expected):
    assert sorted(actual) == sorted(expected)
    for alias in expected:
        left, right = tf.make_ndarray(actual[alias]), tf.make_ndarray(expected[alias])
        assert (left.dtype, left.tolist()) == (right.dtype, right.tolist())


def test_log_works_as_a_warmup_file(start, start_server, tmp_path):
    prefix = tmp_path / "logs" / "m"
    server = start(models_config(HALF_PLUS_TWO, prefix))
    ask_everything(server)
    read_log(prefix, 4)
    base_path = tmp_path / "models" / "half_plus_two"
    shutil.copytree(HALF_PLUS_TWO, base_path)
    [version] = base_path.iterdir()
    [log] = glob.glob(f"{prefix}-*")
    (version / "assets.extra").mkdir()
    shutil.copy(log, version / "assets.extra" / "tf_serving_warmup_requests")

    warmed = start_server(
        ["--model_name=half_plus_two", f"--model_base_path={base_path}"], ["half_plus_two"]
    )

    poll(lambda: "Number of warmup records read: 4." in warmed.log())


def test_reloads_turn_the_log_on_and_off(start, tmp_path):
    prefix = tmp_path / "logs" / "m"
    server = start(models_config(HALF_PLUS_TWO, None))
    with grpc.insecure_channel(server.grpc_address) as channel:
        ask_everything(server)
        reload(channel, models_config(HALF_PLUS_TWO, prefix))
        ask_everything(server)
        assert len(read_log(prefix, 4)) == 4
        # The texts of monitoring.md, section 2, and server_request_logger_test.cc.
        with refused(
            grpc.StatusCode.NOT_FOUND, "Cannot find LogCollector::Factory for type: kafka"
        ):
            reload(channel, models_config(HALF_PLUS_TWO, prefix, kind="kafka"))
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            reload(channel, models_config(HALF_PLUS_TWO, prefix, rate=-1.0))
        # The previous configuration stays in force.
        ask_everything(server)
        assert len(read_log(prefix, 8)) == 8
        reload(channel, models_config(HALF_PLUS_TWO, None))
        ask_everything(server)
    server.stop()
    assert len(read_log(prefix, 8)) == 8


def reload(channel, config):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config, allow_unknown_field=False)
    assert isinstance(request.config, model_server_config_pb2.ModelServerConfig)
    model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)


def test_small_share_is_sampled(start, tmp_path):
    prefix = tmp_path / "m"
    server = start(models_config(HALF_PLUS_TWO, prefix, rate=0.25))
    with grpc.insecure_channel(server.grpc_address) as channel:
        predict = prediction(channel).Predict
        for _ in range(400):
            predict(predict_request("half_plus_two", x=[1.0]), timeout=30)
    server.stop()
    # 100 on average; 40 off is less likely than one in a million.
    assert 60 <= len(read_log(prefix, 1)) <= 140


def test_files_rotate_by_size(start, tmp_path):
    prefix = tmp_path / "m"
    flags = "--request_log_max_file_bytes=1000"
    server = start(models_config(HALF_PLUS_TWO, prefix), flags)
    for count in range(1, 4):
        body = str({"instances": [float(count)] * 500}).replace("'", '"')
        assert server.predict_rest("half_plus_two", body)[0] == 200
        read_log(prefix, count)
    assert len(glob.glob(f"{prefix}-*.tfrecord")) == 3


def test_folders_outside_the_allowlist_are_refused(start, tmp_path):
    allowed = f"--request_log_path_allowlist={tmp_path / 'logs'}"
    server = start(models_config(HALF_PLUS_TWO, tmp_path / "logs" / "m"), allowed)
    with grpc.insecure_channel(server.grpc_address) as channel:
        for prefix in ("/etc/m", tmp_path / "m", f"{tmp_path}/logs/../m"):
            with refused(grpc.StatusCode.INVALID_ARGUMENT):
                reload(channel, models_config(HALF_PLUS_TWO, prefix))
    assert not list(pathlib.Path(tmp_path).glob("m-*"))
