"""Signature maps that tools/import_model.py writes after `--rename`, and what the server makes of them."""

import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper
from tensorflow.core.protobuf import saved_model_pb2

from model_server import BINARY, PROJECT

sys.path.insert(0, str(PROJECT / "tools"))

from model_import.imported import Imported, Signature, Tensor
from model_import.renaming import rename
from model_import.version_directory import _write_map

FLOAT = 1


def version(folder, inputs, outputs, renames):
    """The aliases, by side, that clients see of a version whose aliases were renamed.

    `inputs` and `outputs` give each alias its tensor in the graph: y = -x, or the input x itself.
    """
    row = ["N", 2]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "negative",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, row)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, row)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = saved.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    definition = meta_graph.signature_def["serving_default"]
    definition.method_name = "tensorflow/serving/predict"
    for side, tensors in ((definition.inputs, inputs), (definition.outputs, outputs)):
        for alias, tensor in tensors.items():
            side[alias].name = f"Saved_{tensor}:0"
            side[alias].dtype = FLOAT
            for size in (-1, 2):
                side[alias].tensor_shape.dim.add(size=size)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())

    def described(tensors):
        return {alias: Tensor(name, "f", (None, 2)) for alias, name in tensors.items()}

    signature = Signature("serving_default", model, described(inputs), described(outputs), dict)
    imported = Imported([signature], saved_model=folder)
    rename(imported, renames)
    _write_map(imported, folder)
    command = [BINARY, "show", "--dir", folder, "--all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    found = {"inputs": [], "outputs": []}
    for line in lines:
        side, bracket, rest = line.partition("['")
        if bracket and side in found:
            found[side].append(rest.partition("'")[0])
    return found["inputs"], found["outputs"]


@pytest.mark.parametrize(
    "renames, expected",
    [
        ([], ["a", "b", "y"]),
        (["b=c"], ["a", "c", "y"]),
        (["y=c"], ["a", "b", "c"]),
        (["a=b", "b=a"], ["a", "b", "y"]),
        (["a=y", "y=a"], ["a", "b", "y"]),
        (["a=p", "b=q", "y=r"], ["p", "q", "r"]),
    ],
)
def test_aliases_of_one_tensor_stay_when_another_is_renamed(tmp_path, renames, expected):
    outputs = {"a": "y", "b": "y", "y": "y"}
    assert version(tmp_path, {"x": "x"}, outputs, renames) == (["x"], expected)


def test_a_tensor_can_get_its_own_name_as_the_alias(tmp_path):
    assert version(tmp_path, {"image": "x"}, {"b": "y"}, ["image=x", "b=y"]) == (["x"], ["y"])


@pytest.mark.parametrize(
    "renames, expected",
    [
        ([], (["x"], ["same", "y"])),
        (["x=image"], (["image"], ["same", "y"])),
        (["same=echo"], (["x"], ["echo", "y"])),
        (["input:x=same", "output:same=x"], (["same"], ["x", "y"])),
    ],
)
def test_an_output_that_is_an_input_stays(tmp_path, renames, expected):
    outputs = {"same": "x", "y": "y"}
    assert version(tmp_path, {"x": "x"}, outputs, renames) == expected
