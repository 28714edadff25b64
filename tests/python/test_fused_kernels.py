"""No request and no file ends the server through kernels that ONNX Runtime puts in the place of others.

Each model here is a pattern that its optimizer replaces by one kernel, or a file on which it ended the
process at load.

Not here: kernels that a model names itself (`test_kernels.py`).
"""

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

import kernel_cases
import onnx_models
from kernel_cases import DATA_TYPES
from test_kernels import OK, ask, check, start  # noqa: F401 (a fixture)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FLOAT, BYTE, BOOL = np.float32, np.uint8, np.bool_
SCALE, ZERO = np.array(0.1, FLOAT), np.array(128, BYTE)


def model(nodes, inputs, constants=(), opset=17):
    """The ONNX file of nodes (operator, inputs, output, attributes); inputs have types and shapes; the
    last node's output is returned."""
    proto = onnx_models.messages()["onnx.ModelProto"](ir_version=8)
    for domain, version in (("", opset), (kernel_cases.MICROSOFT, 1)):
        proto.opset_import.add(domain=domain, version=version)
    graph = proto.graph
    graph.name = "graph"
    for name, (dtype, shape) in inputs.items():
        tensor = graph.input.add(name=name).type.tensor_type
        tensor.elem_type = DATA_TYPES[np.dtype(dtype).name]
        for size in shape if shape is not None else ():
            tensor.shape.dim.add(dim_param=size)
        if shape == "":
            tensor.shape.SetInParent()
    for name, array in dict(constants).items():
        weight = graph.initializer.add(name=name, dims=array.shape, raw_data=array.tobytes())
        weight.data_type = DATA_TYPES[array.dtype.name]
    for op, reads, makes, *attributes in nodes:
        domain, _, op = op.rpartition(":")
        makes = makes if isinstance(makes, list) else [makes]
        node = graph.node.add(op_type=op, domain=domain, input=reads, output=makes)
        for name, value in attributes[0].items() if attributes else ():
            kernel_cases.set_attribute(node.attribute.add(name=name), value)
    output = graph.output.add(name=graph.node[-1].output[0]).type.tensor_type
    output.elem_type = DATA_TYPES["float32"]
    return proto.SerializeToString()


def dequantized(name):
    """Nodes that quantize a tensor and back."""
    return [
        ("QuantizeLinear", [name, "scale", "zero"], f"{name}_q"),
        ("DequantizeLinear", [f"{name}_q", "scale", "zero"], f"{name}_d"),
    ]


def between_quantizers(op):
    nodes = [*dequantized("a"), *dequantized("b"), (op, ["a_d", "b_d"], "c"), *dequantized("c")]
    inputs = {name: (FLOAT, "nchw") for name in "ab"}
    return model(nodes, inputs, {"scale": SCALE, "zero": ZERO})


def loses_elements(op):
    """The requests have elements; what is added has none."""
    nodes = [
        ("Compress", ["a", "keep"], "s", {"axis": 0}),
        *dequantized("s"),
        (op, ["s_d", "s_d"], "c"),
        *dequantized("c"),
    ]
    inputs = {"a": (FLOAT, "nchw"), "keep": (BOOL, "k")}
    return model(nodes, inputs, {"scale": SCALE, "zero": ZERO})


@pytest.fixture
def served(start, tmp_path):  # noqa: F811
    """Starts a server of one model; returns what asks it, and asserts that it lives."""
    channels = []

    def serve(file):
        onnx_models.publish(tmp_path / "model", 1, file)
        flags = [f"--model_base_path={tmp_path / 'model'}", "--model_name=model"]
        server = start(flags, ["model"])
        channels.append(grpc.insecure_channel(server.grpc_address))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channels[-1])
        return lambda **inputs: ask(stub, "model", inputs, 30)

    yield serve
    for channel in channels:
        channel.close()


