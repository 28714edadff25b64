"""Writes half_plus_two, half_plus_two_tf2, half_plus_three and bad: stand-ins for models of the same
names on which the recordings were made. Same signatures and numbers, graphs and files of our own;
signature_map.pbtxt says what the originals' saved_model.pb did, but for the names of tensors.

    pip install onnx==1.20.0 && python make_stand_ins.py
"""

import pathlib

from onnx import TensorProto, checker, helper, save

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "00000123"


def affine(path, source, target, bias):
    """A graph that computes target = source / 2 + bias, elementwise, declared float[?, 1]."""
    column = ["batch", 1]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", [source, "half"], ["product"]),
            helper.make_node("Add", ["product", "bias"], [target]),
        ],
        "affine",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, column)],
        [helper.make_tensor_value_info(target, TensorProto.FLOAT, column)],
        [
            helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("bias", TensorProto.FLOAT, [], [bias]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, path)


FEATURE_X = 'feature { key: "x" dtype: DT_FLOAT shape { dim { size: 1 } } tensor: "x" }'
FEATURE_X2 = (
    'feature { key: "x2" dtype: DT_FLOAT shape { dim { size: 1 } } default { float_val: 0.0 } }'
)


def signature(folder, name, method, alias, target, bias, features=()):
    """Writes one graph and returns its part of the map. With features the alias takes examples."""
    graph = name.replace("/", "_") + ".onnx"
    source = "x" if features else alias
    affine(folder / graph, source, target, bias)
    lines = [
        "signature {",
        f'  name: "{name}"',
        f'  graph: "{graph}"',
        f'  method_name: "tensorflow/serving/{method}"',
    ]
    if features:
        lines += ["  example_input {", f'    alias: "{alias}"']
        lines += [f"    {feature}" for feature in features]
        lines += ["  }"]
    else:
        lines += [f'  input {{ alias: "{alias}" tensor: "{alias}" }}']
    lines += [f'  output {{ alias: "{target}" tensor: "{target}" }}', "}"]
    return "\n".join(lines) + "\n"


def model(name, signatures):
    """Writes a version directory; y2 and y3 of the originals are x / 2 + 3."""
    folder = HERE / name / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(signature(folder, *row) for row in signatures)
    header = "# Written by make_stand_ins.py.\n"
    (folder / "signature_map.pbtxt").write_text(header + text)


BOTH = (FEATURE_X, FEATURE_X2)

model(
    "half_plus_two",
    [
        ("serving_default", "predict", "x", "y", 2.0),
        ("classify_x_to_y", "classify", "inputs", "scores", 2.0, BOTH),
        ("regress_x_to_y", "regress", "inputs", "outputs", 2.0, BOTH),
        ("regress_x_to_y2", "regress", "inputs", "outputs", 3.0, BOTH),
        ("regress_x2_to_y3", "regress", "inputs", "outputs", 3.0),
    ],
)
model(
    "half_plus_two_tf2",
    [
        ("serving_default", "predict", "x", "y", 2.0),
        ("classify_x_to_y", "predict", "inputs", "scores", 2.0, BOTH),
        ("classify_x2_to_y3", "predict", "inputs", "scores", 3.0),
        ("regress_x_to_y", "predict", "inputs", "outputs", 2.0, BOTH),
        ("regress_x_to_y2", "predict", "inputs", "outputs", 3.0, BOTH),
        ("regress_x2_to_y3", "predict", "inputs", "outputs", 3.0),
    ],
)
model(
    "half_plus_three",
    [
        ("serving_default", "predict", "x", "y", 3.0),
        ("tensorflow/serving/regress", "regress", "inputs", "outputs", 3.0, (FEATURE_X,)),
    ],
)
bad = HERE / "bad" / VERSION
bad.mkdir(parents=True, exist_ok=True)
(bad / "model.onnx").write_text("This is no ONNX model.\n")
