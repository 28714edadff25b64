"""SavedModels and Keras models: imported, served, and answering as TensorFlow itself does."""

import json
import re
import subprocess

import grpc
import numpy
import pytest

tensorflow = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
pytest.importorskip("tf2onnx")

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from importing import check_same, import_model, predict, run_import, serve
from model_server import BINARY, LIBRARY

v1 = tensorflow.compat.v1
RANDOM = numpy.random.default_rng(3)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    keras.utils.set_random_seed(7)
    save_keras_inputs(folder / "inputs.keras")
    save_keras_recurrent(folder / "recurrent.keras")
    save_examples(folder / "examples")
    vocabulary = folder / "vocabulary.txt"
    vocabulary.write_text("cat\ndog\nfish\n")
    words = Words(str(vocabulary))
    tensorflow.saved_model.save(words, folder / "words", {"serving_default": words.look_up})
    types = Types()
    signatures = {"serving_default": types.mixed, "Double/It": types.double}
    tensorflow.saved_model.save(types, folder / "types", signatures)
    return folder


@pytest.fixture(scope="module")
def server(originals, tmp_path_factory, start_server):
    """All of them, imported by the tool."""
    base = tmp_path_factory.mktemp("imported")
    for name in ("inputs", "recurrent"):
        import_model("keras", originals / f"{name}.keras", "--output", base / name / "1")
    for name in ("examples", "words", "types"):
        import_model("saved_model", originals / name, "--output", base / name / "1")
    server = serve(start_server, base, ("inputs", "recurrent", "examples", "words", "types"))
    server.base = base
    return server


def save_keras_inputs(path):
    """Two inputs of which one has a name that is none in Python, named outputs, exact GELU."""
    features = keras.Input((4,), name="User-Features")
    items = keras.Input((None,), dtype="int32", name="items")
    embedded = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 6)(items))
    hidden = keras.layers.Concatenate()([features, embedded])
    hidden = keras.layers.Dense(8, activation="gelu")(hidden)
    outputs = {
        "Score": keras.layers.Dense(1, activation="sigmoid", name="s")(hidden),
        "topic.logits": keras.layers.Dense(5, name="t")(hidden),
    }
    keras.Model([features, items], outputs).save(path)


def save_keras_recurrent(path):
    sequence = keras.Input((None, 3), name="sequence")
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True))(sequence)
    hidden = keras.layers.Bidirectional(keras.layers.GRU(4))(hidden)
    keras.Model(sequence, [keras.layers.Dense(2, activation="softmax")(hidden), hidden]).save(path)


def save_examples(path):
    """TensorFlow 1: classify, regress and predict over tf.Example, one feature sparse."""
    with tensorflow.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tensorflow.string, [None], name="tf_example")
        fixed = tensorflow.io.FixedLenFeature
        features = tensorflow.io.parse_example(
            serialized,
            {
                "age": fixed([1], tensorflow.float32, default_value=[0.5]),
                "ids": tensorflow.io.VarLenFeature(tensorflow.int64),
                "position": fixed([2], tensorflow.float32),
            },
        )
        table = v1.get_variable("table", initializer=numpy.eye(10, 3, dtype=numpy.float32))
        ids = tensorflow.sparse.to_dense(features["ids"], default_value=0)
        embedded = tensorflow.reduce_sum(tensorflow.gather(table, ids), 1)
        row = tensorflow.concat([features["age"], features["position"], embedded], 1)
        scores = tensorflow.nn.softmax(row, name="scores")
        total = tensorflow.reduce_sum(row, 1, keepdims=True, name="total")
        names = tensorflow.constant([["a", "b", "c", "d", "e", "f"]])
        labels = tensorflow.tile(names, [tensorflow.shape(row)[0], 1], name="labels")
        session.run(v1.global_variables_initializer())
        save = v1.saved_model
        info, signature = save.build_tensor_info, save.build_signature_def
        kind = "tensorflow/serving/"
        builder = save.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": signature(
                    {"inputs": info(serialized)},
                    {"classes": info(labels), "scores": info(scores)},
                    kind + "classify",
                ),
                "regress": signature(
                    {"inputs": info(serialized)}, {"outputs": info(total)}, kind + "regress"
                ),
                "predict": signature(
                    {"examples": info(serialized)},
                    {"scores": info(scores), "total": info(total)},
                    kind + "predict",
                ),
            },
        )
        builder.save()
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"")


class Words(tensorflow.Module):
    """A vocabulary in an asset, strings in and out, strings compared."""

    def __init__(self, vocabulary):
        super().__init__()
        lookup = tensorflow.lookup
        self.asset = tensorflow.saved_model.Asset(vocabulary)
        index = lookup.TextFileIndex
        self.ids = lookup.StaticHashTable(
            lookup.TextFileInitializer(
                self.asset, tensorflow.string, index.WHOLE_LINE, tensorflow.int64, index.LINE_NUMBER
            ),
            -1,
        )
        kinds = lookup.KeyValueTensorInitializer(
            tensorflow.constant([0, 1, 2], tensorflow.int64), ["feline", "canine", "fish"]
        )
        self.kinds = lookup.StaticHashTable(kinds, "?")

    @tensorflow.function(
        input_signature=[tensorflow.TensorSpec([None, None], tensorflow.string, name="words")]
    )
    def look_up(self, words):
        ids = self.ids.lookup(words)
        kinds = self.kinds.lookup(ids)
        return {"ids": ids, "kind": kinds, "is_cat": tensorflow.equal(words, "cat")}