def empty(*shape):
    return np.zeros(shape, FLOAT)


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("form", [between_quantizers])
def test_quantized_sums_of_nothing_are_refused(served, form, op):
    call = served(form(op))
    one = np.ones((1, 2, 3, 4), FLOAT)
    assert call(a=one, b=one) == OK
    for shape in ((0, 1, 1, 1), (0, 2, 3, 4), (1, 2, 3, 0), (0,), (0, 0, 0, 0)):
        for _ in range(3):
            assert call(a=empty(*shape), b=empty(*shape)) == INVALID, shape
    assert call(a=one, b=one) == OK


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_quantized_sums_of_what_lost_its_elements_are_refused(served, op):
    call = served(loses_elements(op))
    one = np.ones((2, 2, 3, 4), FLOAT)
    for _ in range(3):
        assert call(a=one, keep=np.array([True, False])) == OK
        assert call(a=one, keep=np.array([False, False])) == INVALID


def products():
    """Of integers, scaled: three patterns and the two operators that they become."""
    own = kernel_cases.MICROSOFT
    product = [
        ("MatMulInteger", ["q", "w", "z", "wz"], "m"),
        ("Cast", ["m"], "f", {"to": 1}),
        ("Mul", ["s", "ws"], "scale"),
    ]
    given = {"q": (BYTE, None), "z": (BYTE, None), "s": (FLOAT, None)}
    quantize = ("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    weights = {"w": (BYTE, None), "wz": (BYTE, None), "ws": (FLOAT, None)}
    yield "dynamic", [quantize, *product, ("Mul", ["f", "scale"], "y")], {"x": (FLOAT, None)} | weights
    yield "static", [*product, ("Mul", ["scale", "f"], "y")], given | weights
    direct = [(f"{own}:MatMulIntegerToFloat", ["q", "w", "s", "ws", "z", "wz"], "y")]
    yield "MatMulIntegerToFloat", direct, given | weights
    direct = [(f"{own}:DynamicQuantizeMatMul", ["x", "w", "ws", "wz"], "y")]
    yield "DynamicQuantizeMatMul", direct, {"x": (FLOAT, None)} | weights


@pytest.mark.parametrize("product", products(), ids=lambda it: it[0])
def test_scale_without_elements_is_refused(served, product):
    _, nodes, inputs = product
    call = served(model(nodes, inputs))
    shapes = {"x": (1, 2, 8), "q": (1, 2, 8), "w": (8, 4)}
    good = {name: np.ones(shapes.get(name, ()), it[0]) for name, it in inputs.items()}
    assert call(**good) == OK
    for scale in sorted({"s", "ws"} & set(inputs)):
        for shape in ((0,), (0, 1), (0, 1, 1), (0, 1, 1, 1), (1, 1, 0, 0)):
            assert call(**good | {scale: empty(*shape)}) == INVALID, (scale, shape)
    for shape in ((0, 0), (1, 1, 0, 0)):
        call(**{name: np.zeros(shape, it.dtype) for name, it in good.items()})
    assert call(**good) == OK


SCALES = np.array([1, 1, 2, 2], FLOAT)
HALF = np.array([1, 1], FLOAT)
IMAGE = {"x": (FLOAT, "nchw")}
RESIZES = {
    "Resize": ([("Resize", ["x", "", "r"], "y")], {"r": SCALES}, 17),
    "Resize 10": ([("Resize", ["x", "r"], "y")], {"r": SCALES}, 10),
    "Upsample 9": ([("Upsample", ["x", "r"], "y")], {"r": SCALES}, 9),
    "Upsample 7": ([("Upsample", ["x"], "y", {"scales": [1.0, 1.0, 2.0, 2.0]})], {}, 7),
    "computed at load": (
        [("Concat", ["half", "double"], "r", {"axis": 0}), ("Resize", ["x", "", "r"], "y")],
        {"half": HALF, "double": 2 * HALF},
        17,
    ),
}


@pytest.mark.parametrize("is_ranked", [True, False], ids=["declared", "unknown"])
@pytest.mark.parametrize("resize", RESIZES)
def test_rank_that_the_scales_are_not_for_is_refused(served, resize, is_ranked):
    nodes, constants, opset = RESIZES[resize]
    call = served(model(nodes, IMAGE if is_ranked else {"x": (FLOAT, None)}, constants, opset))
    for rank in (4, 5, 6, 8, 3, 1, 4):
        expected = OK if rank == 4 else INVALID
        assert call(x=np.ones((2,) * rank, FLOAT)) == expected, rank


def test_pool_without_a_convolution_refuses_an_image_that_is_too_small(served):
    # The number of channels is known, so ONNX Runtime pools in blocks of channels.
    nodes = [
        ("Mul", ["x", "w"], "m"),
        ("AveragePool", ["m"], "a", {"kernel_shape": [2, 2], "strides": [1, 1]}),
        ("MaxPool", ["a"], "p", {"kernel_shape": [2, 2], "strides": [1, 1], "ceil_mode": 1}),
        ("Identity", ["p"], "y"),
    ]
    call = served(model(nodes, IMAGE, {"w": np.ones((1, 16, 1, 1), FLOAT)}))
    for size, expected in ((8, OK), (1, INVALID), (2, INVALID), (8, OK)):
        assert call(x=np.ones((1, 16, size, size), FLOAT)) == expected, size


def where(nodes, inputs):
    tail = [("Where", ["k", "a", "b"], "c"), *dequantized("c")]
    return model([*nodes, *tail], {"k": (BOOL, "nc")} | inputs, {"scale": SCALE, "zero": ZERO})


def small_window(*behind, kernel=3, **attributes):
    """A window over what a global pool leaves of an image."""
    constants = {"w": np.ones((1, 1, kernel, kernel), FLOAT)}
    for name, value in (("from", 1), ("to", -1), ("axis", 1), ("step", 2)):
        constants[name] = np.array([value])
    nodes = [
        ("GlobalAveragePool", ["x"], "g"),
        ("Transpose", ["g"], "t", {"perm": [0, 2, 3, 1]}),
        ("Conv", ["t", "w"], "y0", attributes),
        ("Transpose", ["y0"], "y1", {"perm": [0, 2, 3, 1]}),
        *behind,
    ]
    return model(nodes, IMAGE, constants)


DEQUANTIZE = ("DequantizeLinear", ["t", "scale", "zero"], "b")
BYTES = {"x": (BYTE, "nc"), "t": (BYTE, "nc")}
SLICE = ("Slice", ["y1", "from", "to", "axis", "step"], "y")
FATAL_AT_LOAD = {
    "zero point": where(
        [("DequantizeLinear", ["x", "scale", "z"], "a"), DEQUANTIZE], BYTES | {"z": (BYTE, "")}
    ),
    "computed zero point": where(
        [
            ("Cast", ["i"], "z", {"to": 2}),
            ("DequantizeLinear", ["x", "scale", "z"], "a"),
            DEQUANTIZE,
        ],
        BYTES | {"i": (np.int32, "")},
    ),
    "slice": small_window(SLICE, auto_pad="VALID"),
    "slice, window told": small_window(SLICE, kernel_shape=[3, 3]),
    "negative output": small_window(kernel=5),
    "negative output, window told": small_window(kernel=5, kernel_shape=[5, 5]),
}


@pytest.mark.parametrize("file", FATAL_AT_LOAD)
def test_file_does_not_end_the_process(tmp_path, file):
    onnx_models.publish(tmp_path / "model", 1, FATAL_AT_LOAD[file])
    checked = check(tmp_path / "model" / "1")
    assert checked.returncode in (0, 1), (checked.returncode, checked.stdout + checked.stderr)
    assert "FAIL" in checked.stdout or "ran in" in checked.stdout, checked
