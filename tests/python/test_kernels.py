"""No request ends the server, whatever ranks, sizes and values its tensors have.

Every operator that ONNX Runtime has a kernel for is asked with inputs that its author did not expect.
The short form asks the kernels that are known to end a process (`crates/onnx/src/kernel_limits.rs`), the long
one all. A server that ends is started again, so that one run finds every kernel.

Not here: what other requests are answered (`tests/it`).
"""

import copy
import pathlib
import re
import resource
import subprocess
import time

import grpc
import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as pybind_state
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import kernel_cases
import onnx_models
from kernel_cases import DATA_TYPES, Case, f, i32, i64, of
from model_server import BINARY, LIBRARY, PROJECT

OK = grpc.StatusCode.OK
LIST = (PROJECT / "crates/onnx/src/kernel_limits.rs").read_text()
CHECKED = (PROJECT / "crates/onnx/src/kernel_limits/checked_ranks.rs").read_text()
# Numbers of TensorFlow's DataType by NumPy's names.
TENSORFLOW = {
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "object": 7,
    "int64": 9, "bool": 10, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
}  # fmt: skip
# A run that lasts longer is stopped, which also counts as an answer.
SECONDS = 2
# A stopped run ends when its current node ends, at the latest. One that goes on for longer occupies a CPU
# forever.
ENDLESS_SECONDS = 60
# The long form is split into this many tests, to show its progress.
PARTS = 12
# Keeps a kernel from using all of the machine's memory; an allocation beyond the limit fails.
MEMORY = 8 << 30


def limited_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


# The domains in the sources of the server.
OF_SOURCE = {
    "onnx(": "", "microsoft(": kernel_cases.MICROSOFT,
    "limit(ML, ": kernel_cases.ML, "limit(NCHWC, ": kernel_cases.NCHWC,
}  # fmt: skip


def limited_inputs():
    """The inputs that kernels which are known to end a process have checked, by domain and operator."""
    limited = {}
    entry = r'    (onnx\(|microsoft\(|limit\(\w+, )"(\w+)", (\d+),'
    for domain, op, index in re.findall(entry, LIST):
        limited.setdefault((OF_SOURCE[domain], op), set()).add(f"x{index}")
    return limited


def named(case):
    """The domain and the operator of a case."""
    return case.domain, case.op


class Asked:
    """A server that knows what it was asked last."""

    def __init__(self, start, folder, cases, *form):
        self.start, self.folder = start, folder
        self.models = {}
        for case in cases:
            name = f"m{len(self.models)}_{case.op}"
            self.models[name] = case
            onnx_models.publish(folder / name, 1, case.model(*form))
        self.server = None

    def ask_all(self, limited=None):
        """What ended the server; also asserts that every case is answered as it is meant. All
        mutations are asked, or those of the inputs in `limited` and few others."""
        fatal = []
        left = dict(self.models)
        while left:
            self._restart(left)
            with grpc.insecure_channel(self.server.grpc_address) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                ended = self._ask(stub, left, limited)
            if not ended:
                return fatal
            print("FATAL", ended, flush=True)
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

    def _ask(self, stub, left, limited):
        for name in list(left):
            case, started = left[name], time.monotonic()
            for what, inputs in case.mutations(limited and limited[named(case)]):
                # The first request waits for the machine and for its model to load.
                code = ask(stub, name, inputs, 60 if what == "as it is" else SECONDS)
                if what == "as it is":
                    assert code == OK, f"{case}: {code}"
                if code == grpc.StatusCode.UNAVAILABLE and not self._lives():
                    del left[name]
                    return f"{case}: {what}"
                if code == grpc.StatusCode.DEADLINE_EXCEEDED and not self._rests():
                    del left[name]
                    return f"{case}: {what} does not return"
            del left[name]
            print(f"{time.monotonic() - started:.1f} s for {case}", flush=True)
        return None

    def _rests(self):
        """Whether the runs that were stopped end: the server then needs no more CPU time."""
        deadline = time.monotonic() + ENDLESS_SECONDS
        while time.monotonic() < deadline:
            before = cpu_ticks(self.server.process.pid)
            time.sleep(0.5)
            if cpu_ticks(self.server.process.pid) - before <= 2:
                return True
        return False

    def _lives(self):
        try:
            self.server.process.wait(2)
        except subprocess.TimeoutExpired:
            return True
        return False


