"""Small edits of ONNX graphs: operators that tf2onnx leaves in, names that exporters choose."""

import numpy
import onnx
from onnx import helper, numpy_helper


def rewrite_erfc(model):
    """erfc(x) = 1 - erf(x), which exact GELU is made of.

    The server does the same with a file that has it; here it makes the file run anywhere.
    """
    nodes = model.graph.node
    while True:
        index = next((i for i, node in enumerate(nodes) if node.op_type == "Erfc"), None)
        if index is None:
            return
        node = nodes[index]
        (x,), (y,) = node.input, node.output
        one = numpy_helper.from_array(numpy.float32(1), f"{y}/one")
        # Erf has a kernel for float only.
        replacement = [
            helper.make_node("Cast", [x], [f"{y}/float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Erf", [f"{y}/float"], [f"{y}/erf"]),
            helper.make_node("Sub", [one.name, f"{y}/erf"], [f"{y}/erfc"]),
            helper.make_node("CastLike", [f"{y}/erfc", x], [y]),
        ]
        model.graph.initializer.append(one)
        rest = list(nodes)[index + 1 :]
        del nodes[index:]
        nodes.extend([*replacement, *rest])


def clear_dim_names(model):
    """Drops tf2onnx's names of unknown dims: it numbers them, which makes equal graphs differ."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.ClearField("dim_param")


def rename_tensors(model, names):
    """Gives tensors other names, and others to those that have such a name already."""
    graph = model.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    used |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    changed = dict(names)
    for name in names.values():
        if name in used and name not in names:
            other = f"{name}_inner"
            while other in used or other in names.values():
                other += "_"
            changed[name] = other
    for node in graph.node:
        node.input[:] = [changed.get(name, name) for name in node.input]
        node.output[:] = [changed.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = changed.get(value.name, value.name)