class Types(tensorflow.Module):
    """Small dtypes; inputs and outputs of one name; an input handed through."""

    @tensorflow.function(
        input_signature=[
            tensorflow.TensorSpec([None], tensorflow.float16, name="h"),
            tensorflow.TensorSpec([None], tensorflow.uint8, name="u"),
            tensorflow.TensorSpec([], tensorflow.int64, name="k"),
            tensorflow.TensorSpec([None], tensorflow.bool, name="b"),
        ]
    )
    def mixed(self, h, u, k, b):
        total = tensorflow.cast(u, tensorflow.int32) + tensorflow.cast(k, tensorflow.int32)
        return {"h": h * 2, "u": total, "k": k * 3, "not": tensorflow.logical_not(b), "b": b}

    @tensorflow.function(
        input_signature=[tensorflow.TensorSpec([None, 3], tensorflow.float64, name="x")]
    )
    def double(self, x):
        return {"x": x * 2, "sum": tensorflow.reduce_sum(x)}


def original(directory, signature, inputs):
    """TensorFlow's own answer."""
    function = tensorflow.saved_model.load(str(directory)).signatures[signature]
    specs = function.structured_input_signature[1]
    feeds = {
        alias: tensorflow.constant(value, specs[alias].dtype) for alias, value in inputs.items()
    }
    return {alias: value.numpy() for alias, value in function(**feeds).items()}


def example(**features):
    """A serialized tf.Example."""
    train = tensorflow.train
    made = {}
    for key, values in features.items():
        if isinstance(values[0], int):
            made[key] = train.Feature(int64_list=train.Int64List(value=values))
        else:
            made[key] = train.Feature(float_list=train.FloatList(value=values))
    return train.Example(features=train.Features(feature=made)).SerializeToString()


EXAMPLES = [example(position=[0.5, -1.0], ids=[1, 2, 2]), example(age=[3.0], position=[1.0, 2.0])]


@pytest.mark.parametrize("batch", [1, 5])
def test_keras_model_with_named_inputs(originals, server, batch):
    inputs = {
        "User-Features": RANDOM.random((batch, 4), numpy.float32),
        "items": RANDOM.integers(0, 19, (batch, 6)).astype(numpy.int32),
    }
    model = keras.models.load_model(originals / "inputs.keras")
    expected = model([inputs["User-Features"], inputs["items"]])
    expected = {alias: value.numpy() for alias, value in expected.items()}
    check_same(predict(server, "inputs", inputs), expected)


def test_keras_model_with_recurrent_layers(originals, server):
    sequence = RANDOM.random((2, 9, 3), numpy.float32)
    model = keras.models.load_model(originals / "recurrent.keras")
    expected = [value.numpy() for value in model(sequence)]
    expected = {f"output_{index}": value for index, value in enumerate(expected)}
    check_same(predict(server, "recurrent", {"sequence": sequence}), expected)


def test_keras_signatures_share_a_graph(server):
    files = {path.name for path in (server.base / "inputs" / "1").iterdir()}
    assert files == {"model.onnx", "saved_model.pb"}


def test_examples_are_parsed_by_the_server(originals, server):
    expected = original(originals / "examples", "predict", {"examples": EXAMPLES})
    check_same(predict(server, "examples", {"examples": EXAMPLES}, "predict"), expected)


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_classify_and_regress(originals, server, verb):
    signature = "serving_default" if verb == "classify" else "regress"
    body = {
        "signature_name": signature,
        "examples": [
            {"position": [0.5, -1.0], "ids": [1, 2, 2]},
            {"age": 3.0, "position": [1.0, 2.0]},
        ],
    }
    status, _, reply = server.rest("POST", f"/v1/models/examples:{verb}", json.dumps(body))
    assert status == 200, reply
    expected = original(originals / "examples", signature, {"inputs": EXAMPLES})
    if verb == "regress":
        check_same(json.loads(reply)["results"], {"outputs": expected["outputs"].ravel()})
        return
    results = json.loads(reply)["results"]
    labels = [[label for label, _ in row] for row in results]
    assert labels == [[it.decode() for it in row] for row in expected["classes"]]
    scores = [[score for _, score in row] for row in results]
    check_same(scores, {"scores": expected["scores"]})


def test_warmup_requests_are_carried_over(server):
    assert (server.base / "examples/1/assets.extra/tf_serving_warmup_requests").is_file()


def test_strings_and_vocabularies(originals, server):
    words = [[b"cat", b"dog", b"cow"], [b"", b"fish", b"Cat"]]
    expected = original(originals / "words", "serving_default", {"words": words})
    check_same(predict(server, "words", {"words": words}), expected)