def cpu_ticks(pid):
    """The CPU time that a process has had, in hundredths of a second."""
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def ask(stub, model, inputs, seconds=SECONDS):
    """The status that a call ends with."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tensor(array))
    try:
        stub.Predict(request, timeout=seconds)
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


# Whether ranks are declared, whether the operator's inputs are computed, and the kind of graph around it.
FORMS = {
    "unknown rank": (False, False, None),
    "declared rank": (True, False, None),
    "computed": (False, True, None),
    "in a function": (False, False, "function"),
    "in a branch": (True, False, "branch"),
    "in a loop": (False, False, "loop"),
}


def fitting(cases, form):
    """Those that have this form: ONNX Runtime refuses to run this `Scan` without ranks, infers wrong types for
    some in a function, and cannot load another there."""
    is_ranked, _, within = FORMS[form]
    cases = [it for it in cases if is_ranked or it.op != "Scan"]
    if within == "loop":
        cases = [it for it in cases if not it.before]
    if within == "function":
        left_out = (*WRONG_IN_FUNCTIONS, "SimplifiedLayerNormalization")
        cases = [it for it in cases if not it.before and it.op not in left_out]
    return cases


WRONG_IN_FUNCTIONS = (
    "MeanVarianceNormalization",
    "QAttention",
    "QEmbedLayerNormalization",
    "QLinearConcat",
)


@pytest.mark.parametrize("form", FORMS)
def test_kernels_that_end_a_process_are_guarded(start, tmp_path, form):
    limited = limited_inputs()
    assert len(limited) > 25
    cases = [it for it in kernel_cases.all_cases() if named(it) in limited]
    searches = {named(it) for it in kernel_cases.search_cases()}
    assert {named(it) for it in cases} == set(limited) - searches - WITHOUT_CASE
    assert Asked(start, tmp_path, fitting(cases, form), *FORMS[form]).ask_all(limited) == []


CONSTANTS = ["but the first", "scalars"]


@pytest.mark.full
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("constants", CONSTANTS)
def test_no_kernel_with_constants_ends_the_server(start, tmp_path, constants, part):
    cases = [it.with_constants(constants) for it in kernel_cases.all_cases()[part::PARTS]]
    cases = [it for it in cases if it]
    assert Asked(start, tmp_path, cases, True).ask_all() == []


@pytest.mark.full
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("form", FORMS)
def test_no_kernel_ends_the_server(start, tmp_path, form, part):
    cases = fitting(kernel_cases.all_cases()[part::PARTS], form)
    assert Asked(start, tmp_path, cases, *FORMS[form]).ask_all() == []


@pytest.mark.full
def test_no_untried_kernel_ends_the_server(start, tmp_path):
    """Behind inputs of declared ranks, which alone are served."""
    assert Asked(start, tmp_path, list(kernel_cases.untried_cases()), True).ask_all() == []


@pytest.mark.full
@pytest.mark.parametrize("part", range(PARTS))
def test_no_output_is_left_unwritten(start, tmp_path, part):
    """The memory of an output can be that of an earlier request, perhaps of another client."""
    cases = [it for it in kernel_cases.all_cases()[part::PARTS] if is_repeatable(it)]
    assert unwritten(start, tmp_path, cases) == []


UNWRITTEN = ("Attention", "Concat", "ConcatFromSequence", "LSTM", "Scan")


@pytest.mark.parametrize("op", UNWRITTEN)
def test_kernels_that_leave_outputs_unwritten_are_guarded(start, tmp_path, op):
    cases = [it for it in kernel_cases.all_cases() if it.op == op and is_repeatable(it)]
    assert cases and unwritten(start, tmp_path, cases) == []


def is_repeatable(case):
    """Whether it returns the same again, and all of it can be sent."""
    chooses = ("Random", "Bernoulli", "Multinomial", "Dropout", "Sampl")
    return not (
        any(it in case.op for it in chooses)
        or case.op in (*kernel_cases.RETURN_SEQUENCE, "SequenceConstruct")
        or named(case) in WITHOUT_CASE
    )


def unwritten(start, folder, cases):
    """The requests whose answers depend on what the memory was used for before."""
    models = {f"m{index}_{case.op}": case for index, case in enumerate(cases)}
    for name, case in models.items():
        onnx_models.publish(folder / name, 1, with_open_sizes(case))
    twice = [("Neg", ["x"], "minus"), ("Neg", ["minus"], "y")]
    onnx_models.publish(folder / "used_before", 1, onnx_models.model(twice, {}))
    names = ["used_before", *models]
    config = folder / "models.config"
    form = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
    entries = (form.format(it, folder / it) for it in names)
    config.write_text("model_config_list { %s }" % " ".join(entries))
    flags = [f"--model_config_file={config}", "--max_num_load_retries=0"]
    server = start(flags, names, preexec_fn=limited_memory)
    found = []
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for name, case in models.items():
            assert answer(stub, name, case.fed()) is not None, case
            for what, inputs in case.mutations():
                if all(it.size for it in inputs.values()):
                    continue
                answers = []
                for number in (5555, 7777):
                    answer(stub, name, filled(case.fed(), number))
                    for size in (2, 64, 200, 1000, 100_000):
                        answer(stub, "used_before", {"x": np.full(size, number, np.float32)})
                    answers.append(answer(stub, name, inputs))
                if answers[0] != answers[1]:
                    found.append(f"{case}: {what}")
                    print("UNWRITTEN", found[-1], flush=True)
    return found


def with_open_sizes(case):
    """The ONNX file that returns the outputs themselves. `Scan` needs ranks; of no steps, it returns nothing
    in place of the collected values, so that only its state is returned."""
    model = case.model(is_ranked=case.op == "Scan", is_whole=True)
    model = onnx_models.messages()["onnx.ModelProto"].FromString(model)
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.Clear()
    if case.op == "Scan":
        del model.graph.output[1:]
    return model.SerializeToString()


def filled(inputs, number):
    """The same inputs with this number for all floats."""
    return {
        name: np.full_like(it, number) if it.dtype.kind == "f" else it for name, it in inputs.items()
    }


def answer(stub, model, inputs, seconds=60):
    """The outputs as they were sent; None if there are none."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tensor(array))
    try:
        outputs = stub.Predict(request, timeout=seconds).outputs
    except grpc.RpcError:
        return None
    return {name: it.SerializeToString() for name, it in outputs.items()}


