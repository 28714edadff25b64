#!/usr/bin/env python3
"""Writes `half_plus_two/1/model.onnx`: y = x / 2 + 2, TensorFlow Serving's example model.

Needs `pip install onnx`. The file comes out the same, byte for byte, on every run with the same
release of onnx (1.23.2 wrote the one beside this script).

    x: float[?] -> y: float[?]
"""

import argparse
import pathlib

import onnx
from onnx import TensorProto, helper

MODELS = pathlib.Path(__file__).resolve().parent

# The same as in the other models here.
OPSET = 17
IR_VERSION = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=MODELS / "half_plus_two" / "1")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    onnx.save(half_plus_two(), arguments.output / "model.onnx")


def half_plus_two():
    graph = helper.make_graph(
        name="half_plus_two",
        inputs=[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])],
        outputs=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        initializer=[
            helper.make_tensor("a", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("b", TensorProto.FLOAT, [], [2.0]),
        ],
        nodes=[
            helper.make_node("Mul", ["a", "x"], ["a_times_x"]),
            helper.make_node("Add", ["a_times_x", "b"], ["y"]),
        ],
    )
    model = helper.make_model(
        graph,
        producer_name="export_half_plus_two",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    main()
