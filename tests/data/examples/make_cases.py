"""Writes cases.json: serialized tf.Examples and what TensorFlow's ParseExampleV2 makes of them: of
all in a vector, and of a single one as a scalar as well.

Run with TensorFlow 2.21: python make_cases.py
Floats are written as the doubles they are equal to, strings in base64.
"""

import base64
import json
import pathlib
import random
import re
import struct

import numpy as np
import tensorflow as tf

DTYPES = {"float": tf.float32, "int64": tf.int64, "string": tf.string, "int32": tf.int32}


# The wire format is written by hand: the cases need bytes that no library would write.
def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(field, payload):
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def floats(*values):
    packed = b"".join(struct.pack("<f", value) for value in values)
    return delimited(2, delimited(1, packed))


def loose_floats(*values):
    return delimited(2, b"".join(b"\x0d" + struct.pack("<f", value) for value in values))


def ints(*values):
    return delimited(3, delimited(1, b"".join(varint(value % 2**64) for value in values)))


def loose_ints(*values):
    return delimited(3, b"".join(b"\x08" + varint(value % 2**64) for value in values))


def strings(*values):
    return delimited(1, b"".join(delimited(1, value) for value in values))


def entry(key, feature):
    return delimited(1, delimited(1, key.encode()) + delimited(2, feature))


def example(*entries):
    """Entries as (key, feature), or bytes that stand where an entry would."""
    body = b"".join(it if isinstance(it, bytes) else entry(*it) for it in entries)
    return delimited(1, body)


def dense(key, dtype, shape, default=None):
    return {"key": key, "dtype": dtype, "shape": shape, "default": default}


def spec(dense=(), sparse=(), ragged=()):
    return {"dense": list(dense), "sparse": list(sparse), "ragged": list(ragged)}


SPECS = {
    "float_1": spec([dense("x", "float", [1])]),
    "float_2x2": spec([dense("x", "float", [2, 2])]),
    "float_scalar": spec([dense("x", "float", [])]),
    "int_2": spec([dense("x", "int64", [2])]),
    "string_2": spec([dense("x", "string", [2])]),
    "none_wanted": spec([dense("x", "float", [0])]),
    "defaults": spec(
        [
            dense("x", "float", [2], [0.5, 1.5]),
            dense("i", "int64", [1], [7]),
            dense("s", "string", [], ["ZGZsdA=="]),
        ]
    ),
    "two_required": spec([dense("b", "float", [1]), dense("a", "int64", [1])]),
    "padded": spec(
        [
            dense("x", "float", [None], [-1.0]),
            dense("i", "int64", [None, 2], [9]),
            dense("s", "string", [None], ["cGFk"]),
        ]
    ),
    "sparse": spec(
        sparse=[
            {"key": "x", "dtype": "float"},
            {"key": "i", "dtype": "int64"},
            {"key": "s", "dtype": "string"},
        ]
    ),
    "ragged": spec(
        ragged=[
            {"key": "x", "dtype": "float", "splits_dtype": "int64"},
            {"key": "i", "dtype": "int64", "splits_dtype": "int32"},
            {"key": "s", "dtype": "string", "splits_dtype": "int64"},
        ]
    ),
    "all": spec(
        [dense("x", "float", [2], [0.0, 0.0]), dense("v", "int64", [None], [0])],
        [{"key": "i", "dtype": "int64"}],
        [{"key": "s", "dtype": "string", "splits_dtype": "int64"}],
    ),
}

X1 = ("x", floats(1.0))
ALL = example(
    ("x", floats(1.5, -2.0)),
    ("v", ints(1, 2, 3)),
    ("i", ints(-5, 2**62)),
    ("s", strings(b"a", b"", b"\xff\xfe")),
)

