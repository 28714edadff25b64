"""The memory that the server needs to import a SavedModel, compared with the size of its weights."""

import json

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from checkpoints import embedding
from model_server import peak_memory_mib, poll
from process_usage import Usage

COLUMNS = 1024
MIB = 1 << 20
# The weights and a copy that ONNX Runtime makes for a while, and a tenth for all else.
MOST_TIMES_THE_WEIGHTS = 2.2
LOAD_SECONDS = 300


@pytest.mark.parametrize(
    "rows", [65_536, pytest.param(750_000, marks=pytest.mark.full)], ids=["256MiB", "3GB"]
)
def test_import_needs_twice_the_weights(start_server, tmp_path, rows):
    base_path = tmp_path / "table"
    base_path.mkdir()
    embedding(tmp_path / "version", rows, COLUMNS, {0: [0.5], rows - 1: [rows, 0.25]})
    flags = ["--wait_for_models=false", "--file_system_poll_wait_seconds=1"]
    server = start_server([f"--model_base_path={base_path}", "--model_name=table", *flags], [])
    poll(lambda: is_listening(server))
    before = Usage(server.process.pid).resident / MIB
    (tmp_path / "version").rename(base_path / "1")
    poll(lambda: is_available(server), LOAD_SECONDS)

    peak = peak_memory_mib(server.process.pid) - before

    weights = 4 * rows * COLUMNS / MIB
    assert peak <= MOST_TIMES_THE_WEIGHTS * weights, f"{peak / weights:.2f} times"
    ids, sums = [0, 1, rows - 1], [0.5, 0.0, rows + 0.25]
    status, answer = server.predict_rest("table", json.dumps({"instances": ids}))
    assert (status, json.loads(answer)) == (200, {"predictions": sums})
    assert predicted(server, ids) == sums


def is_available(server):
    status, _, body = server.rest("GET", "/v1/models/table")
    return status == 200 and b'"AVAILABLE"' in body


def is_listening(server):
    try:
        return server.rest("GET", "/healthz")[0] == 200
    except OSError:
        return False


def predicted(server, ids):
    """The answer over gRPC."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "table"
    request.inputs["ids"].dtype = 3
    request.inputs["ids"].tensor_shape.dim.add(size=len(ids))
    request.inputs["ids"].tensor_content = np.int32(ids).tobytes()
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        output = stub.Predict(request, timeout=60).outputs["y"]
    return list(output.float_val) or np.frombuffer(output.tensor_content, np.float32).tolist()
