"""Writes this model and its cases: TensorFlow's own answers for a model that only parses examples.

Run with TensorFlow 2.21 and tf2onnx 1.17: python make_model.py

The parse nodes stay in the ONNX files, as tf2onnx leaves them. Features of every kind and dtype go
straight to the outputs; `regress` and `classify` compute with some of them. Some hundred random
examples hold them, leave them out, or have empty lists.
"""

import base64
import json
import pathlib
import random
import tempfile

import numpy as np
import tensorflow as tf
from tf2onnx import convert, tf_loader

HERE = pathlib.Path(__file__).parent
MODEL = HERE.name
EXAMPLES = 300
OPSET = 17

# Keys that are not valid names, because they do not have to be.
FIXED = {
    "f": tf.io.FixedLenFeature([], tf.float32, 0.25),
    "f 2x3": tf.io.FixedLenFeature([2, 3], tf.float32, [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]),
    "f/required": tf.io.FixedLenFeature([1], tf.float32),
    "i": tf.io.FixedLenFeature([2], tf.int64, [-(2**63), 2**63 - 1]),
    "i:required": tf.io.FixedLenFeature([], tf.int64),
    "s": tf.io.FixedLenFeature([], tf.string, "\x00é"),
    "s é": tf.io.FixedLenFeature([2], tf.string, [b"", b"b"]),
}
PADDED = {
    "pf": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True, default_value=-1.5),
    "pi": tf.io.FixedLenSequenceFeature([2], tf.int64, allow_missing=True, default_value=9),
    "ps": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True, default_value="pad"),
}
SPARSE = {
    "vf": tf.io.VarLenFeature(tf.float32),
    "vf 2": tf.io.VarLenFeature(tf.float32),
    "vi": tf.io.VarLenFeature(tf.int64),
    "vi/rare": tf.io.VarLenFeature(tf.int64),
    "vs": tf.io.VarLenFeature(tf.string),
    "vs/never": tf.io.VarLenFeature(tf.string),
}
RAGGED = {
    "rf": tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
    "rf 2": tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
    "ri": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
    "ri/rare": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
    "rs": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64),
}
NARROW = {
    "rf": tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int32),
    "rs": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int32),
}


def alias(key, part, dtype):
    """Outputs of strings end in `_bytes`, so that REST answers in base64."""
    letters = "".join(letter if letter.isalnum() else "_" for letter in key)
    return f"{letters}_{part}" + ("_bytes" if dtype == tf.string else "")


def outputs(parsed):
    by_alias = {}
    for key, value in parsed.items():
        if isinstance(value, tf.sparse.SparseTensor):
            by_alias[alias(key, "indices", tf.int64)] = value.indices
            by_alias[alias(key, "values", value.dtype)] = value.values
            by_alias[alias(key, "shape", tf.int64)] = value.dense_shape
        elif isinstance(value, tf.RaggedTensor):
            by_alias[alias(key, "flat", value.dtype)] = value.flat_values
            by_alias[alias(key, "splits", tf.int64)] = value.row_splits
        else:
            by_alias[alias(key, "dense", value.dtype)] = value
    return by_alias


