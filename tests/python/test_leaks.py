"""A server that loads and unloads for ever does not grow, and large requests leave nothing behind."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

import onnx_models
from grpc_calls import LOAD_TIMEOUT, TIMEOUT, predict_request, prediction
from model_server import MODELS_FOLDER, poll
from process_usage import Usage

END = get_model_status_pb2.ModelVersionStatus.END
# Each with all of the models, because a reload first waits for their files to settle.
CYCLES = 30
MODELS = [f"heavy{number}" for number in range(10)]
# Until then caches fill and threads start.
WARM_CYCLES = 2
# A request of 16 MB, whose tensors have as many bytes.
LARGE_VALUES = 4_000_000
# glibc keeps up to 8 MiB of each of its arenas, mimalloc some memory for each thread; without limits
# and trims twice as much as this would be left.
MAX_LEFT = 64 << 20
# Values of requests that are not large and leave nothing behind: a megabyte.
SMALLER_VALUES = 250_000
MAX_LEFT_BY_SMALLER = 24 << 20
# How much freed memory glibc keeps depends on which blocks were neighbours. With fixed thresholds it
# keeps none of a model's, and the resident memory is the memory that the server uses.
KEEP_NOTHING = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072"
}


def test_loading_and_unloading_leaves_nothing_behind(start_server, tmp_path):
    for name in MODELS:
        onnx_models.publish(tmp_path / name, 1, onnx_models.weighs(10))
    onnx_models.publish(tmp_path / "light", 1, onnx_models.says_its_version(1))
    flags = ["--model_name=light", f"--model_base_path={tmp_path / 'light'}"]
    server = start_server(flags, ["light"], env=os.environ | KEEP_NOTHING)
    config = " ".join(
        f"config {{ name: '{name}' base_path: '{tmp_path / name}' model_platform: 'onnx' }}"
        for name in MODELS
    )

    with grpc.insecure_channel(server.grpc_address) as channel:
        for cycle in range(1, CYCLES + 1):
            load_and_unload(channel, config)
            if cycle == WARM_CYCLES:
                warm = Usage(server.process.pid)
    after = Usage(server.process.pid)

    print(f"after {WARM_CYCLES} cycles: {warm}; after {CYCLES}: {after}")
    assert after.resident <= 1.1 * warm.resident
    assert after.descriptors <= warm.descriptors
    # The number of idle threads for runs and connections varies slightly.
    assert after.threads <= warm.threads + 4


def load_and_unload(channel, config):
    reload(channel, config)
    for name in MODELS:
        request = predict_request(name, x=np.zeros(256, np.float32))
        response = prediction(channel).Predict(request, timeout=TIMEOUT)
        assert list(response.outputs["y"].float_val) == [0]
    reload(channel, "")
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    deadline = time.monotonic() + TIMEOUT
    for name in MODELS:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        while status(request, timeout=TIMEOUT).model_version_status[0].state != END:
            assert time.monotonic() < deadline, f"{name} is not unloaded"
            time.sleep(0.002)


def reload(channel, models):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(f"model_config_list {{ {models} }}", request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    response = stub.HandleReloadConfigRequest(request, timeout=LOAD_TIMEOUT)
    assert response.status.error_code == 0, response.status.error_message


def test_memory_of_large_requests_comes_back(start_server):
    flags = ["--model_name=half_plus_two", f"--model_base_path={MODELS_FOLDER / 'half_plus_two'}"]
    server = start_server(flags, ["half_plus_two"])
    body = json.dumps({"instances": [1.5] * LARGE_VALUES})
    assert server.predict_rest("half_plus_two", json.dumps({"instances": [1.5]}))[0] == 200
    before = Usage(server.process.pid).resident
    with ThreadPoolExecutor(4) as clients:
        replies = clients.map(lambda _: server.predict_rest("half_plus_two", body), range(12))
        assert all(status == 200 for status, _ in replies)
    left = Usage(server.process.pid).resident
    poll(lambda: Usage(server.process.pid).resident < before + MAX_LEFT)
    print(f"{before >> 20} MiB before, {left >> 20} right after large requests")


def test_memory_of_smaller_requests_comes_back(start_server):
    """They come without a pause; what they used together is given back once nobody asks any more."""
    flags = ["--model_name=half_plus_two", f"--model_base_path={MODELS_FOLDER / 'half_plus_two'}"]
    server = start_server(flags, ["half_plus_two"])
    request = predict_request("half_plus_two", x=np.ones(SMALLER_VALUES, np.float32))
    assert server.predict_rest("half_plus_two", json.dumps({"instances": [1.5]}))[0] == 200
    before = Usage(server.process.pid).resident

    def ask(_):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.grpc_address, options) as channel:
            for _ in range(200):
                prediction(channel).Predict(request, timeout=TIMEOUT)

    with ThreadPoolExecutor(4) as clients:
        assert len(list(clients.map(ask, range(4)))) == 4
    left = Usage(server.process.pid).resident
    poll(lambda: Usage(server.process.pid).resident < before + MAX_LEFT_BY_SMALLER)
    print(f"{before >> 20} MiB before, {left >> 20} right after smaller requests")