CASES = [
    # Values of every kind, packed and unpacked.
    ("float packed", "float_1", [example(X1), example(("x", floats(2.5)))]),
    ("float not packed", "float_1", [example(("x", loose_floats(3.0)))]),
    ("float matrix", "float_2x2", [example(("x", floats(1, 2, 3, 4)))]),
    ("float scalar", "float_scalar", [example(X1), example(X1), example(X1)]),
    ("int packed", "int_2", [example(("x", ints(-1, 2**63 - 1)))]),
    ("int not packed", "int_2", [example(("x", loose_ints(-(2**63), 300)))]),
    ("strings", "string_2", [example(("x", strings(b"", b"\x00\xff")))]),
    ("no examples", "float_1", []),
    ("no examples, padded", "padded", []),
    ("no examples, sparse", "sparse", []),
    ("no examples, ragged", "ragged", []),
    # Missing.
    ("empty example", "float_1", [b""]),
    ("empty feature map", "float_1", [example()]),
    ("other feature", "float_1", [example(("y", floats(1.0)))]),
    ("feature of no kind", "float_1", [example(("x", b""))]),
    ("empty list", "float_1", [example(("x", floats()))]),
    ("empty list message", "float_1", [example(("x", delimited(2, b"")))]),
    ("empty list where none is wanted", "none_wanted", [example(("x", delimited(2, b"")))]),
    ("missing where none is wanted", "none_wanted", [b""]),
    ("all defaults", "defaults", [b"", b""]),
    ("some defaults", "defaults", [example(("i", ints(1))), example(("s", strings(b"q")))]),
    ("feature of no kind with default", "defaults", [example(("x", b""))]),
    ("two missing: first specified is named", "two_required", [b""]),
    ("second example lacks it", "float_1", [example(X1), b""]),
    # Wrong kinds.
    ("int for float", "float_1", [example(("x", ints(1)))]),
    ("string for float", "float_1", [example(X1), example(("x", strings(b"1")))]),
    ("float for int", "int_2", [example(("x", floats(1.0)))]),
    ("int for string", "string_2", [example(("x", ints(1)))]),
    ("empty list of another kind", "float_1", [example(("x", delimited(3, b"")))]),
    ("int for padded float", "padded", [example(("x", ints(1)))]),
    ("int for sparse float", "sparse", [example(("x", ints(1)))]),
    ("int for ragged string", "ragged", [example(("s", ints(1)))]),
    ("unknown kind", "float_1", [example(("x", delimited(4, b"")))]),
    ("unknown kind of unknown feature", "float_1", [example(X1, ("y", delimited(4, b"")))]),
    ("unknown kind of sparse", "sparse", [example(("x", b"\x08\x01"))]),
    # Wrong numbers.
    ("too many floats", "float_1", [example(("x", floats(1, 2, 3)))]),
    ("too few floats", "float_2x2", [example(("x", floats(1, 2, 3)))]),
    ("too many ints", "int_2", [example(("x", ints(1, 2, 3)))]),
    ("too few ints not packed", "int_2", [example(("x", loose_ints(1)))]),
    ("too many strings", "string_2", [example(("x", strings(b"a", b"b", b"c")))]),
    ("too few strings", "string_2", [example(("x", strings(b"a")))]),
    ("two for a scalar", "float_scalar", [example(("x", floats(1, 2)))]),
    ("one for a default", "defaults", [example(("x", floats(1)))]),
    ("odd number of pairs", "padded", [example(("i", ints(1, 2, 3)))]),
    # Twice.
    ("same key twice: last wins", "float_1", [example(X1, ("x", floats(2.0)))]),
    ("same key twice: last is of no kind", "float_1", [example(X1, ("x", b""))]),
    ("same key twice: first is wrong", "float_1", [example(("x", ints(1)), X1)]),
    ("same key twice: first has an unknown kind", "float_1", [example(("x", b"\x08\x01"), X1)]),
    ("same key twice, sparse", "sparse", [example(X1, ("x", floats(2.0, 3.0)))]),
    ("same key twice, sparse: last is of no kind", "sparse", [example(X1, ("x", b""))]),
    ("same key twice, ragged", "ragged", [example(("s", strings(b"a")), ("s", strings(b"b", b"c")))]),
    ("same key twice, padded", "padded", [example(X1, ("x", floats(2.0, 3.0)))]),
    ("context and example", "two_required", [example(("a", ints(1))) + example(("b", floats(2)))]),
    ("context is overridden", "float_1", [example(X1) + example(("x", floats(2.0)))]),
    ("two errors: last feature is named", "two_required", [example(("a", floats(1)), ("b", ints(1)))]),
    # Lists of any length.
    ("padded", "padded", [
        example(("x", floats(1, 2, 3)), ("s", strings(b"a"))),
        b"",
        example(("x", floats(4)), ("i", ints(1, 2, 3, 4)), ("s", strings(b"b", b"c"))),
    ]),
    ("padded, all empty", "padded", [b"", b""]),
    ("sparse", "sparse", [
        example(("x", floats(1, 2, 3)), ("s", strings(b"a"))),
        b"",
        example(("x", floats(4)), ("i", ints(1, 2)), ("s", strings(b"b", b"c"))),
    ]),
    ("sparse, all empty", "sparse", [b"", b""]),
    ("sparse, not packed", "sparse", [example(("x", loose_floats(1, 2)), ("i", loose_ints(3)))]),
    ("ragged", "ragged", [
        example(("x", floats(1, 2, 3)), ("s", strings(b"a"))),
        b"",
        example(("x", floats(4)), ("i", ints(1, 2)), ("s", strings(b"b", b"c"))),
    ]),
    ("ragged, all empty", "ragged", [b"", b""]),
    ("all layouts", "all", [ALL, b"", ALL]),
    # Bytes at the edge of the format.
    ("not an example", "float_1", [b"garbage"]),
    ("second is not an example", "float_1", [example(X1), b"\xff\xff"]),
    ("unknown varint field", "float_1", [b"\x10\x05" + example(X1)]),
    ("unknown fixed64 field", "float_1", [b"\x11" + bytes(8) + example(X1)]),
    ("unknown delimited field", "float_1", [delimited(2, b"abc") + example(X1)]),
    ("unknown fixed32 field", "float_1", [example(X1) + b"\x15" + bytes(4)]),
    ("unknown delimited field past the end", "float_1", [example(X1) + b"\x12\x7fabc"]),
    ("truncated fixed32 field", "float_1", [example(X1) + b"\x15\x00"]),
    ("group", "float_1", [b"\x13\x14" + example(X1)]),
    ("unknown field in the feature map", "float_1", [example(X1, delimited(2, b"abc"))]),
    ("value before key", "float_1", [
        example(delimited(1, delimited(2, floats(4.0)) + delimited(1, b"x")))
    ]),
    ("two keys", "float_1", [
        example(delimited(1, delimited(1, b"y") + delimited(1, b"x")))
    ]),
    ("third field in an entry", "float_1", [
        example(delimited(1, delimited(1, b"x") + delimited(2, floats(1)) + delimited(3, b"")))
    ]),
    ("feature map length past the end", "float_1", [b"\x0a\x7f" + example(X1)[2:]]),
    ("feature map length cut", "float_1", [example(X1)[:-1]]),
    ("entry length past the end", "float_1", [delimited(1, b"\x0a\x7f" + entry(*X1)[2:])]),
    ("feature length past the end", "float_1", [
        delimited(1, b"\x0a\x0d" + delimited(1, b"x") + b"\x12\x7f" + floats(1.0))
    ]),
    ("list length past the end", "float_1", [example(("x", b"\x12\x7f" + floats(1.0)[2:]))]),
    ("packed length past the end", "float_1", [
        example(("x", delimited(2, b"\x0a\x05" + struct.pack("<f", 1.0))))
    ]),
    ("packed length far past the end", "float_1", [
        example(("x", delimited(2, b"\x0a\x7f" + struct.pack("<f", 1.0))))
    ]),
    ("packed bytes are no whole floats", "float_1", [
        example(("x", delimited(2, delimited(1, struct.pack("<f", 1.0) + b"\x00"))))
    ]),
    ("packed int length past the end", "int_2", [
        example(("x", delimited(3, b"\x0a\x7f\x01\x02")))
    ]),
    ("int is cut", "int_2", [example(("x", delimited(3, delimited(1, b"\x01\x80"))))]),
    ("int of eleven bytes", "int_2", [
        example(("x", delimited(3, delimited(1, b"\x01" + b"\xff" * 10 + b"\x01"))))
    ]),
    ("after a packed run nothing counts", "float_1", [
        example(("x", delimited(2, delimited(1, struct.pack("<f", 1.0)) + b"\xff\xff")))
    ]),
    ("two packed runs: first counts", "int_2", [
        example(("x", delimited(3, delimited(1, b"\x01\x02") + delimited(1, b"\x03"))))
    ]),
    ("two kinds: first counts", "float_1", [example(("x", floats(1.0) + ints(2)))]),
    ("wrong tag in a float list", "float_1", [example(("x", delimited(2, b"\x08\x01")))]),
    ("wrong tag in an int list", "int_2", [example(("x", delimited(3, b"\x0d\x00\x00\x00\x00")))]),
    ("wrong tag in a string list", "string_2", [example(("x", delimited(1, b"\x08\x01")))]),
    ("wrong tag in a padded list", "padded", [example(("x", delimited(2, b"\x08\x01")))]),
    ("string length past the end", "string_2", [example(("x", delimited(1, b"\x0a\x01a\x0a\x7fb")))]),
    ("float is cut, sparse", "sparse", [example(("x", delimited(2, b"\x0d\x00\x00")))]),
]


