"""Every test model of the package `onnx` that ONNX Runtime answers is answered alike, or refused by name.

The models, and ONNX Runtime's own answers: `onnx_backend.py`.
"""

import collections
import dataclasses
import itertools

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
)

import onnx_backend
import onnx_models
from grpc_calls import TIMEOUT, prediction
from model_server import ModelServer

pytestmark = pytest.mark.full

MODELS_AT_A_TIME = 400
LOAD_SECONDS = 600
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


@dataclasses.dataclass
class Outcome:
    """What became of one model."""

    # Why ONNX Runtime does not load it or does not answer; empty otherwise.
    runtime: str = ""
    # Why the server does not serve it; empty otherwise.
    refusal: str = ""
    # The beginning of the message with which it has to be refused.
    expected_refusal: str | None = None
    # Where an answer differs, and how.
    difference: str = ""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """By model."""
    outcomes = {}
    cases = onnx_backend.cases()
    while some := list(itertools.islice(cases, MODELS_AT_A_TIME)):
        folder = tmp_path_factory.mktemp("models")
        onnx_models.publish(folder / "first", 1, onnx_models.says_its_version(1))
        flags = ["--model_name=first", f"--model_base_path={folder / 'first'}"]
        flags += ["--max_num_load_retries=0"]
        server = ModelServer(flags, ["first"], folder / "server.log")
        try:
            with grpc.insecure_channel(server.grpc_address) as channel:
                refusals = load(channel, folder, some)
                for case in some:
                    found = outcome(channel, case, refusals.get(case.name, ""))
                    found.expected_refusal = expected_refusal(case)
                    outcomes[case.name] = found
            assert server.is_running(), server.log()
        finally:
            server.stop()
    return outcomes


def load(channel, folder, cases):
    """Has the server load all; returns why it does not serve some, by name."""
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = model_management_pb2.ReloadConfigRequest()
    for case in cases:
        onnx_models.publish(folder / case.name, 1, case.model.SerializeToString())
    for name in ["first", *(case.name for case in cases)]:
        request.config.model_config_list.config.add(
            name=name, base_path=str(folder / name), model_platform="tensorflow"
        )
    try:
        stub.HandleReloadConfigRequest(request, timeout=LOAD_SECONDS)
    except grpc.RpcError as error:
        # Some did not become available, after all were tried.
        assert error.code() == grpc.StatusCode.UNKNOWN, error.details()
    refusals = {}
    for case in cases:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = case.name
        (status,) = stub.GetModelStatus(request, timeout=TIMEOUT).model_version_status
        if status.state != AVAILABLE:
            refusals[case.name] = status.status.error_message
    return refusals


def outcome(channel, case, refusal):
    try:
        runtime = onnx_backend.BareRuntime(case)
    except onnx_backend.Refused as error:
        return Outcome(runtime=str(error), refusal=refusal)
    if refusal:
        return Outcome(refusal=refusal)
    for inputs in case.data_sets:
        try:
            expected = runtime.answer(case.feeds(inputs))
        except onnx_backend.Refused as error:
            return Outcome(runtime=str(error))
        if difference := compare(channel, case, inputs, expected):
            return Outcome(difference=difference)
    return Outcome()


def compare(channel, case, inputs, expected):
    """How the server's answer differs; empty where it does not."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = case.name
    for alias, value in case.feeds(inputs).items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    try:
        response = prediction(channel).Predict(request, timeout=TIMEOUT)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    answered = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    expected = dict(elements(expected))
    if answered.keys() != expected.keys():
        return f"the outputs {sorted(answered)} rather than {sorted(expected)}"
    for name, array in expected.items():
        if array.dtype.kind in "OU":
            array = np.vectorize(str.encode, [object])(array) if array.size else array.astype(object)
        other = answered[name]
        is_alike = onnx_backend.is_same(other, array)
        if not is_alike and not onnx_backend.is_close(other, array, case.rtol, case.atol):
            return f"{name}: {other!r} rather than {array!r}"
    return ""


def elements(outputs):
    """The outputs with an own one for each element of a sequence."""
    for name, value in outputs.items():
        if isinstance(value, list):
            for number, element in enumerate(value):
                yield f"{name}_{number}", element
        else:
            yield name, value


# Models whose sequences have a length that depends on the inputs. Their other outputs are served; these
# have none.
OF_UNKNOWN_LENGTH = {"node.test_split_to_sequence_1", "node.test_split_to_sequence_2"}
UNKNOWN_LENGTH = (
    "signature 'serving_default' has no output: the graph's output '{}' is not served: it is a sequence of "
    "tensors, and how many there are is not known before a run, or too many."
)


def expected_refusal(case):
    """How the message begins that a model of the suite is refused with; `None` if it is to be served."""
    graph = case.model.graph
    for what, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            if ty := refused_type(value.type, is_output=what == "output"):
                return f"the graph's {what} '{value.name}' is {ty}: clients cannot "
    if case.name in OF_UNKNOWN_LENGTH:
        return UNKNOWN_LENGTH.format(graph.output[0].name)
    return None


def refused_type(ty, is_output):
    """A type that is not served, in words; empty for others."""
    kind = ty.WhichOneof("value")
    if kind == "tensor_type":
        name = onnx_backend.type_name(ty.tensor_type.elem_type)
        return "" if name in SERVED else f"a tensor of {name}"
    if kind == "sequence_type":
        name = onnx_backend.type_name(ty.sequence_type.elem_type.tensor_type.elem_type)
        return "" if is_output and name in SERVED else f"a sequence of tensors of {name}"
    assert kind == "optional_type", kind
    return f"optionally {refused_type(ty.optional_type.elem_type, False) or 'a tensor of'}"


# The ONNX types that clients can send and receive.
SERVED = {
    *("float", "double", "float16", "bfloat16", "string", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
}


def test_all_models_of_the_suite_are_tried(outcomes):
    kinds = collections.Counter(name.split(".")[0] for name in outcomes)
    assert set(kinds) == set(onnx_backend.KINDS)
    # Without those that ONNX Runtime itself does not answer: training, types without kernels.
    answered = [name for name, it in outcomes.items() if not it.runtime and not it.refusal]
    assert len(answered) > 1600, len(answered)


def test_answers_are_those_of_onnxruntime(outcomes):
    different = [f"{name}: {it.difference}" for name, it in outcomes.items() if it.difference]
    assert not different, "\n".join(different)


def test_models_are_refused_for_listed_causes_only(outcomes):
    wrong = []
    for name, it in outcomes.items():
        expected = it.expected_refusal
        if it.runtime:
            continue
        if (expected is None) != (not it.refusal) or not it.refusal.startswith(expected or ""):
            wrong.append(f"{name}: {it.refusal!r} rather than {expected!r}")
    assert not wrong, "\n".join(wrong)
    # Each cause occurs.
    texts = "\n".join(it.refusal for it in outcomes.values())
    for cause in ("a tensor of float8", "a tensor of int4", "a sequence of", "optionally", "not known before"):
        assert cause in texts, cause
