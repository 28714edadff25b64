"""What decoding takes counts before it is taken: bodies whose few bytes stand for much are refused at the
bound on bytes, and those that hold what they seem to are answered.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2

from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import MODELS_FOLDER, PROJECT, peak_memory_mib

MODEL = "half_plus_two"
SENT = 8_000_000
# Enough for twice a request and the numbers in it.
MAX_BYTES = 40_000_000
FLAG = "--max_bytes_in_flight"
# The request and its decoded form, for each protocol.
MAX_GROWTH_MIB = 60
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def server(start_server):
    flags = [f"--model_name={MODEL}", f"--model_base_path={MODELS_FOLDER / MODEL}"]
    return start_server([*flags, f"{FLAG}={MAX_BYTES}"], [MODEL])


def filled(begin, unit, end):
    return begin + unit * ((SENT - len(begin) - len(end)) // len(unit)) + end


def keys():
    members = (f'"{number:07d}":1,' for number in range(SENT // 12))
    return '{"examples":[{' + "".join(members) + '"x":1}]}'


JSON_BODIES = {
    "examples": ("classify", lambda: filled('{"examples":[', "{},", "{}]}")),
    "keys": ("regress", keys),
    "strings": ("predict", lambda: filled('{"instances":[', '"",', '""]}')),
    "filters": ("predict", lambda: filled('{"instances":[1],"output_filter":[', '"",', '""]}')),
    "encoded": ("predict", lambda: filled('{"instances":[', '{"b64":""},', '{"b64":""}]}')),
    "not UTF-8": ("predict", lambda: filled(b'{"instances":["', b"\xff", b'"]}')),
}


def refused(server, ask, before):
    status, text = ask()
    assert (status, FLAG in text) == (429, True), (status, text[:200])
    peak = peak_memory_mib(server.process.pid)
    print(f"peak {peak:.0f} MiB, {before:.0f} before")
    assert peak < before + MAX_GROWTH_MIB


@pytest.mark.parametrize("name", JSON_BODIES)
def test_json_that_stands_for_much_is_refused(server, name):
    api, body = JSON_BODIES[name]
    body = body()

    def ask():
        status, _, text = server.rest("POST", f"/v1/models/{MODEL}:{api}", body)
        return status, text.decode()

    refused(server, ask, peak_memory_mib(server.process.pid))


def strings_request():
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    tensor = request.inputs["x"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add(size=SENT // 2)
    tensor.string_val.extend([b""] * (SENT // 2))
    return request


def repeated_request():
    """A shape for many values, of which there is one: it is repeated."""
    request = predict_request(MODEL, x=np.float32([1]))
    request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=1, float_val=[1]))
    request.inputs["x"].tensor_shape.dim.add(size=15_000_000)
    return request


def integers_request():
    """They take a byte each."""
    request = predict_request(MODEL, x=np.float32([1]))
    integers = tensor_pb2.TensorProto(dtype=9, int64_val=[1] * SENT)
    request.inputs["x"].CopyFrom(integers)
    request.inputs["x"].tensor_shape.dim.add(size=SENT)
    return request


def classification_request():
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = MODEL
    add_examples(request.input)
    return request


def inference_request():
    request = inference_pb2.MultiInferenceRequest()
    request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = MODEL
    add_examples(request.input)
    return request


def add_examples(to):
    for _ in range(SENT // 2):
        to.example_list.examples.add()


@pytest.mark.parametrize(
    ("method", "make"),
    [
        ("Predict", strings_request),
        ("Predict", repeated_request),
        ("Predict", integers_request),
        ("Classify", classification_request),
        ("MultiInference", inference_request),
    ],
)
def test_messages_that_stand_for_much_are_refused(server, method, make):
    request = make()
    before = peak_memory_mib(server.process.pid)

    def ask():
        with grpc.insecure_channel(server.grpc_address) as channel:
            with pytest.raises(grpc.RpcError) as error:
                getattr(prediction(channel), method)(request, timeout=TIMEOUT)
        is_exhausted = error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return 429 if is_exhausted else error.value.code(), error.value.details()

    refused(server, ask, before)


def test_protobuf_over_rest_that_stands_for_much_is_refused(server):
    body = strings_request().SerializeToString()
    before = peak_memory_mib(server.process.pid)

    def ask():
        status, _, text = server.rest("POST", f"/v1/models/{MODEL}:predict", body, PROTOBUF)
        return status, text.decode()

    refused(server, ask, before)


def test_requests_at_a_time_share_what_their_shapes_say(server):
    """Each of them would fit."""
    request = repeated_request()
    request.inputs["x"].tensor_shape.dim[0].size = 6_000_000
    before = peak_memory_mib(server.process.pid)
    with grpc.insecure_channel(server.grpc_address, [("grpc.max_receive_message_length", -1)]) as it:
        calls = [prediction(it).Predict.future(request, timeout=TIMEOUT) for _ in range(100)]
        codes = {call.code() for call in calls}
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes, codes
    peak = peak_memory_mib(server.process.pid)
    print(f"peak {peak:.0f} MiB, {before:.0f} before")
    # Inputs, outputs and an answer.
    assert peak < before + 3 * MAX_BYTES / 2**20 + MAX_GROWTH_MIB


def test_what_only_looks_like_much_is_answered(server):
    """An image whose bytes could be fields, examples with numbers, rows with names."""
    image = tensor_pb2.TensorProto(dtype=1, tensor_content=b"\x0a\0\0\0" * (SENT // 4))
    image.tensor_shape.dim.add(size=SENT // 4)
    request = predict_request(MODEL, x=np.float32([1]))
    request.inputs["x"].CopyFrom(image)
    with grpc.insecure_channel(server.grpc_address, [("grpc.max_receive_message_length", -1)]) as it:
        reply = prediction(it).Predict(request, timeout=TIMEOUT)
        assert len(reply.outputs["y"].float_val) == SENT // 4
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = MODEL
        for _ in range(5000):
            features = request.input.example_list.examples.add().features.feature
            for number in range(20):
                features[f"f{number}"].float_list.value.append(0.5)
        with pytest.raises(grpc.RpcError) as error:
            prediction(it).Classify(request, timeout=TIMEOUT)
        # The model has no such signature, which is noticed after decoding.
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, error.value
    rows = json.dumps({"instances": [{"x": 1.5}] * 200_000})
    assert server.predict_rest(MODEL, rows)[0] == 200


def test_numbers_count_as_what_they_are(server):
    body = filled('{"instances":[', "1.5,", "1.5]}")
    status, answer = server.predict_rest(MODEL, body)
    assert status == 200 and json.loads(answer)["predictions"][-1] == 2.75
    x = np.full(SENT // 4, 1.5, np.float32)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options) as channel:
        reply = prediction(channel).Predict(predict_request(MODEL, x=x), timeout=TIMEOUT)
    assert len(reply.outputs["y"].float_val) == len(x) and reply.outputs["y"].float_val[-1] == 2.75


CONTEXT_BYTES = 1_000_000
NUM_EXAMPLES = 64


@pytest.fixture(scope="module")
def classifier(start_server):
    folder = PROJECT / "tests" / "data" / "golden" / "models" / "ex"
    flags = ["--model_name=ex", f"--model_base_path={folder}"]
    return start_server([*flags, f"{FLAG}={8 * MAX_BYTES}"], ["ex"])


def context_over_grpc(server):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "ex"
    examples = request.input.example_list_with_context
    features = examples.context.features.feature
    features["unused"].bytes_list.value.append(b"a" * CONTEXT_BYTES)
    features["x"].float_list.value.append(1)
    for _ in range(NUM_EXAMPLES):
        examples.examples.add()
    with grpc.insecure_channel(server.grpc_address) as channel:
        try:
            reply = prediction(channel).Classify(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and 429, error.details()
    return 200, len(reply.result.classifications)


def context_over_rest(server):
    context = {"unused": "a" * CONTEXT_BYTES, "x": 1.0}
    body = json.dumps({"context": context, "examples": [{}] * NUM_EXAMPLES})
    status, _, text = server.rest("POST", "/v1/models/ex:classify", body)
    return status, len(json.loads(text)["results"]) if status == 200 else text.decode()


@pytest.mark.parametrize("ask", [context_over_grpc, context_over_rest])
def test_repeated_contexts_of_all_requests_together_have_a_bound(classifier, ask):
    assert ask(classifier) == (200, NUM_EXAMPLES)
    before = peak_memory_mib(classifier.process.pid)
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: ask(classifier), range(72)))
    peak = peak_memory_mib(classifier.process.pid)
    refused = [text for status, text in answers if status == 429]
    print(f"peak {peak:.0f} MiB, {before:.0f} before, {len(refused)} refused")
    assert all("contexts" in text and FLAG in text for text in refused)
    others = [answer for answer in answers if answer[0] != 429]
    assert set(others) == {(200, NUM_EXAMPLES)}
    # Half of the limit for contexts, and the bytes of all requests together.
    assert peak < before + 4 * MAX_BYTES / 2**20 + 24 * 3 * CONTEXT_BYTES / 2**20 + MAX_GROWTH_MIB