def test_every_listed_operator_is_asked():
    lists = re.findall(r'static CHECKED(\w*):.*?"(.*?)"', CHECKED, re.DOTALL)
    domains = {"": "", "_ML": kernel_cases.ML, "_MICROSOFT": kernel_cases.MICROSOFT,
               "_NCHWC": kernel_cases.NCHWC}  # fmt: skip
    assert [suffix for suffix, _ in lists] == list(domains)
    listed = {
        (domains[suffix], name) for suffix, names in lists for name in names.replace("\\", "").split()
    }
    assert len(listed) > 200
    asked = {named(it) for it in kernel_cases.all_cases()}
    assert listed - asked == WITHOUT_CASE - {(kernel_cases.MICROSOFT, "WhisperBeamSearch")}


def test_every_kernel_is_asked():
    """Those of the library, whichever the domain."""
    kernels = {(it.domain, it.op_name) for it in pybind_state.get_all_opkernel_def()}
    assert len(kernels) > 300 and (kernel_cases.NCHWC, "Conv") in kernels
    asked = {named(it) for it in [*kernel_cases.all_cases(), *kernel_cases.untried_cases(), *UNTRIED]}
    assert kernels - asked == UNASKED | (WITHOUT_CASE & kernels)


# Operators without inputs, with graphs inside, with values that are not tensors, that need a locale, or older
# than opset 7; and one that reads its numbers as BeamSearch does.
WITHOUT_CASE = {
    *(("", name) for name in """Affine Constant Crop DynamicSlice ImageScaler Optional OptionalGetElement
        OptionalHasElement ParametricSoftplus RandomNormal RandomUniform ScaledTanh SequenceEmpty
        SequenceMap StringNormalizer""".split()),
    *((kernel_cases.ML, name) for name in ("TreeEnsemble", "ZipMap")),
    (kernel_cases.MICROSOFT, "WhisperBeamSearch"),
}  # fmt: skip
# Kernels that are refused, that no file can name, or whose inputs are maps, sparse, or packed by the library.
UNASKED = {
    ("", "MemcpyFromHost"), ("", "MemcpyToHost"), ("", "Scale"),
    (kernel_cases.ML, "CastMap"), (kernel_cases.ML, "DictVectorizer"),
    *((kernel_cases.MICROSOFT, name) for name in ("AttnLSTM", "MatMulFpQ4", "SparseToDenseMatMul")),
}  # fmt: skip


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
        # As in TensorFlow: truncated, and wrapped around if the quotient does not fit.
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


