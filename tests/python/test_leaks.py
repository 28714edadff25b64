"""A server that loads and unloads for ever does not grow."""

import os
import time

import grpc
import numpy as np
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

import onnx_models
from grpc_calls import LOAD_TIMEOUT, TIMEOUT, predict_request, prediction
from process_usage import Usage

END = get_model_status_pb2.ModelVersionStatus.END
CYCLES = 300
# Until then caches fill and threads start.
WARM_CYCLES = 20
# What glibc keeps of freed blocks depends on which of them were neighbours. With fixed thresholds it
# keeps none of a model's, and what is resident is what the server holds.
KEEP_NOTHING = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072"
}


def test_loading_and_unloading_leaves_nothing_behind(start_server, tmp_path):
    onnx_models.publish(tmp_path / "heavy", 1, onnx_models.weighs(10))
    onnx_models.publish(tmp_path / "light", 1, onnx_models.says_its_version(1))
    flags = ["--model_name=light", f"--model_base_path={tmp_path / 'light'}"]
    server = start_server(flags, ["light"], env=os.environ | KEEP_NOTHING)
    heavy = f"config {{ name: 'heavy' base_path: '{tmp_path / 'heavy'}' model_platform: 'onnx' }}"

    with grpc.insecure_channel(server.grpc_address) as channel:
        for cycle in range(1, CYCLES + 1):
            load_and_unload(channel, heavy)
            if cycle == WARM_CYCLES:
                warm = Usage(server.process.pid)
    after = Usage(server.process.pid)

    print(f"after {WARM_CYCLES} cycles: {warm}; after {CYCLES}: {after}")
    assert after.resident <= 1.1 * warm.resident
    assert after.descriptors <= warm.descriptors
    # Idle threads for runs and connections come and go by a few.
    assert after.threads <= warm.threads + 4


def load_and_unload(channel, model):
    reload(channel, model)
    request = predict_request("heavy", x=np.zeros(256, np.float32))
    response = prediction(channel).Predict(request, timeout=TIMEOUT)
    assert list(response.outputs["y"].float_val) == [0]
    reload(channel, "")
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "heavy"
    status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    deadline = time.monotonic() + TIMEOUT
    while status(request, timeout=TIMEOUT).model_version_status[0].state != END:
        assert time.monotonic() < deadline, "it is not unloaded"
        time.sleep(0.002)


def reload(channel, models):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(f"model_config_list {{ {models} }}", request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    response = stub.HandleReloadConfigRequest(request, timeout=LOAD_TIMEOUT)
    assert response.status.error_code == 0, response.status.error_message
