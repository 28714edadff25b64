"""Takes the weights out of a saved_model.pb and leaves its signatures.

The server needs the signatures, and what the graph says about parsing tf.Example. Values of large
constants are dropped, their types and shapes stay; variables are in other files anyway.
"""

from model_import.errors import ImportFailed

# Constants with more bytes are dropped. Defaults of examples' features, which the server reads,
# are far smaller; so where a graph parses examples, more is kept.
LARGEST_CONSTANT = 1 << 10
LARGEST_CONSTANT_BESIDE_EXAMPLES = 1 << 16


def strip_saved_model(contents):
    """The bytes of a `SavedModel` message, without large constants."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved_model = saved_model_pb2.SavedModel.FromString(contents)
    except DecodeError as error:
        raise ImportFailed(f"saved_model.pb cannot be read: {error}") from error
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        nodes = [node for function in graph.library.function for node in function.node_def]
        nodes += graph.node
        parses = any(node.op.startswith("ParseExample") for node in nodes)
        limit = LARGEST_CONSTANT_BESIDE_EXAMPLES if parses else LARGEST_CONSTANT
        for node in nodes:
            if node.op == "Const" and node.attr["value"].ByteSize() > limit:
                _drop_values(node.attr["value"].tensor)
    return saved_model.SerializeToString()


def _drop_values(tensor):
    for field, _ in tensor.ListFields():
        if field.name not in ("dtype", "tensor_shape", "version_number"):
            tensor.ClearField(field.name)