def test_many_small_tensors_hold_up_no_other_run(start, tmp_path):
    """Giving back the memory that each had to itself took time by the square of their number."""
    case = Case("SplitToSequence", [f(8), of(1, np.int64)], axis=0)
    onnx_models.publish(tmp_path / "model", 1, case.model(is_ranked=False))
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for size in (8, 300_000, 8):
            assert ask(stub, "model", {"x0": f(size), "x1": of(1, np.int64)}, 30) == OK
        # Memory is given back every ten seconds.
        started = time.monotonic()
        while time.monotonic() - started < 12:
            assert ask(stub, "model", {"x0": f(8), "x1": of(1, np.int64)}, 10) == OK
            time.sleep(0.1)


@pytest.mark.parametrize("opset", [10, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boxes_far_outside_the_image_are_refused(start, tmp_path, dtype, opset):
    """Samples are taken by the area of a box: these would take hours, or more memory than there is."""

    def inputs(count, corner):
        boxes = np.tile(dtype([0, 0, corner, corner]), (count, 1))
        return {"x0": f(1, 2, 6, 6).astype(dtype), "x1": boxes, "x2": np.zeros(count, np.int64)}

    case = Case("RoiAlign", list(inputs(1, 3).values()), opset, spatial_scale=0.5)
    onnx_models.publish(tmp_path / "model", 1, case.model(is_ranked=False))
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for count, corner in ((1, 12), (3, -100), (0, 0)):
            assert ask(stub, "model", inputs(count, corner), 30) == OK, (count, corner)
        for corner in (2000, -8000, 1e9, np.inf, np.nan):
            code = ask(stub, "model", inputs(2000, corner), 30)
            assert code == grpc.StatusCode.INVALID_ARGUMENT, corner


@pytest.mark.parametrize("is_told", [False, True], ids=["at the pool", "at the input"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_image_smaller_than_the_window_is_refused(start, tmp_path, op, is_told):
    """Behind a convolution ONNX Runtime puts another kernel in the pool's place."""
    onnx_models.publish(tmp_path / "model", 1, convolves_and_pools(op, is_told))
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])

    def ask_with(height, width):
        image = str(np.zeros((1, 16, height, width)).tolist())
        return server.predict_rest("model", '{"inputs": %s}' % image)

    for _ in range(2):
        assert ask_with(8, 8)[0] == 200
        for size in ((2, 8), (8, 2), (2, 2), (1, 1)):
            status, body = ask_with(*size)
            assert status == 400 and b"has room for the window" in body, body
        status, body = ask_with(3, 3)
        assert status == 200, body


def convolves_and_pools(op, is_told):
    """y = the number of elements of a pool of 3 by 3 behind a convolution; where the size of its kernel
    `is_told` by an attribute, the image that the pool needs follows."""
    model = onnx_models.messages()["onnx.ModelProto"](ir_version=8)
    model.opset_import.add(domain="", version=17)
    graph = model.graph
    graph.name = "graph"
    tensor = graph.input.add(name="x").type.tensor_type
    tensor.elem_type = DATA_TYPES["float32"]
    for size in ("n", "c", "h", "w"):
        tensor.shape.dim.add(dim_param=size)
    weight = f(16, 16, 3, 3)
    graph.initializer.add(name="w", dims=weight.shape, raw_data=weight.tobytes(), data_type=1)
    conv = graph.node.add(op_type="Conv", input=["x", "w"], output=["c"])
    kernel_cases.set_attribute(conv.attribute.add(name="pads"), [1, 1, 1, 1])
    if is_told:
        kernel_cases.set_attribute(conv.attribute.add(name="kernel_shape"), [3, 3])
    pool = graph.node.add(op_type=op, input=["c"], output=["p"])
    kernel_cases.set_attribute(pool.attribute.add(name="kernel_shape"), [3, 3])
    graph.node.add(op_type="Size", input=["p"], output=["y"])
    graph.output.add(name="y").type.tensor_type.elem_type = DATA_TYPES["int64"]
    return model.SerializeToString()


def check(version):
    """The command `check` for a version's directory, ended."""
    command = [BINARY, "check", "--dir", version, f"--onnxruntime_library={LIBRARY}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


SMALLEST = -(2**63)
FATAL_ATTRIBUTES = [
    (Case("Conv", [f(1, 16, 5, 5), f(16, 16, 1, 1)], pads=[1, 1, 1, -1]), "pads"),
    (Case("GatherND", [f(3, 4), i64(0)], batch_dims=SMALLEST), "batch_dims"),
    (Case("RandomNormalLike", [f(3)], scale=0.0), "scale"),
    (Case("RandomUniformLike", [f(3)], low=2.0), "high"),
    (Case("RoiAlign", [f(1, 2, 6, 6), f(2, 4), i64(0, 0)], sampling_ratio=2**62), "sampling_ratio"),
    (
        Case("TfIdfVectorizer", [i64(1, 2, 3)], mode="TF", min_gram_length=1, max_gram_length=2,
             max_skip_count=0, ngram_counts=[0, 2], ngram_indexes=[0], pool_int64s=[1, 2, 1, 2]),
        "ngram_indexes",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case, attribute", FATAL_ATTRIBUTES, ids=lambda it: getattr(it, "op", None))
def test_attribute_that_ends_the_process_is_refused(tmp_path, case, attribute):
    onnx_models.publish(tmp_path / "model", 1, case.model(is_ranked=True))
    checked = check(tmp_path / "model" / "1")
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1, (checked.returncode, said)
    assert f"{case.op} is not served with this attribute '{attribute}'" in said


NORMALIZATIONS = [
    Case("LayerNormalization", [f(2, 3), f(3)], opset=16),
    Case("SimplifiedLayerNormalization", [f(2, 3), f(3)]),
]


@pytest.mark.parametrize("case", NORMALIZATIONS, ids=lambda it: it.op)
def test_function_that_ends_the_load_is_refused(tmp_path, case):
    """ONNX Runtime loads the operators elsewhere."""
    onnx_models.publish(tmp_path / "function", 1, case.model(is_ranked=True, within="function"))
    checked = check(tmp_path / "function" / "1")
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1, (checked.returncode, said)
    assert f"{case.op} is not served in a function with opset {case.opset}" in said
    onnx_models.publish(tmp_path / "graph", 1, case.model(is_ranked=True))
    checked = check(tmp_path / "graph" / "1")
    assert "loaded in" in checked.stdout, checked.stdout + checked.stderr


UNTRIED = [*kernel_cases.search_cases(), kernel_cases.sparse_case()]


@pytest.mark.parametrize("case", UNTRIED, ids=lambda it: it.op)
def test_untried_operator_behind_an_open_rank_is_refused(tmp_path, case):
    """With the same ranks declared it is served."""
    for name, form in (("open", (False, False)), ("computed", (False, True))):
        onnx_models.publish(tmp_path / name, 1, case.model(*form))
        checked = check(tmp_path / name / "1")
        said = checked.stdout + checked.stderr
        assert checked.returncode == 1 and f"{case.op}. Declare the input's shape" in said, said
    onnx_models.publish(tmp_path / "declared", 1, case.model(is_ranked=True))
    checked = check(tmp_path / "declared" / "1")
    assert "loaded in" in checked.stdout, checked.stdout + checked.stderr


@pytest.mark.parametrize("case", kernel_cases.search_cases(), ids=lambda it: it.op)
def test_search_without_a_number_is_refused(start, tmp_path, case):
    """Its kernel reads the first element of each, whether there is one or not."""
    model = onnx_models.messages()["onnx.ModelProto"].FromString(case.model(True, True))
    numbers = {name: it for name, it in case.fed().items() if it.size == 1}
    for tensor in (it for it in model.graph.input if it.name in numbers):
        tensor.type.tensor_type.shape.dim[0].dim_param = f"any_{tensor.name}"
    onnx_models.publish(tmp_path / "model", 1, model.SerializeToString())
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert ask(stub, "model", case.fed(), 30) == OK
        assert len(numbers) > 2
        for name, number in numbers.items():
            code = ask(stub, "model", case.fed() | {name: number[:0]}, 30)
            assert code == grpc.StatusCode.INVALID_ARGUMENT, name
        assert ask(stub, "model", case.fed(), 30) == OK


def changed(op, number=0, **shapes):
    """A case of an operator with some of its inputs in other shapes."""
    cases = [it for it in kernel_cases.all_cases() if it.op == op]
    case = copy.copy(cases[number])
    case.inputs = list(case.inputs)
    for name, shape in shapes.items():
        index = int(name[1:])
        case.inputs[index] = kernel_cases.resized(case.inputs[index], shape)
    return case


FATAL_CONSTANTS = [
    changed("EmbedLayerNormalization", 1, x8=(0,)),
    changed("GRU", x0=(0, 2, 3)),
    changed("InstanceNormalization", 1, x0=(1, 2, 0, 0)),
    changed("MultiHeadAttention", x2=(2, 3, 0)),
    changed("QAttention", x0=(0, 3, 8)),
    changed("QMoE", 1, x2=(0, 32, 16), x6=(0, 32, 1)),
    changed("SkipSimplifiedLayerNormalization", x1=(0, 3, 8)),
    changed("STFT", 1, x2=(0,)),
]


@pytest.mark.parametrize("case", FATAL_CONSTANTS, ids=lambda it: it.op)
def test_constants_that_end_the_process_are_refused(tmp_path, case):
    onnx_models.publish(tmp_path / "model", 1, case.all_constant())
    checked = check(tmp_path / "model" / "1")
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1, (checked.returncode, said)
    assert f"The server checks the inputs of {case.op}" in said, said


def test_computed_constant_that_ends_the_process_is_refused(tmp_path):
    """ONNX Runtime computes it while it loads the file."""
    case = Case("InstanceNormalization", [i64(1, 1, 0, 2), f(1), f(1)],
                before=[("ConstantOfShape", ["x0"], "image")])  # fmt: skip
    onnx_models.publish(tmp_path / "model", 1, case.all_constant())
    checked = check(tmp_path / "model" / "1")
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1 and "checks the inputs of InstanceNormalization" in said, said


@pytest.mark.parametrize("opset", range(1, 8))
def test_old_models_are_guarded_or_refused(start, tmp_path, opset):
    case = Case("MaxRoiPool", [f(1, 2, 6, 6), np.float32([[0, 0, 0, 3, 3]])], opset, pooled_shape=[2, 2])
    onnx_models.publish(tmp_path / "model", 1, case.model(is_ranked=False))
    checked = check(tmp_path / "model" / "1")
    if "loaded in" not in checked.stdout:
        said = checked.stdout + checked.stderr
        assert "MaxRoiPool is not served in opset 5" in said and "Convert the model" in said, said
        assert opset == 5
        return
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert ask(stub, "model", case.fed(), 30) == OK
        for other in ({"x0": f(6)}, {"x1": f(5)}, {"x0": f(1, 0, 6, 6)}):
            code = ask(stub, "model", case.fed() | other, 30)
            assert code == grpc.StatusCode.INVALID_ARGUMENT, code


INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("place", ["graph", "function", "branch"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda it: it.__name__)
def test_division_of_what_has_no_known_type(start, tmp_path, dtype, place, opset):
    """It is that of TensorFlow, or the model is refused."""
    limits = np.iinfo(dtype)
    onnx_models.publish(tmp_path / "model", 1, divides_unknown(dtype, opset, place))
    checked = check(tmp_path / "model" / "1")
    # On zeros it fails, as it should.
    assert checked.returncode in (0, 1), checked
    if "loaded in" not in checked.stdout:
        assert dtype not in (np.int32, np.int64), checked.stdout + checked.stderr
        return
    server = start([f"--model_base_path={tmp_path / 'model'}", "--model_name=model"], ["model"])
    if limits.min < 0:
        a, b = [limits.min, 7, -7, limits.min], [-1, -1, 2, 2]
        expected = [limits.min, -7, -3, limits.min // 2]
    else:
        a, b, expected = [limits.max, 7, 7, 0], [1, 2, limits.max, 5], [limits.max, 3, 0, 0]
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "model"
        for name, values in (("a", a), ("b", b)):
            request.inputs[name].CopyFrom(tensor(np.array(values, dtype)))
        reply = stub.Predict(request, timeout=20).outputs["y"]
    assert tf_values(reply).tolist() == expected


def tf_values(proto):
    dtypes = {number: name for name, number in TENSORFLOW.items()}
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtypes[proto.dtype])
    fields = ("int_val", "int64_val", "uint32_val", "uint64_val")
    return np.concatenate([np.array(getattr(proto, it), dtypes[proto.dtype]) for it in fields])


def divides_unknown(dtype, opset, place):
    """y = a / b behind operators whose type the server does not follow."""
    model = onnx_models.messages()["onnx.ModelProto"](ir_version=8)
    for domain, version in (("", opset), ("local", 1), (kernel_cases.MICROSOFT, 1)):
        model.opset_import.add(domain=domain, version=version)
    graph = model.graph
    graph.name = "graph"
    elem_type = DATA_TYPES[np.dtype(dtype).name]
    for values, names in ((graph.input, "ab"), (graph.output, "y")):
        for name in names:
            tensor_type = values.add(name=name).type.tensor_type
            tensor_type.elem_type = elem_type
            tensor_type.shape.dim.add(dim_param="n")
    axis = np.int32(0)
    graph.initializer.add(name="axis", data_type=DATA_TYPES["int32"], raw_data=axis.tobytes())
    first = graph.initializer.add(name="first", dims=[1], data_type=7)
    first.raw_data = np.int64([0]).tobytes()
    nodes, inputs, output = graph.node, ["a1", "b1"], "y1"
    for name in "ab":
        graph.node.add(op_type="ExpandDims", domain=kernel_cases.MICROSOFT,
                       input=[name, "axis"], output=[f"{name}1"])  # fmt: skip
    if place == "function":
        function = model.functions.add(name="divide", domain="local")
        function.input.extend("pq")
        function.output.append("r")
        function.opset_import.add(domain="", version=opset)
        graph.node.add(op_type="divide", domain="local", input=inputs, output=[output])
        nodes, inputs, output = function.node, ["p", "q"], "r"
    elif place == "branch":
        graph.initializer.add(name="yes", data_type=DATA_TYPES["bool"], raw_data=b"\1")
        choice = graph.node.add(op_type="If", input=["yes"], output=[output])
        for name in ("then_branch", "else_branch"):
            attribute = choice.attribute.add(name=name, type=5)
            attribute.g.name = name
            output = f"{name}_y"
            attribute.g.node.add(op_type="Div", input=inputs, output=[output])
            attribute.g.output.add(name=output).type.tensor_type.elem_type = elem_type
        nodes = None
    if nodes is not None:
        nodes.add(op_type="Div", input=inputs, output=[output])
    last = graph.node.add(op_type="Squeeze", input=["y1"], output=["y"])
    if opset >= 13:
        last.input.append("first")
    else:
        kernel_cases.set_attribute(last.attribute.add(name="axes"), [0])
    return model.SerializeToString()