def test_small_types_and_equal_names(originals, server):
    # REST has no halves, nor does it in TensorFlow Serving.
    inputs = {"h": [0.5, 1.5], "u": [250, 3], "k": 7, "b": [True, False]}
    function = tensorflow.saved_model.load(originals / "types").signatures["serving_default"]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "types"
    for alias, spec in function.structured_input_signature[1].items():
        proto = tensorflow.make_tensor_proto(inputs[alias], spec.dtype)
        request.inputs[alias].CopyFrom(proto)
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(request, timeout=60)
    outputs = {alias: tensorflow.make_ndarray(it) for alias, it in reply.outputs.items()}
    expected = original(originals / "types", "serving_default", inputs)
    check_same(outputs, expected)
    assert {alias: it.dtype for alias, it in outputs.items()} == {
        alias: it.dtype for alias, it in expected.items()
    }


def test_names_that_are_no_file_names(originals, server):
    inputs = {"x": [[1.0, 2.0, 3.0]]}
    expected = original(originals / "types", "Double/It", inputs)
    check_same(predict(server, "types", inputs, "Double/It"), expected)


def test_metadata_is_the_originals(originals, server):
    status, _, reply = server.rest("GET", "/v1/models/types/metadata")
    assert status == 200
    signatures = json.loads(reply)["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "Double/It", "__saved_model_init_op"}
    contents = (originals / "types" / "saved_model.pb").read_bytes()
    saved = saved_model_pb2.SavedModel.FromString(contents).meta_graphs[0].signature_def
    for name, signature in signatures.items():
        for side in ("inputs", "outputs"):
            wanted = {alias: info.name for alias, info in getattr(saved[name], side).items()}
            assert {alias: it["name"] for alias, it in signature[side].items()} == wanted


def test_check_passes(server):
    for model in ("inputs", "recurrent", "examples", "words", "types"):
        command = [BINARY, "check", "--dir", server.base / model / "1"]
        command += ["--onnxruntime_library", LIBRARY]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_operator_without_a_runtime_is_named(tmp_path):
    class Replace(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None], tensorflow.string)])
        def replace(self, text):
            return {"text": tensorflow.strings.regex_replace(text, "a+", "b")}

    module = Replace()
    tensorflow.saved_model.save(module, tmp_path / "m", {"serving_default": module.replace})
    output = tmp_path / "base" / "1"
    status, text = run_import("saved_model", tmp_path / "m", "--output", output)
    assert status == 1
    assert "StaticRegexReplace" in text
    assert not output.exists()


def test_command_in_the_servers_log_works(originals, tmp_path, start_server):
    base = tmp_path / "types"
    tensorflow_copy = base / "1"
    subprocess.run(["cp", "-r", originals / "types", tmp_path / "copy"], check=True)
    base.mkdir()
    (tmp_path / "copy").rename(tensorflow_copy)
    before = (tensorflow_copy / "saved_model.pb").read_bytes()
    show = [BINARY, "show", "--dir", tensorflow_copy, "--all"]
    done = subprocess.run(show, capture_output=True, text=True)
    assert done.returncode == 1
    command = re.search(r"python3 tools/import_model.py (.*)", done.stderr).group(1).split()
    import_model(*command)
    assert (tensorflow_copy / "saved_model.pb").read_bytes() == before
    server = serve(start_server, tmp_path, ["types"])
    expected = original(originals / "types", "Double/It", {"x": [[1.0, 2.0, 3.0]]})
    check_same(predict(server, "types", {"x": [[1.0, 2.0, 3.0]]}, "Double/It"), expected)


def test_bfloat16_is_computed_in_float(tmp_path, start_server):
    class Brief(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None], tensorflow.bfloat16)])
        def double(self, x):
            return {"y": x * 2, "wide": tensorflow.cast(x, tensorflow.float32) + 1}

    module = Brief()
    tensorflow.saved_model.save(module, tmp_path / "m", {"serving_default": module.double})
    output = tmp_path / "brief" / "1"
    text = import_model("saved_model", tmp_path / "m", "--rename", "x=in", "--output", output)
    assert "agrees on in" in text
    server = serve(start_server, tmp_path, ["brief"])
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "brief"
    values = tensorflow.constant([1.5, -2.0], tensorflow.bfloat16)
    request.inputs["in"].CopyFrom(tensorflow.make_tensor_proto(values))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(request, timeout=60)
    outputs = {alias: tensorflow.make_ndarray(it) for alias, it in reply.outputs.items()}
    assert outputs["y"].dtype == tensorflow.bfloat16.as_numpy_dtype
    assert outputs["y"].astype(float).tolist() == [3.0, -4.0]
    assert outputs["wide"].tolist() == [2.5, -1.0]


def test_existing_version_is_not_touched(originals, server):
    output = server.base / "types" / "1"
    status, text = run_import("saved_model", originals / "types", "--output", output)
    assert status == 1
    assert "exists already" in text
