"""Writes ONNX models for tests, with messages made from this repository's `onnx.proto`.

A version appears in its base path in one step, as a deployment would do it: nobody finds half of
it there.
"""

import functools
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from model_server import PROJECT

FLOAT = 1  # TensorProto.DataType
INT = 2  # AttributeProto.AttributeType


@functools.cache
def messages():
    """The message classes of `onnx.proto` by full name."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "onnx.desc"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROJECT / 'proto'}"]
        command += [f"--descriptor_set_out={output}", "onnx/onnx.proto"]
        subprocess.run(command, check=True, timeout=120)
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    return message_factory.GetMessageClassesForFiles(
        [pool.AddSerializedFile(file.SerializeToString()).name for file in files], pool
    )


def model(nodes, constants, inputs={"x": (FLOAT, "n")}, outputs={"y": (FLOAT, "n")}):
    """A serialized model; a node is (op, inputs, output) and, perhaps, attributes that are numbers.

    `inputs` and `outputs` are of (data type, *names of dimensions), by name.
    """
    model = messages()["onnx.ModelProto"](ir_version=8)
    model.opset_import.add(version=17)
    model.graph.name = "graph"
    for values, described in ((model.graph.input, inputs), (model.graph.output, outputs)):
        for name, (data_type, *dimensions) in described.items():
            tensor = values.add(name=name).type.tensor_type
            tensor.elem_type = data_type
            for dimension in dimensions:
                tensor.shape.dim.add(dim_param=dimension)
    for op, names, output, *attributes in nodes:
        node = model.graph.node.add(op_type=op, input=names, output=[output])
        for name, value in (attributes[0] if attributes else {}).items():
            node.attribute.add(name=name, type=INT, i=value)
    for name, array in constants.items():
        array = np.asarray(array)
        data_type = {"float32": FLOAT, "int64": 7}[array.dtype.name]
        model.graph.initializer.add(
            name=name, dims=array.shape, data_type=data_type, raw_data=array.tobytes()
        )
    return model.SerializeToString()


def saved_model(inputs, outputs):
    """A `saved_model.pb` with the signature `serving_default` over these aliases, all float[?]."""
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    signature = graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for aliases, infos in ((inputs, signature.inputs), (outputs, signature.outputs)):
        for alias in aliases:
            infos[alias].name = f"original_{alias}:0"
            infos[alias].dtype = types_pb2.DT_FLOAT
            infos[alias].tensor_shape.dim.add(size=-1)
    return saved.SerializeToString()


def says_its_version(version):
    """y = x + version."""
    return model([("Add", ["x", "version"], "y")], {"version": np.float32(version)})


def weighs(megabytes):
    """y = x · w, and then the sum, with that much of w; x: float[256]."""
    columns = megabytes * 1024
    weights = np.random.default_rng(0).standard_normal((256, columns), np.float32)
    nodes = [("MatMul", ["x", "w"], "xw"), ("ReduceSum", ["xw", "all"], "y")]
    return model(nodes, {"w": weights, "all": np.int64([0])})


def takes_time(products, size=256):
    """y = x, after so many products of matrices for each row."""
    nodes = [("Unsqueeze", ["x", "axes"], "rows"), ("Mul", ["rows", "matrix"], "product0")]
    nodes += [
        ("MatMul", [f"product{number}", "matrix"], f"product{number + 1}")
        for number in range(products)
    ]
    nodes += [
        ("ReduceSum", [f"product{products}", "axes"], "sums"),
        ("Squeeze", ["sums", "axes"], "sum"),
        ("Mul", ["sum", "zero"], "nothing"),
        ("Add", ["x", "nothing"], "y"),
    ]
    constants = {
        "axes": np.int64([1, 2]),
        "matrix": np.eye(size, dtype=np.float32),
        "zero": np.float32(0),
    }
    return model(nodes, constants)


def publish(base_path, version, content, mode=0o644, beside=None):
    """Makes a version directory out of a serialized model, in one step; `beside` are the contents of
    other files by name."""
    base_path = pathlib.Path(base_path)
    base_path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base_path.parent) as folder:
        being_made = pathlib.Path(folder) / str(version)
        being_made.mkdir()
        file = being_made / "model.onnx"
        file.write_bytes(content)
        file.chmod(mode)
        for name, other in (beside or {}).items():
            (being_made / name).write_bytes(other)
        being_made.rename(base_path / str(version))


def withdraw(base_path, version):
    """Takes a version directory away, in one step."""
    base_path = pathlib.Path(base_path)
    with tempfile.TemporaryDirectory(dir=base_path.parent) as folder:
        (base_path / str(version)).rename(pathlib.Path(folder) / str(version))
