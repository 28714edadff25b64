"""No request ends the server, whatever ranks, sizes and values its tensors have.

Every operator that ONNX Runtime has a kernel for is asked with inputs that its author did not expect.
The short form asks the kernels that are known to end a process (`src/onnx/kernel_limits.rs`), the long
one all. A server that ends is started again, so that one run finds every kernel.

Not here: what other requests are answered (`tests/it`).
"""

import re
import resource
import subprocess

import grpc
import numpy as np
import pytest
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import kernel_cases
import onnx_models
from kernel_cases import Case, f, i64
from model_server import PROJECT

LIST = (PROJECT / "src/onnx/kernel_limits.rs").read_text()
# Numbers of TensorFlow's DataType by NumPy's names.
TENSORFLOW = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "object": 7,
    "int64": 9, "bool": 10, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip
# A run that lasts longer is stopped, which is an answer as well.
SECONDS = 5
# So that no kernel takes the memory of the whole machine; what it asks for beyond fails.
MEMORY = 8 << 30


def limited_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def limited_operators():
    """The operators whose kernels are known to end a process."""
    return set(re.findall(r'(?:onnx|microsoft)\("(\w+)"|limit\(ML, "(\w+)"', LIST))


class Asked:
    """A server that knows what it was asked last."""

    def __init__(self, start, folder, cases, is_ranked):
        self.start, self.folder = start, folder
        self.models = {}
        for case in cases:
            name = f"m{len(self.models)}_{case.op}"
            self.models[name] = case
            onnx_models.publish(folder / name, 1, case.model(is_ranked))
        self.server = None

    def ask_all(self, count=None):
        """What ended the server; also asserts that every case is answered as it is meant."""
        fatal = []
        left = dict(self.models)
        while left:
            self._restart(left)
            with grpc.insecure_channel(self.server.grpc_address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                ended = self._ask(stub, left, count)
            if not ended:
                return fatal
            fatal.append(ended)
        return fatal

    def _restart(self, names):
        if self.server:
            self.server.stop()
        config = self.folder / "models.config"
        form = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
        entries = (form.format(it, self.folder / it) for it in names)
        config.write_text("model_config_list { %s }" % " ".join(entries))
        flags = [f"--model_config_file={config}", "--max_num_load_retries=0"]
        self.server = self.start(flags, names, preexec_fn=limited_memory)

    def _ask(self, stub, left, count):
        for name in list(left):
            case = left[name]
            for what, inputs in case.mutations(count):
                code = ask(stub, name, inputs)
                if what == "as it is":
                    assert code == grpc.StatusCode.OK, f"{case}: {code}"
                if code == grpc.StatusCode.UNAVAILABLE and not self._lives():
                    del left[name]
                    return f"{case}: {what}"
            del left[name]
        return None

    def _lives(self):
        try:
            self.server.process.wait(2)
        except subprocess.TimeoutExpired:
            return True
        return False


def ask(stub, model, inputs):
    """The status that a call ends with."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tensor(array))
    try:
        stub.Predict(request, timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def tensor(array):
    proto = tensor_pb2.TensorProto(dtype=TENSORFLOW[array.dtype.name])
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == object:
        proto.string_val.extend(array.reshape(-1).tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto


@pytest.fixture
def start(tmp_path):
    """Starts servers that may end; conftest's want theirs to live."""
    from model_server import ModelServer

    started = []

    def start_one(flags, models, **process):
        log = tmp_path / f"server{len(started)}.log"
        started.append(ModelServer(flags, models, log, **process))
        return started[-1]

    yield start_one
    for server in started:
        server.stop()


@pytest.mark.parametrize("is_ranked", [False, True], ids=["unknown rank", "declared rank"])
def test_kernels_that_end_a_process_are_guarded(start, tmp_path, is_ranked):
    limited = {name for names in limited_operators() for name in names if name}
    cases = [it for it in kernel_cases.all_cases() if it.op in limited]
    assert {it.op for it in cases} == limited
    assert Asked(start, tmp_path, cases, is_ranked).ask_all(count=3) == []


@pytest.mark.full
@pytest.mark.parametrize("is_ranked", [False, True], ids=["unknown rank", "declared rank"])
def test_no_kernel_ends_the_server(start, tmp_path, is_ranked):
    assert Asked(start, tmp_path, kernel_cases.all_cases(), is_ranked).ask_all() == []


def test_every_listed_operator_is_asked():
    listed = re.findall(r"static CHECKED\w*:.*?\"(.*?)\"", LIST, re.DOTALL)
    listed = {name for names in listed for name in names.replace("\\", "").split()}
    assert len(listed) > 200
    missing = listed - {it.op for it in kernel_cases.all_cases()} - set(WITHOUT_CASE)
    assert missing == set()


# Without inputs, with graphs inside, with values that are no tensors, that need a locale, or older than opset 7.
WITHOUT_CASE = """Affine Constant Crop DynamicSlice If ImageScaler Loop Optional OptionalGetElement
    OptionalHasElement ParametricSoftplus RandomNormal RandomUniform ScaledTanh Scan
    SequenceConstruct SequenceEmpty SequenceLength SequenceMap SimplifiedLayerNormalization
    TreeEnsemble ZipMap CausalConvWithState DynamicQuantizeLSTM MoE QEmbedLayerNormalization QMoE
    SampleOp StringNormalizer UnfoldTensor WordConvEmbedding""".split()


def test_wrong_rank_is_refused_and_the_server_lives(start, tmp_path):
    case = Case("ReverseSequence", [f(2, 3, 1), i64(1, 2, 2)])
    onnx_models.publish(tmp_path / "model", 1, case.model(is_ranked=True))
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    status, body = server.predict_rest("model", '{"inputs": {"x0": [1, 2], "x1": [1, 2]}}')
    assert status == 400 and b"Invalid rank for input: x0" in body, body
    good = '{"inputs": {"x0": [[[1], [2], [3]], [[1], [2], [3]]], "x1": [1, 2, 2]}}'
    status, body = server.predict_rest("model", good)
    assert status == 200, body


def test_unknown_rank_is_not_guessed_at_load(start, tmp_path):
    case = Case("ReverseSequence", [f(2, 3, 1), i64(1, 2, 2)])
    onnx_models.publish(tmp_path / "model", 1, case.model(is_ranked=False))
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    assert "warmup skipped" in server.log()
    status, body = server.predict_rest("model", '{"inputs": {"x0": [1, 2], "x1": [1, 2]}}')
    assert status == 400 and b"has rank 2 or more" in body, body


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 14, 20])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_division_wraps_around(start, tmp_path, opset, dtype):
    smallest = np.iinfo(dtype).min
    base = tmp_path / "model"
    onnx_models.publish(base, 1, divides(dtype, opset, in_function=False))
    onnx_models.publish(tmp_path / "function", 1, divides(dtype, opset, in_function=True))
    for name in ("model", "function"):
        flags = [f"--model_base_path={tmp_path / name}", f"--model_name={name}"]
        server = start(flags, [name])
        inputs = {"a": [int(smallest), 7, -7, int(smallest)], "b": [-1, -1, 2, 2]}
        body = '{"inputs": {"a": %s, "b": %s}}' % (inputs["a"], inputs["b"])
        status, reply = server.predict_rest(name, body)
        # As TensorFlow: truncated, and wrapped around where the quotient does not fit.
        expected = [int(smallest), -7, -3, int(smallest) // 2]
        assert status == 200 and b"".join(reply.split()) == (
            b'{"outputs":%s}' % str(expected).replace(" ", "").encode()
        ), reply


def divides(dtype, opset, in_function):
    """y = a / b, in a function of the model or not."""
    model = onnx_models.messages()["onnx.ModelProto"](ir_version=8)
    model.opset_import.add(domain="", version=opset)
    model.opset_import.add(domain="local", version=1)
    model.graph.name = "graph"
    elem_type = kernel_cases.DATA_TYPES[np.dtype(dtype).name]
    for values, names in ((model.graph.input, "ab"), (model.graph.output, "y")):
        for name in names:
            tensor_type = values.add(name=name).type.tensor_type
            tensor_type.elem_type = elem_type
            tensor_type.shape.dim.add(dim_param="n")
    if in_function:
        function = model.functions.add(name="divide", domain="local")
        function.input.extend("pq")
        function.output.append("r")
        function.opset_import.add(domain="", version=opset)
        function.node.add(op_type="Div", input="pq", output=["r"])
        model.graph.node.add(op_type="divide", domain="local", input="ab", output=["y"])
    else:
        model.graph.node.add(op_type="Div", input="ab", output=["y"])
    return model.SerializeToString()
