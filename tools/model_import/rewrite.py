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


def widen_bfloat16(model, and_half=False):
    """Computes in float32 what the original computes in bfloat16, for which ONNX Runtime's CPU has few
    kernels; also what is in float16, which tf2onnx makes of some of it.

    Clients go on sending and getting what the signature says: the server casts.
    """
    narrow = {onnx.TensorProto.BFLOAT16}
    if and_half:
        narrow.add(onnx.TensorProto.FLOAT16)
    wide = onnx.TensorProto.FLOAT

    def widen(tensor):
        if tensor.data_type in narrow:
            array = numpy_helper.to_array(tensor).astype(numpy.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            widen(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in narrow:
                value.type.tensor_type.elem_type = wide
        for node in graph.node:
            for attribute in node.attribute:
                is_type = (node.op_type, attribute.name) in (("Cast", "to"), ("EyeLike", "dtype"))
                is_type |= node.op_type.startswith("Random") and attribute.name == "dtype"
                if is_type and attribute.i in narrow:
                    attribute.i = wide
                if attribute.type == onnx.AttributeProto.TENSOR:
                    widen(attribute.t)


def rename_tensors(model, names):
    """Gives tensors other names, and others to those that have such a name already.

    Inner graphs, such as the branches of an If, read the outer graph's tensors by name.
    """
    used = set()
    for graph in graphs_of(model.graph):
        used |= {name for node in graph.node for name in (*node.input, *node.output)}
        used |= {value.name for value in _named_values(graph)}
    changed = dict(names)
    for name in names.values():
        if name in used and name not in names:
            other = f"{name}_inner"
            while other in used or other in names.values():
                other += "_"
            changed[name] = other
    for graph in graphs_of(model.graph):
        for node in graph.node:
            node.input[:] = [changed.get(name, name) for name in node.input]
            node.output[:] = [changed.get(name, name) for name in node.output]
        for value in _named_values(graph):
            value.name = changed.get(value.name, value.name)
        for annotation in graph.quantization_annotation:
            name = annotation.tensor_name
            annotation.tensor_name = changed.get(name, name)


def graphs_of(graph):
    """A graph and the graphs inside of its nodes, however deep."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.output:
                    yield from graphs_of(inner)


def _named_values(graph):
    sparse = (tensor.values for tensor in graph.sparse_initializer)
    return [*graph.input, *graph.output, *graph.initializer, *graph.value_info, *sparse]


def separate_outputs(model):
    """Gives every output of the graph a tensor of its own: it may be an input, a weight, or the same
    tensor twice."""
    graph = model.graph
    taken = {value.name for value in (*graph.input, *graph.initializer)}
    for index, value in enumerate(graph.output):
        if value.name in taken:
            name = f"{value.name}/output_{index}"
            graph.node.append(helper.make_node("Identity", [value.name], [name]))
            value.name = name
        taken.add(value.name)
