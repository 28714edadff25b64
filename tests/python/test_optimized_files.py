"""Files that ONNX Runtime's optimizer saved are answered like the files that it read.

With all optimizations they contain operators that it puts in the place of others, some of them in a domain
of its own.

Not here: these operators alone (`test_kernels.py`), files that the server gives to the optimizer
(`test_fused_kernels.py`).
"""

import grpc
import numpy as np
import onnxruntime
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import kernel_cases
import onnx_models
from kernel_cases import f
from test_fused_kernels import FLOAT, SCALE, ZERO, dequantized, model
from test_kernels import check, start, tensor  # noqa: F401 (a fixture)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2]}
CONV = ("Conv", ["x", "w"], "c", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})
CONSTANTS = {"w": f(16, 16, 3, 3), "scales": FLOAT([1, 1, 2, 2]), "scale": SCALE, "zero": ZERO}
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
# The nodes of the file, and an operator that the saved file has.
PATTERNS = {
    "conv": ([CONV[:3] + (WINDOW,)], "Conv"),
    "max": ([CONV, ("MaxPool", ["c"], "y", WINDOW)], "MaxPool"),
    "average": ([CONV, ("AveragePool", ["c"], "y", WINDOW)], "AveragePool"),
    "padded": ([CONV, ("MaxPool", ["c"], "y", {"pads": [1, 1, 1, 1], **WINDOW})], "MaxPool"),
    "twice": ([CONV, ("MaxPool", ["c"], "p", WINDOW), ("MaxPool", ["p"], "y", WINDOW)], "MaxPool"),
    "global_max": ([CONV, ("GlobalMaxPool", ["c"], "y")], "GlobalMaxPool"),
    "global_average": ([CONV, ("GlobalAveragePool", ["c"], "y")], "GlobalAveragePool"),
    "larger": ([CONV, ("Resize", ["c", "", "scales"], "y", NEAREST)], "Upsample"),
    "joined": ([CONV, ("Concat", ["c", "c"], "y", {"axis": 1})], "ReorderOutput"),
    "quantized": (
        [*dequantized("x"), ("AveragePool", ["x_d"], "c", WINDOW), *dequantized("c")],
        "QLinearAveragePool",
    ),
}
SHAPES = [
    *((count, 16, height, width) for count in (0, 1, 2) for height in (0, 1, 2, 9) for width in (1, 3, 9)),
    *((16,) * rank for rank in (0, 1, 2, 3, 5)),
    (0, 0, 0, 0), (1, 0, 3, 3), (1, 8, 5, 5), (1, 17, 5, 5),
]  # fmt: skip


def saved(content, path):
    """What the optimizer makes of a file, and the operators in it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    proto = onnx_models.messages()["onnx.ModelProto"].FromString(path.read_bytes())
    return path.read_bytes(), {(node.domain, node.op_type) for node in proto.graph.node}


def reply_of(stub, name, image):
    """The status of a call, and the values if it is OK."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["x"].CopyFrom(tensor(image))
    try:
        (output,) = stub.Predict(request, timeout=30).outputs.values()
    except grpc.RpcError as error:
        return error.code(), None
    values = np.frombuffer(output.tensor_content, FLOAT) if output.tensor_content else output.float_val
    shape = [dim.size for dim in output.tensor_shape.dim]
    return grpc.StatusCode.OK, np.array(values, FLOAT).reshape(shape)


@pytest.fixture
def published(tmp_path):
    """The saved files by the names of the models, which are in a folder; each has a plain model as well."""
    files = {}
    for name, (nodes, operator) in PATTERNS.items():
        plain = model(nodes, {"x": (FLOAT, "nchw")}, CONSTANTS)
        files[name], operators = saved(plain, tmp_path / f"{name}.onnx")
        domains = (kernel_cases.NCHWC, kernel_cases.MICROSOFT)
        assert any((domain, operator) in operators for domain in domains), operators
        onnx_models.publish(tmp_path / name, 1, files[name])
        onnx_models.publish(tmp_path / f"plain_{name}", 1, plain)
    return files


def test_saved_files_are_answered_like_their_sources(start, tmp_path, published):  # noqa: F811
    names = [*published, *(f"plain_{name}" for name in published)]
    form = 'config {{ name: "{}" base_path: "{}" model_platform: "onnx" }}'
    entries = " ".join(form.format(name, tmp_path / name) for name in names)
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{ {entries} }}")
    server = start([f"--model_config_file={config}"], names)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for name, content in published.items():
            bare = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            codes = set()
            for shape in SHAPES:
                image = kernel_cases.resized(f(1, 16, 8, 8), shape)
                code, values = reply_of(stub, name, image)
                assert server.is_running(), (name, shape)
                plain = reply_of(stub, f"plain_{name}", image)[0]
                # Without elements, an operator in the place of another refuses more.
                assert code == plain or (image.size == 0 and code == INVALID), (name, shape)
                if values is not None:
                    expected = bare.run(None, {"x": image})[0]
                    np.testing.assert_array_equal(values, expected, f"{name} {shape}")
                codes.add(code)
            assert codes == {grpc.StatusCode.OK, INVALID}, name


def test_saved_file_is_checked(tmp_path, published):
    """With an image of one pixel, for which the window is too large."""
    proto = onnx_models.messages()["onnx.ModelProto"].FromString(published["max"])
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16
    onnx_models.publish(tmp_path / "channels", 1, proto.SerializeToString())
    checked = check(tmp_path / "channels" / "1")
    said = checked.stdout + checked.stderr
    assert checked.returncode == 1 and "has room for the window" in said, said
