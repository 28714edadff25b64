"""`PredictionService`: every RPC, good and bad, with the real client.

Values and texts are TensorFlow Serving's, as recorded in `tests/data/golden` or as its sources have
them.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import any_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    regression_pb2,
)

from grpc_calls import (
    GOLDEN,
    GOLDEN_MODELS,
    TIMEOUT,
    example,
    golden_flags,
    predict_request,
    prediction,
    refused,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


@pytest.fixture(scope="module")
def golden(start_server, tmp_path_factory):
    return start_server(golden_flags(tmp_path_factory.mktemp("golden")), GOLDEN_MODELS)


@pytest.fixture(scope="module")
def stub(golden):
    with grpc.insecure_channel(golden.grpc_address) as channel:
        yield prediction(channel)


# Predict.


def test_predict_of_two_inputs_and_two_outputs(stub):
    request = predict_request("multi", a=np.float32([[1, 2]]), b=np.float32([[3, 4]]))

    response = stub.Predict(request, timeout=TIMEOUT)

    outputs = {alias: tf.make_ndarray(it).tolist() for alias, it in response.outputs.items()}
    assert outputs == {"sum": [[4.0, 6.0]], "prod": [[3.0, 8.0]]}
    assert response.model_spec.name == "multi"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    assert not response.model_spec.version_label


def test_predict_filters_outputs(stub):
    request = predict_request("multi", a=np.float32([[1, 2]]), b=np.float32([[3, 4]]))
    request.output_filter.append("prod")
    assert list(stub.Predict(request, timeout=TIMEOUT).outputs) == ["prod"]


def test_predict_without_inputs(stub):
    """A signature may have none."""
    response = stub.Predict(predict_request("multi", "noin"), timeout=TIMEOUT)
    assert list(response.outputs) == ["y"]
    assert response.outputs["y"].tensor_shape.dim[0].size == 3


@pytest.mark.parametrize(
    ("choice", "version"), [({}, 3), ({"version": 2}, 2), ({"version_label": "stable"}, 1)]
)
def test_predict_of_a_chosen_version(stub, choice, version):
    request = predict_request("vers", x=np.float32([10]))
    if "version" in choice:
        request.model_spec.version.value = choice["version"]
    if "version_label" in choice:
        request.model_spec.version_label = choice["version_label"]

    response = stub.Predict(request, timeout=TIMEOUT)

    assert response.model_spec.version.value == version
    assert list(response.outputs["y"].float_val) == [10.0 + version]


def test_fields_for_streamed_requests_are_ignored(stub):
    request = predict_request("half_plus_two", x=np.float32([2]))
    request.client_id = b"somebody"
    request.request_options.max_cache_length = 5
    request.predict_streamed_options.return_single_response = True
    response = stub.Predict(request, timeout=TIMEOUT)
    assert list(response.outputs["y"].float_val) == [3.0]


def spec_without_model(request):
    request.ClearField("model_spec")


def spec_of_empty_name(request):
    request.model_spec.name = ""


def spec_of_version(request):
    request.model_spec.version.value = 9


def spec_of_version_zero(request):
    request.model_spec.version.SetInParent()


def spec_of_label(request):
    request.model_spec.version_label = "nope"


def spec_of_empty_label(request):
    request.model_spec.version_label = ""


def spec_of_signature(request):
    request.model_spec.signature_name = "nope"


def spec_of_model(request):
    request.model_spec.name = "nope"


# A change to a good request for half_plus_two, the code, and the text.
BAD_SPECS = [
    (spec_without_model, INVALID, "Missing ModelSpec"),
    (spec_of_empty_name, INVALID, "ModelSpec has no name specified."),
    (
        spec_of_model,
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(nope)",
    ),
    (
        spec_of_version,
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    (
        spec_of_version_zero,
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(half_plus_two, 0)",
    ),
    (spec_of_label, INVALID, "Unrecognized servable version label: nope"),
    (spec_of_empty_label, INVALID, "Unrecognized servable version label: "),
    (
        spec_of_signature,
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nope" not found.',
    ),
]


@pytest.mark.parametrize(("change", "code", "details"), BAD_SPECS)
def test_predict_refuses_model_specs(stub, change, code, details):
    request = predict_request("half_plus_two", x=np.float32([2]))
    change(request)
    with refused(code, details):
        stub.Predict(request, timeout=TIMEOUT)


ONE = np.float32([[1, 2]])
BAD_INPUTS = [
    (
        {},
        "input size does not match signature: 0!=2 len({}) != len({a,b}). "
        "Sent extra: {}. Missing but required: {a,b}.",
    ),
    (
        {"a": ONE, "b": ONE, "c": ONE},
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). "
        "Sent extra: {c}. Missing but required: {}.",
    ),
]


@pytest.mark.parametrize(("inputs", "details"), BAD_INPUTS)
def test_predict_refuses_other_numbers_of_inputs(stub, inputs, details):
    with refused(INVALID, details):
        stub.Predict(predict_request("multi", **inputs), timeout=TIMEOUT)


def test_predict_refuses_another_alias(stub):
    starts = "Signature input alias: x(feed name: "
    ends = ") not found in request and no default value provided."
    with refused(INVALID, starts=starts, contains=ends):
        stub.Predict(predict_request("half_plus_two", y=np.float32([2])), timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("output_filter", "details"),
    [
        (
            ["nope"],
            "output tensor alias not found in signature: nope "
            "Outputs expected to be in the set {prod,sum}.",
        ),
        (["sum", "sum"], "duplicate output tensor alias: sum"),
    ],
)
def test_predict_refuses_output_filters(stub, output_filter, details):
    request = predict_request("multi", a=ONE, b=ONE)
    request.output_filter.extend(output_filter)
    with refused(INVALID, details):
        stub.Predict(request, timeout=TIMEOUT)


def test_predict_refuses_another_dtype(stub):
    with refused(INVALID, contains="to be float but string is provided"):
        stub.Predict(predict_request("half_plus_two", x=[b"2"]), timeout=TIMEOUT)


def test_predict_refuses_a_shape_that_does_not_fit(stub):
    with refused(INVALID):
        stub.Predict(predict_request("multi", "mat", x=np.float32([[1, 2]])), timeout=TIMEOUT)


# Classify and Regress.


def classification(signature_name="", examples=(), context=None):
    request = classification_pb2.ClassificationRequest()
    return with_examples(request, signature_name, examples, context)


def regression(signature_name="", examples=(), context=None):
    request = regression_pb2.RegressionRequest()
    return with_examples(request, signature_name, examples, context)


def with_examples(request, signature_name, examples, context):
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = signature_name
    put_examples(request.input, examples, context)
    return request


def put_examples(target, examples, context=None):
    if context is None:
        target.example_list.examples.extend(examples)
    else:
        target.example_list_with_context.examples.extend(examples)
        target.example_list_with_context.context.CopyFrom(context)


def scores(response):
    return [[it.score for it in each.classes] for each in response.result.classifications]


def test_classify_gives_scores_per_example(stub):
    request = classification("classify_x_to_y", [example(x=[2.0]), example(x=[4.0])])

    response = stub.Classify(request, timeout=TIMEOUT)

    assert scores(response) == [[3.0], [4.0]]
    assert response.result.classifications[0].classes[0].label == ""
    assert response.model_spec.version.value == 123
    assert response.model_spec.signature_name == "classify_x_to_y"


def test_the_examples_value_wins_over_the_contexts(stub):
    request = classification(
        "classify_x_to_y", [example(x=[2.0]), example(x2=[0.0])], context=example(x=[10.0])
    )
    assert scores(stub.Classify(request, timeout=TIMEOUT)) == [[3.0], [7.0]]


def test_regress_gives_a_value_per_example(stub):
    request = regression("regress_x_to_y2", [example(x=[2.0]), example(x=[4.0])])

    response = stub.Regress(request, timeout=TIMEOUT)

    assert [it.value for it in response.result.regressions] == [4.0, 5.0]
    assert response.model_spec.signature_name == "regress_x_to_y2"


@pytest.mark.parametrize(
    ("make", "rpc", "signature_name"),
    [(classification, "Classify", "classify_x_to_y"), (regression, "Regress", "regress_x_to_y")],
)
class TestRefusedExamples:
    """What Classify and Regress refuse alike."""

    def test_no_input(self, stub, make, rpc, signature_name):
        request = make(signature_name)
        request.ClearField("input")
        with refused(INVALID, "Input is empty."):
            getattr(stub, rpc)(request, timeout=TIMEOUT)

    def test_no_examples(self, stub, make, rpc, signature_name):
        for context in (None, example(x=[1.0])):
            with refused(INVALID, "Input is empty."):
                getattr(stub, rpc)(make(signature_name, context=context), timeout=TIMEOUT)

    def test_unknown_signature(self, stub, make, rpc, signature_name):
        with refused(INVALID, "No signature was found with the name: nope"):
            getattr(stub, rpc)(make("nope", [example(x=[1.0])]), timeout=TIMEOUT)

    def test_no_model_spec(self, stub, make, rpc, signature_name):
        request = make(signature_name, [example(x=[1.0])])
        request.ClearField("model_spec")
        with refused(INVALID, "Missing ModelSpec"):
            getattr(stub, rpc)(request, timeout=TIMEOUT)

    def test_unknown_model(self, stub, make, rpc, signature_name):
        request = make(signature_name, [example(x=[1.0])])
        request.model_spec.name = "nope"
        with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nope)"):
            getattr(stub, rpc)(request, timeout=TIMEOUT)

    def test_missing_feature(self, stub, make, rpc, signature_name):
        text = "Feature: x (data type: float) is required but could not be found."
        with refused(INVALID, contains=text):
            getattr(stub, rpc)(make(signature_name, [example(other=[1.0])]), timeout=TIMEOUT)

    def test_feature_of_another_kind(self, stub, make, rpc, signature_name):
        with refused(INVALID):
            getattr(stub, rpc)(make(signature_name, [example(x=[b"1"])]), timeout=TIMEOUT)

    def test_feature_of_another_length(self, stub, make, rpc, signature_name):
        with refused(INVALID):
            getattr(stub, rpc)(make(signature_name, [example(x=[1.0, 2.0])]), timeout=TIMEOUT)

    def test_predict_signature(self, stub, make, rpc, signature_name):
        with refused(INVALID):
            getattr(stub, rpc)(make("serving_default", [example(x=[1.0])]), timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("signature_name", "details"),
    [
        ("cls_int_classes", "Expected classes Tensor of DT_STRING. Got: DT_INT64"),
        (
            "cls_no_out",
            "Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: ',
        ),
    ],
)
def test_classify_refuses_outputs(stub, signature_name, details):
    request = classification(signature_name, [example(x=[1.0])])
    request.model_spec.name = "ex"
    with refused(INVALID, starts=details):
        stub.Classify(request, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("signature_name", "details"),
    [
        (
            "regress_bad",
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            "but got [1,2]",
        ),
        ("regress_noout", "No regression outputs found in SignatureDef: "),
    ],
)
def test_regress_refuses_outputs(stub, signature_name, details):
    request = regression(signature_name, [example(x=[1.0])])
    request.model_spec.name = "ex"
    with refused(INVALID, starts=details):
        stub.Regress(request, timeout=TIMEOUT)


# MultiInference.


def multi_inference(*tasks, examples=(), model="half_plus_two"):
    request = inference_pb2.MultiInferenceRequest()
    for signature_name, method_name in tasks:
        task = request.tasks.add(method_name=method_name)
        task.model_spec.name = model
        task.model_spec.signature_name = signature_name
    put_examples(request.input, examples)
    return request


def test_multi_inference_answers_in_the_order_of_tasks(stub):
    request = multi_inference(
        ("regress_x_to_y2", REGRESS),
        ("classify_x_to_y", CLASSIFY),
        ("regress_x_to_y", REGRESS),
        examples=[example(x=[2.0]), example(x=[4.0])],
    )

    response = stub.MultiInference(request, timeout=TIMEOUT)

    first, second, third = response.results
    assert [it.value for it in first.regression_result.regressions] == [4.0, 5.0]
    classes = second.classification_result.classifications
    assert [it.classes[0].score for it in classes] == [3.0, 4.0]
    assert [it.value for it in third.regression_result.regressions] == [3.0, 4.0]
    assert [it.model_spec.signature_name for it in response.results] == [
        "regress_x_to_y2",
        "classify_x_to_y",
        "regress_x_to_y",
    ]
    assert {it.model_spec.version.value for it in response.results} == {123}


GOOD_TASK = ("regress_x_to_y", REGRESS)
BAD_TASKS = [
    ([], INVALID, "ModelSpec has no name specified."),
    ([GOOD_TASK, GOOD_TASK], INVALID, "Duplicate evaluation of signature: regress_x_to_y"),
    ([("nope", REGRESS)], INVALID, "Requested signature not found in model graph: nope"),
    (
        [("serving_default", "tensorflow/serving/predict")],
        grpc.StatusCode.UNIMPLEMENTED,
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
]


@pytest.mark.parametrize(("tasks", "code", "details"), BAD_TASKS)
def test_multi_inference_refuses_tasks(stub, tasks, code, details):
    with refused(code, details):
        stub.MultiInference(multi_inference(*tasks, examples=[example(x=[2.0])]), timeout=TIMEOUT)


def test_multi_inference_refuses_a_second_model(stub):
    request = multi_inference(GOOD_TASK, GOOD_TASK, examples=[example(x=[2.0])])
    request.tasks[1].model_spec.name = "half_plus_three"
    details = "All ModelSpecs in a MultiInferenceRequest must access the same model name."
    with refused(INVALID, details):
        stub.MultiInference(request, timeout=TIMEOUT)
    request.tasks[1].model_spec.name = ""
    with refused(INVALID, "Found ModelSpec with an empty model name."):
        stub.MultiInference(request, timeout=TIMEOUT)


def test_multi_inference_refuses_no_examples(stub):
    with refused(INVALID, "Input is empty."):
        stub.MultiInference(multi_inference(GOOD_TASK), timeout=TIMEOUT)


def test_multi_inference_of_an_unknown_model(stub):
    request = multi_inference(GOOD_TASK, examples=[example(x=[2.0])], model="nope")
    with refused(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nope)"):
        stub.MultiInference(request, timeout=TIMEOUT)


# GetModelMetadata.


def metadata_request(model, *fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = model
    return request


@pytest.mark.parametrize("model", ["ident", "multi", "ex", "vers", "mlp"])
def test_metadata_is_the_models_own(stub, model):
    """What the original had in `saved_model.pb` when it was recorded."""
    response = stub.GetModelMetadata(metadata_request(model, "signature_def"), timeout=TIMEOUT)

    assert list(response.metadata) == ["signature_def"]
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert any_pb2.Any.Unpack(packed, signatures)
    version = max(path.name for path in (GOLDEN / "models" / model).iterdir())
    assert response.model_spec.name == model
    assert response.model_spec.version.value == int(version)
    content = (GOLDEN / "models" / model / version / "saved_model.pb").read_bytes()
    original = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def
    assert sorted(signatures.signature_def) == sorted(original)
    for name, signature in original.items():
        assert signatures.signature_def[name] == signature, name


@pytest.mark.parametrize(
    ("request_of", "code", "details"),
    [
        (
            lambda: metadata_request("half_plus_two"),
            INVALID,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            lambda: metadata_request("half_plus_two", "signature_def", "foo"),
            INVALID,
            "Metadata field foo is not supported",
        ),
        (
            lambda: get_model_metadata_pb2.GetModelMetadataRequest(
                metadata_field=["signature_def"]
            ),
            INVALID,
            "Missing ModelSpec",
        ),
        (
            lambda: metadata_request("nope", "signature_def"),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(nope)",
        ),
    ],
    ids=["no field", "another field", "no model spec", "unknown model"],
)
def test_metadata_refuses(stub, request_of, code, details):
    with refused(code, details):
        stub.GetModelMetadata(request_of(), timeout=TIMEOUT)
