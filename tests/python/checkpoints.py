"""Writes the checkpoint of a SavedModel with one large variable, as TensorFlow does, without TensorFlow.

The variable's data is a file with holes: rows without values take no space on the disk.
"""

import functools
import struct

from google.protobuf import text_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

POLYNOMIAL = 0x82F63B78
MAGIC = 0xDB4775248B80FB57
SHARD = "variables/variables.data-00000-of-00001"


def embedding(version, rows, columns, values):
    """Writes a version: y = the sum of row `ids` of a table of zeros, whose rows begin with `values`.

    `values` are lists of floats by row, in ascending order.
    """
    (version / "variables").mkdir(parents=True)
    row_bytes = 4 * columns
    crc = 0xFFFFFFFF
    end = 0
    with open(version / SHARD, "wb") as file:
        file.truncate(rows * row_bytes)
        for row, floats in values.items():
            data = struct.pack(f"<{len(floats)}f", *floats)
            file.seek(row * row_bytes)
            file.write(data)
            crc = crc_of(data, after_zeros(crc, row * row_bytes - end))
            end = row * row_bytes + len(data)
    crc = after_zeros(crc, rows * row_bytes - end) ^ 0xFFFFFFFF
    (version / "variables" / "variables.index").write_bytes(index(rows, columns, masked(crc)))
    (version / "saved_model.pb").write_bytes(graph(rows, columns))


def graph(rows, columns):
    """The SavedModel, with the nodes that restore its variable `table`."""
    node = 'node { name: "%s" op: "%s" %s attr { key: "dtype" value { type: %s } } %s }'
    constant = 'attr { key: "value" value { tensor { dtype: %s tensor_shape { %s } %s } } }'
    one = "dim { size: 1 }"
    texts = {"path": "", "names": one, "slices": one, "axis": ""}
    contents = {
        "path": 'string_val: "variables/variables"',
        "names": 'string_val: "table"',
        "slices": 'string_val: ""',
        "axis": "int_val: -1",
    }
    nodes = [
        node % (name, "Const", "", kind, constant % (kind, shape, contents[name]))
        for name, shape in texts.items()
        for kind in ["DT_INT32" if name == "axis" else "DT_STRING"]
    ]
    sizes = f"dim {{ size: {rows} }} dim {{ size: {columns} }}"
    shape = 'attr { key: "shape" value { shape { %s } } }' % sizes
    name = 'attr { key: "shared_name" value { s: "table" } }'
    nodes += [
        node % ("table", "VarHandleOp", "", "DT_FLOAT", shape + name),
        node % ("assign", "AssignVariableOp", 'input: "table" input: "restore"', "DT_FLOAT", ""),
        'node { name: "restore" op: "RestoreV2" input: "path" input: "names" input: "slices" '
        'attr { key: "dtypes" value { list { type: DT_FLOAT } } } }',
        'node { name: "restore_all" op: "NoOp" input: "^assign" }',
        node % ("ids", "Placeholder", "", "DT_INT32", ""),
        'node { name: "rows" op: "ResourceGather" input: "table" input: "ids" '
        'attr { key: "dtype" value { type: DT_FLOAT } } '
        'attr { key: "Tindices" value { type: DT_INT32 } } }',
        'node { name: "sum" op: "Sum" input: "rows" input: "axis" '
        'attr { key: "T" value { type: DT_FLOAT } } '
        'attr { key: "Tidx" value { type: DT_INT32 } } '
        'attr { key: "keep_dims" value { b: false } } }',
    ]
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = saved.meta_graphs.add()
    text_format.Parse("\n".join(nodes), meta_graph.graph_def)
    meta_graph.meta_info_def.tags.append("serve")
    meta_graph.saver_def.restore_op_name = "restore_all"
    meta_graph.saver_def.filename_tensor_name = "path:0"
    meta_graph.saver_def.save_tensor_name = "path:0"
    signature = meta_graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for infos, alias, tensor, dtype in (
        (signature.inputs, "ids", "ids:0", types_pb2.DT_INT32),
        (signature.outputs, "y", "sum:0", types_pb2.DT_FLOAT),
    ):
        infos[alias].name = tensor
        infos[alias].dtype = dtype
        infos[alias].tensor_shape.dim.add(size=-1)
    return saved.SerializeToString()


def index(rows, columns, crc):
    """`variables.index`: a table of LevelDB with a header and an entry (`tensor_bundle.proto`)."""
    dims = b"".join(
        b"\x12" + bytes([len(size)]) + size
        for size in (b"\x08" + varint(rows), b"\x08" + varint(columns))
    )
    shape = b"\x12" + bytes([len(dims)]) + dims
    entry = b"\x08\x01" + shape + b"\x28" + varint(4 * rows * columns)
    entry += b"\x35" + struct.pack("<I", crc)
    table = bytearray()
    data = append(table, block([(b"", b"\x08\x01\x1a\x02\x08\x01"), (b"table", entry)]))
    meta = append(table, block([]))
    places = append(table, block([(b"~", data)]))
    return bytes(table) + (meta + places).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def block(entries):
    """A block that begins with the number of shared bytes of each key: none."""
    content = b""
    for key, value in entries:
        content += b"\0" + varint(len(key)) + varint(len(value)) + key + value
    return content + struct.pack("<II", 0, 1)


def append(table, content):
    """Adds a block, with its kind and checksum, to a table; its place in it."""
    place = varint(len(table)) + varint(len(content))
    content += b"\0"
    table += content + struct.pack("<I", masked(crc_of(content, 0xFFFFFFFF) ^ 0xFFFFFFFF))
    return place


def varint(number):
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def masked(crc):
    """A CRC-32C as LevelDB stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc_of(data, crc):
    """The state of a CRC-32C after more data."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc


def after_zeros(crc, count):
    """The state after so many zeros: each bit of a state has its own effect, which powers of two give."""
    for power in range(count.bit_length()):
        if count >> power & 1:
            crc = applied(zeros(power), crc)
    return crc


@functools.cache
def zeros(power):
    """The state that each single bit becomes after 2 ** `power` zeros."""
    if power == 0:
        return [crc_of(b"\0", 1 << bit) for bit in range(32)]
    half = zeros(power - 1)
    return [applied(half, state) for state in half]


def applied(effects, state):
    result = 0
    for bit, effect in enumerate(effects):
        if state >> bit & 1:
            result ^= effect
    return result