def tensor(values):
    # A scalar of strings comes as bytes.
    array = np.asarray(values.numpy(), object if values.dtype == tf.string else None)
    items = array.reshape(-1).tolist()
    if values.dtype == tf.string:
        items = [base64.b64encode(item).decode() for item in items]
    return {"dtype": values.dtype.name, "shape": list(array.shape), "values": items}


def default_tensor(feature):
    dtype = DTYPES[feature["dtype"]]
    if feature["default"] is None:
        return tf.zeros([0], dtype)
    values = feature["default"]
    if dtype == tf.string:
        values = [base64.b64decode(value) for value in values]
    variable = feature["shape"][:1] == [None]
    return tf.reshape(tf.constant(values, dtype), [-1] if variable else feature["shape"])


def parse(spec, examples, shape=None):
    """ParseExampleV2's outputs, or its error."""
    shape = [len(examples)] if shape is None else shape
    try:
        out = tf.raw_ops.ParseExampleV2(
            serialized=tf.constant(examples, tf.string, shape=shape),
            names=tf.constant([], tf.string),
            sparse_keys=tf.constant([it["key"] for it in spec["sparse"]], tf.string),
            dense_keys=tf.constant([it["key"] for it in spec["dense"]], tf.string),
            ragged_keys=tf.constant([it["key"] for it in spec["ragged"]], tf.string),
            dense_defaults=[default_tensor(it) for it in spec["dense"]],
            num_sparse=len(spec["sparse"]),
            sparse_types=[DTYPES[it["dtype"]] for it in spec["sparse"]],
            ragged_value_types=[DTYPES[it["dtype"]] for it in spec["ragged"]],
            ragged_split_types=[DTYPES[it["splits_dtype"]] for it in spec["ragged"]],
            dense_shapes=[tf.TensorShape(it["shape"]) for it in spec["dense"]],
        )
    except UnicodeDecodeError:
        # Only this text quotes bytes, which need not be UTF-8.
        return {"error": "Could not parse example input"}
    except tf.errors.InvalidArgumentError as error:
        text = re.sub(r"^\{\{function_node [^}]*\}\} ?(device: .*\} )?", "", error.message)
        text = re.sub(r" ?\[Op:ParseExampleV2\].*$", "", text, flags=re.S)
        # The text continues with the bytes themselves.
        return {"error": re.sub(r", value: '.*$", "", text, flags=re.S)}
    return {
        "dense": [tensor(it) for it in out.dense_values],
        "sparse": [
            {"indices": tensor(i), "values": tensor(v), "dense_shape": tensor(s)}
            for i, v, s in zip(out.sparse_indices, out.sparse_values, out.sparse_shapes)
        ],
        "ragged": [
            {"values": tensor(v), "row_splits": tensor(s)}
            for v, s in zip(out.ragged_values, out.ragged_row_splits)
        ],
    }


