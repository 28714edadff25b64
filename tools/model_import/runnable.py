"""Whether a converted graph runs: converters report success and leave operators nobody knows.

The server itself cuts the parsing of tf.Example out of a graph and rewrites a few operators, so
these are no reason to refuse a graph; here they are done without for the load.

Not here: whether the answers are right (`comparison`).
"""

import onnx
import onnxruntime

from model_import.errors import ImportFailed

# The limit of a protobuf is 2 GiB.
LARGEST_PROTOBUF = 2_000_000_000
# The nodes that the server cuts out; their outputs become inputs.
PARSES_EXAMPLES = {"ParseExample", "ParseExampleV2"}


def check_loads(signature):
    """A session of the signature's graph; None if its examples are parsed by the server.

    Raises ImportFailed, with the operators' names, if ONNX Runtime does not load it.
    """
    unknown = unknown_operators(signature.graph.graph)
    refused = sorted(unknown - PARSES_EXAMPLES)
    if refused:
        raise ImportFailed(
            f"signature '{signature.name}' needs TensorFlow's {', '.join(refused)}, which the "
            "converter leaves in the graph and no ONNX runtime has. Replace them or move them out "
            "of the model (into the client, say) and save it again"
        )
    graph = without_examples(signature.graph) if unknown else signature.graph
    try:
        session = open_session(graph)
    except Exception as error:  # onnxruntime has a dozen classes without a common base
        raise ImportFailed(
            f"signature '{signature.name}' was converted, but ONNX Runtime does not load it: "
            f"{error}"
        ) from error
    return None if unknown else session


def open_session(model):
    """An ONNX Runtime session of a ModelProto."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def unknown_operators(graph):
    """The types of all nodes, nested ones as well, that ONNX does not define."""
    unknown = set()
    for node in graph.node:
        # onnxruntime's own domains count as known, because it reports missing operators itself.
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            unknown.add(node.op_type)
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                unknown |= unknown_operators(nested)
    return unknown


def without_examples(model):
    """A copy in which parsed features are graph inputs, as in the server."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    declared = {value.name: value for value in graph.value_info}
    parsed = [node for node in graph.node if node.op_type in PARSES_EXAMPLES]
    read = {name for node in graph.node if node not in parsed for name in node.input}
    for node in parsed:
        graph.node.remove(node)
        for name in node.output:
            if name in read and name in declared:
                graph.input.add().CopyFrom(declared[name])
    serialized = {node.input[0] for node in parsed}
    for value in list(graph.input):
        if value.name in serialized and value.name not in read:
            graph.input.remove(value)
    return copy
