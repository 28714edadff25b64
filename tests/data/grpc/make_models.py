"""Writes the models of the gRPC tests that nothing else in the repository can stand for.

    pip install onnx==1.20.0 && python make_models.py
"""

import pathlib

from onnx import TensorProto, checker, helper, save

HERE = pathlib.Path(__file__).resolve().parent
OPSET = [helper.make_opsetid("", 17)]


def write(name, graph):
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    checker.check_model(model, full_check=True)
    folder = HERE / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder / "model.onnx")


def bfloat16():
    """y = x. What tf2onnx makes of a bfloat16 graph has float16 inside; this one really has not."""
    x = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.BFLOAT16, ["n"])
    write(
        "bfloat16",
        helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y]),
    )


def there_and_back(start, end, times):
    """end = start + 1, with more work than it needs."""
    names = [start, *(f"{start}{number}" for number in range(2 * times)), end]
    return [
        helper.make_node("Sub" if number % 2 else "Add", [name, "one"], [names[number + 1]])
        for number, name in enumerate(names[:-1])
    ]


def slow():
    """y = steps, counted one by one: as slow as the request asks for."""
    scalar = {
        name: helper.make_tensor_value_info(name, TensorProto.INT64, [])
        for name in ("steps", "sum", "step", "next", "y")
    }
    constants = {"zero": 0, "one": 1}
    body = helper.make_graph(
        there_and_back("sum", "next", 10),
        "count_one",
        [scalar["sum"], scalar["step"]],
        [scalar["next"]],
    )
    write(
        "slow",
        helper.make_graph(
            [
                helper.make_node("Range", ["zero", "steps", "one"], ["all_steps"]),
                helper.make_node(
                    "Scan", ["zero", "all_steps"], ["y"], body=body, num_scan_inputs=1
                ),
            ],
            "count",
            [scalar["steps"]],
            [scalar["y"]],
            [
                helper.make_tensor(name, TensorProto.INT64, [], [value])
                for name, value in constants.items()
            ],
        ),
    )


bfloat16()
slow()