class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def everything(self, examples):
        return outputs(tf.io.parse_example(examples, {**FIXED, **PADDED, **SPARSE, **RAGGED}))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def narrow(self, examples):
        return outputs(tf.io.parse_example(examples, NARROW))

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "example")])
    def scalar(self, example):
        features = {"f": FIXED["f"], "vi": SPARSE["vi"], "rs": RAGGED["rs"]}
        return outputs(tf.io.parse_example(example, features))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def first_op(self, examples):
        """By `ParseExample`, which has no ragged features."""
        sparse_keys, dense_keys = sorted(SPARSE), sorted(FIXED)
        empty = {dtype: tf.constant([], dtype) for dtype in (tf.float32, tf.int64, tf.string)}
        defaults = []
        for key in dense_keys:
            feature = FIXED[key]
            default = feature.default_value
            defaults.append(
                empty[feature.dtype]
                if default is None
                else tf.constant(default, feature.dtype, feature.shape)
            )
        parsed = tf.raw_ops.ParseExample(
            serialized=examples,
            names=empty[tf.string],
            sparse_keys=sparse_keys,
            dense_keys=dense_keys,
            dense_defaults=defaults,
            sparse_types=[SPARSE[key].dtype for key in sparse_keys],
            dense_shapes=[FIXED[key].shape for key in dense_keys],
        )
        by_key = dict(zip(dense_keys, parsed.dense_values))
        for number, key in enumerate(sparse_keys):
            by_key[key] = tf.sparse.SparseTensor(
                parsed.sparse_indices[number],
                parsed.sparse_values[number],
                parsed.sparse_shapes[number],
            )
        return outputs(by_key)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        """Sums what sparse and ragged features hold, row by row."""
        features = {key: {**FIXED, **SPARSE, **RAGGED}[key] for key in ("f", "vf", "rf")}
        parsed = tf.io.parse_example(inputs, features)
        sparse, ragged = parsed["vf"], parsed["rf"]
        rows = tf.expand_dims(tf.range(sparse.dense_shape[0]), 1)
        is_in_row = tf.cast(tf.equal(rows, sparse.indices[:, 0]), tf.float32)
        sums = tf.linalg.matvec(is_in_row, sparse.values)
        ends = tf.concat([[0.0], tf.cumsum(ragged.flat_values)], 0)
        ragged_sums = tf.gather(ends, ragged.row_splits[1:]) - tf.gather(
            ends, ragged.row_splits[:-1]
        )
        return {"outputs": tf.expand_dims(parsed["f"] + sums + ragged_sums, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        """Scores of a dense feature; some that no graph input takes are read, and checked."""
        parsed = tf.io.parse_example(inputs, {key: FIXED[key] for key in ("f 2x3", "i:required")})
        return {"scores": tf.reduce_sum(parsed["f 2x3"], 1)}


def save(directory):
    model = Model()
    signatures = {
        "serving_default": model.everything,
        "narrow": model.narrow,
        "scalar": model.scalar,
        "first_op": model.first_op,
        "regress": model.regress,
        "classify": model.classify,
    }
    tf.saved_model.save(model, str(directory), signatures=signatures)
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    # A server does not read the Python objects.
    graph = saved.meta_graphs[0]
    graph.ClearField("object_graph_def")
    methods = graph.signature_def
    for name in ("regress", "classify"):
        methods[name].method_name = f"tensorflow/serving/{name}"
    return saved.SerializeToString(deterministic=True)


def convert_signature(loaded, name):
    function = loaded.signatures[name]
    names = [tensor.name for tensor in function.inputs]
    returned = [tensor.name for tensor in function.outputs]
    tf.compat.v1.reset_default_graph()
    frozen, tables = tf_loader.from_trackable(loaded, function, names, returned, False)
    graph, _ = convert._convert_common(
        frozen,
        name="",
        continue_on_error=True,
        opset=OPSET,
        input_names=names,
        output_names=returned,
        initialized_tables=tables,
    )
    graph.doc_string = ""
    return graph.SerializeToString(deterministic=True)


# Examples.


def random_values(dtype, count, rng):
    if dtype == tf.float32:
        # Sums of these are exact.
        return [rng.randrange(-4096, 4096) / 16 for _ in range(count)]
    if dtype == tf.int64:
        return [rng.choice([0, 1, -1, 2**63 - 1, -(2**63), rng.randrange(2**40)]) for _ in range(count)]
    return [rng.randbytes(rng.randrange(6)) for _ in range(count)]


def feature(dtype, values):
    if dtype == tf.float32:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if dtype == tf.int64:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def random_example(rng):
    by_key = {"not asked for": feature(tf.int64, [1, 2, 3])}
    for key, it in FIXED.items():
        if it.default_value is None or rng.random() < 0.7:
            by_key[key] = feature(it.dtype, random_values(it.dtype, int(np.prod(it.shape)), rng))
        elif rng.random() < 0.3:
            by_key[key] = tf.train.Feature()
    for key, it in {**PADDED, **SPARSE, **RAGGED}.items():
        if key.endswith("never") or (key.endswith("rare") and rng.random() < 0.95):
            continue
        choice = rng.random()
        if choice < 0.2:
            continue
        if choice < 0.3:
            by_key[key] = rng.choice([tf.train.Feature(), feature(it.dtype, [])])
            continue
        count = rng.randrange(1, 5) * int(np.prod(getattr(it, "shape", ())))
        by_key[key] = feature(it.dtype, random_values(it.dtype, count, rng))
    example = tf.train.Example(features=tf.train.Features(feature=by_key))
    return example.SerializeToString(deterministic=True)


def with_feature(serialized, key, value):
    example = tf.train.Example.FromString(serialized)
    if value is None:
        del example.features.feature[key]
    else:
        example.features.feature[key].CopyFrom(value)
    return example.SerializeToString(deterministic=True)


# Cases.


def base64_of(content):
    return base64.b64encode(content).decode()


def tensor(value):
    dtype = tf.as_dtype(value.dtype if value.dtype != object else "string")
    name = "DT_" + dtype.name.upper().replace("FLOAT32", "FLOAT")
    written = {"dtype": name, "shape": list(value.shape)}
    if dtype == tf.string:
        written["strings_b64"] = [base64_of(it) for it in value.ravel().tolist()]
    else:
        written["b64"] = base64_of(value.tobytes())
    return written


def json_value(value):
    """As TensorFlow Serving's REST answers a tensor."""
    if value.dtype != object:
        return value.tolist()
    as_base64 = np.frompyfunc(lambda it: {"b64": base64_of(it)}, 1, 1)
    return np.asarray(as_base64(value)).tolist()


def case(loaded, name, signature, examples, over_rest=False):
    function = loaded.signatures[signature]
    (input_alias,) = function.structured_input_signature[1]
    verb = signature if signature in ("regress", "classify") else "predict"
    examples = np.array(examples, object)
    case = {"name": name, "version": "1", "verb": verb, "signature_name": signature}
    if verb == "predict":
        case["inputs"] = {input_alias: tensor(examples)}
    else:
        case["examples_b64"] = [base64_of(it) for it in examples]
    if over_rest:
        body = {"signature_name": signature, "inputs": json_value(examples)}
        case["rest"] = {"path": f"/v1/models/{MODEL}/versions/1:predict", "body": body}
    try:
        answer = function(**{input_alias: tf.constant(examples, tf.string)})
        answer = {key: value.numpy() for key, value in answer.items()}
        answer = {key: np.asarray(value, object if isinstance(value, bytes) else None)
                  for key, value in answer.items()}
        case["expect"] = {"status": 200, "outputs": {k: tensor(v) for k, v in sorted(answer.items())}}
        if over_rest:
            values = {key: json_value(value) for key, value in sorted(answer.items())}
            case["expect"]["rest"] = {"outputs": values}
    except tf.errors.InvalidArgumentError as error:
        lines = error.message.splitlines()
        says_why = (line for line in lines if "Name: <unknown>" in line or "Could not" in line)
        text = next(says_why, lines[0])
        case["expect"] = {"status": 400, "grpc_code": "INVALID_ARGUMENT", "error_text": text}
    return case


def cases(loaded):
    rng = random.Random(5)
    many = [random_example(rng) for _ in range(EXAMPLES)]
    few = many[:5]
    for signature in ("serving_default", "first_op"):
        yield case(loaded, f"{signature}: {EXAMPLES} examples", signature, many)
    for signature in ("narrow", "regress", "classify"):
        yield case(loaded, f"{signature}: {EXAMPLES // 5} examples", signature, many[::5])
    for signature in ("serving_default", "narrow", "first_op"):
        yield case(loaded, f"{signature}: five examples", signature, few, over_rest=True)
    for number in range(4):
        yield case(loaded, f"scalar: example {number}", "scalar", many[number], over_rest=True)
    yield case(loaded, "scalar: an empty example", "scalar", b"", over_rest=True)
    for signature in ("serving_default", "narrow", "first_op"):
        yield case(loaded, f"{signature}: no examples", signature, [], over_rest=True)
    yield case(loaded, "narrow: empty examples", "narrow", [b"", b"", b""], over_rest=True)

    ints, floats, texts = (
        feature(dtype, values)
        for dtype, values in ((tf.int64, [1]), (tf.float32, [1.0]), (tf.string, [b"1"]))
    )
    for key, value in (
        ("f/required", None),
        ("i:required", None),
        ("i:required", tf.train.Feature()),
        ("f", ints),
        ("f 2x3", floats),
        ("s é", texts),
        ("s", floats),
        ("i", texts),
        ("pi", ints),
        ("pf", texts),
        ("vf", ints),
        ("vi/rare", floats),
        ("vs/never", ints),
        ("rf 2", texts),
        ("ri", floats),
        ("rs", ints),
    ):
        kind = "none" if value is None else value.WhichOneof("kind")
        spoilt = [many[0], with_feature(many[1], key, value), many[2]]
        for signature in ("serving_default", "first_op"):
            if signature == "first_op" and key not in {**FIXED, **SPARSE}:
                continue
            name = f"{signature}: {kind} for '{key}'"
            yield case(loaded, name, signature, spoilt, over_rest=True)
    spoilt = [many[0], b"no example", many[2]]
    yield case(loaded, "serving_default: no example", "serving_default", spoilt, over_rest=True)


def main():
    version = HERE / "1"
    version.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch) / "model"
        saved_model = save(scratch)
        loaded = tf.saved_model.load(str(scratch))
        written = {"model": MODEL, "tolerance": {"abs": 0.0, "rel": 0.0}}
        written["cases"] = list(cases(loaded))
        for name in sorted(loaded.signatures):
            again = tf.saved_model.load(str(scratch))
            (version / f"{name}.onnx").write_bytes(convert_signature(again, name))
    (version / "saved_model.pb").write_bytes(saved_model)
    text = json.dumps(written, ensure_ascii=False, separators=(",", ":"))
    (HERE / "cases.json").write_text(text + "\n")


main()