def mutations(count):
    """Small damage to a valid example. Left out: what the map entries' leniency changes (see
    reader.rs), told by the message being readable to protobuf, and values that JSON has not."""
    rng = random.Random(20)
    made = 0
    while made < count:
        damaged = bytearray(ALL)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged))
            action = rng.randrange(4)
            if action == 0:
                damaged[at] = rng.randrange(256)
            elif action == 1:
                damaged[at] ^= 1 << rng.randrange(8)
            elif action == 2:
                del damaged[at]
            else:
                del damaged[at:]
            if not damaged:
                break
        expect = parse(SPECS["all"], [bytes(damaged)])
        if "error" in expect and expect["error"].startswith("Could not parse"):
            try:
                tf.train.Example.FromString(bytes(damaged))
                continue
            except Exception:
                pass
        elif "nan" in str(expect).lower():
            continue
        made += 1
        yield f"damaged {made}", "all", [bytes(damaged)]


def main():
    cases = []
    for name, spec_name, examples in CASES + list(mutations(200)):
        cases.append(
            {
                "name": name,
                "spec": spec_name,
                "examples": [base64.b64encode(it).decode() for it in examples],
                "expect": parse(SPECS[spec_name], examples),
            }
        )
        if len(examples) == 1:
            cases[-1]["scalar"] = parse(SPECS[spec_name], examples, [])
    lines = ",\n".join("  " + json.dumps(case, allow_nan=False) for case in cases)
    specs = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in SPECS.items())
    text = f'{{"specs": {{\n{specs}\n}}, "cases": [\n{lines}\n]}}\n'
    pathlib.Path(__file__).with_name("cases.json").write_text(text)


if __name__ == "__main__":
    main()
