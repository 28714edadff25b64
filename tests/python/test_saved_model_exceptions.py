"""What `docs/importing.md` says that an import refuses or answers differently, and cases next to it.

The models are made here, and TensorFlow's answers come from TensorFlow.
"""

import re

import grpc
import numpy as np
import pytest
import tensorflow as tf

from grpc_calls import TIMEOUT, predict_request, prediction
from model_server import PROJECT
from saved_models import load_error

STRINGS = tf.TensorSpec([None], tf.string, "x")
FLOATS = tf.TensorSpec([None], tf.float32, "x")
FEATURE = {"a": tf.io.FixedLenFeature([2], tf.float32)}


def parsed_of_another_string(x):
    return tf.io.parse_example(tf.strings.join([x, ""]), FEATURE)["a"]


def parsed_in_a_branch(x):
    parse = lambda: tf.io.parse_example(x, FEATURE)["a"]
    return tf.cond(tf.size(x) > 1, parse, lambda: tf.zeros([1, 2]))


def one_parsed(x):
    parsed = tf.raw_ops.ParseSingleExample(
        serialized=x[0], dense_defaults=[tf.zeros([2])], num_sparse=0, sparse_keys=[],
        dense_keys=["a"], sparse_types=[], dense_shapes=[[2]],
    )
    return parsed.dense_values[0]


def unique_along_an_axis(x):
    axis = tf.cast(x[:1], tf.int64)
    return tf.raw_ops.UniqueV2(x=tf.reshape(x, [2, -1]), axis=axis).y


def pooled_by_a_window(x):
    sizes = tf.concat([[1], tf.cast(x[:2], tf.int32), [1]], 0)
    images = tf.reshape(x, [1, 2, -1, 1])
    return tf.raw_ops.MaxPoolV2(input=images, ksize=sizes, strides=[1, 1, 1, 1], padding="VALID")


def diagonals_of_a_range(x):
    k = tf.cast(x[:1], tf.int32)
    matrix = tf.reshape(x, [2, -1])
    return tf.raw_ops.MatrixDiagPartV3(input=matrix, k=k, padding_value=0.0, align="RIGHT_LEFT")


# By the name of the model: the function, its input, and a part of the refusal.
REFUSED = {
    "parsed_of_another_string": (
        parsed_of_another_string,
        STRINGS,
        "ParseExampleV2 .*that are not an input of the signature",
    ),
    "parsed_in_a_branch": (parsed_in_a_branch, STRINGS, "ParseExampleV2 .*within control flow"),
    "one_parsed": (one_parsed, STRINGS, r"needs TensorFlow's ParseSingleExample \(node "),
    "complex_input": (tf.abs, tf.TensorSpec([None], tf.complex64, "x"), "its input 'x' "),
    "complex_output": (lambda x: tf.complex(x, x), FLOATS, "its output 'y' "),
    "complex_sine": (
        lambda x: tf.math.real(tf.sin(tf.complex(x, x))),
        FLOATS,
        r"Sin \(node .*complex",
    ),
    "unique_along_an_axis": (unique_along_an_axis, FLOATS, "axis that is not constant"),
    "pooled_by_a_window": (pooled_by_a_window, FLOATS, "window that is not constant"),
    "diagonals_of_a_range": (diagonals_of_a_range, FLOATS, "range of diagonals that is not constant"),
}


def parsed_twice(x):
    other = {"a": FEATURE["a"], "b": tf.io.FixedLenFeature([], tf.int64, default_value=7)}
    one, two = tf.io.parse_example(x, FEATURE), tf.io.parse_example(x, other)
    return one["a"] + 10 * two["a"] + tf.cast(two["b"][:, None], tf.float32)


def parsed_in_two_ways(x):
    other = {"a": tf.io.FixedLenFeature([2], tf.float32, default_value=[1.0, 2.0])}
    return tf.io.parse_example(x, FEATURE)["a"] + tf.io.parse_example(x, other)["a"]


def example(**features):
    lists = {
        "a": lambda it: tf.train.Feature(float_list=tf.train.FloatList(value=it)),
        "b": lambda it: tf.train.Feature(int64_list=tf.train.Int64List(value=it)),
    }
    features = {key: lists[key](values) for key, values in features.items()}
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString()


def transposed_convolution(x):
    """Of an image of [1, 4, 4, 2], whose channels the graph does not know."""
    kernel = tf.reshape(tf.range(36, dtype=tf.float32), [3, 3, 2, 2])
    image = tf.reshape(tf.range(32, dtype=tf.float32), [1, 4, 4, 2])
    return tf.raw_ops.Conv2DBackpropInput(
        input_sizes=x, filter=kernel, out_backprop=image, strides=[1, 1, 1, 1], padding="SAME"
    )


def convolution(x):
    """With kernels of 2 input and 4 output channels: groups, if the image has more channels."""
    kernel = tf.reshape(tf.range(72, dtype=tf.float32), [3, 3, 2, 4])
    return tf.nn.conv2d(x, kernel, 1, "SAME")


SERVED = {
    "parsed_twice": (parsed_twice, STRINGS),
    "transposed_convolution": (transposed_convolution, tf.TensorSpec([4], tf.int32, "x")),
    "convolution": (convolution, tf.TensorSpec([1, 3, 3, None], tf.float32, "x")),
    **{
        f"text_of_{dtype.name}": (tf.strings.as_string, tf.TensorSpec([None], dtype, "x"))
        for dtype in (tf.float16, tf.float32, tf.float64)
    },
}


CONFLICTS = {"parsed_in_two_ways": (parsed_in_two_ways, STRINGS)}


class Named:
    def __init__(self, name):
        self.name = name


def export(function, spec, path):
    """Saves a function as the signature of a model; returns it as TensorFlow runs it."""
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": function(x)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.f)
    return module.f


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The exported functions, by the names of the models."""
    folder = tmp_path_factory.mktemp("models")
    functions = {}
    for name, (function, spec, *_) in {**REFUSED, **SERVED, **CONFLICTS}.items():
        functions[name] = export(function, spec, folder / name / "1")
    return folder, functions


@pytest.fixture(scope="module")
def served(models, start_server, tmp_path_factory):
    folder, functions = models
    config = tmp_path_factory.mktemp("config") / "models.config"
    entries = (
        f"config {{ name: '{name}' base_path: '{folder / name}' model_platform: 'tensorflow' }}\n"
        for name in functions
    )
    config.write_text(f"model_config_list {{\n{''.join(entries)}}}\n")
    flags = [f"--model_config_file={config}", "--wait_for_models=false", "--max_num_load_retries=0"]
    return start_server(flags, [])


def answer(server, model, x):
    """The output, or the gRPC code of the error."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        try:
            reply = prediction(channel).Predict(predict_request(model, x=x), timeout=TIMEOUT)
        except grpc.RpcError as error:
            assert error.code() != grpc.StatusCode.UNAVAILABLE, error
            return error.code()
    return tf.make_ndarray(reply.outputs["y"])


def test_the_table_has_reasons():
    text = (PROJECT / "docs" / "importing.md").read_text()
    section = text[text.index("### Exceptions") :].split("###")[1]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    assert 0 < len(rows) <= 5
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows), rows


@pytest.mark.parametrize("name", REFUSED)
def test_documented_exceptions_are_refused(name, served):
    error = load_error(served, Named(name))
    assert re.search(REFUSED[name][2], error), error


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_sign_of_zero_is_written_and_that_of_nan_is_not(dtype, models, served):
    name = f"text_of_{np.dtype(dtype).name}"
    assert load_error(served, Named(name)) == ""
    x = np.array([-0.0, 0.0, np.inf, -np.inf, np.nan, -np.nan], dtype)
    assert np.signbit(x[5]) and not np.signbit(x[4])
    expected = models[1][name](x)["y"].numpy()
    assert expected[5] == b"-nan"
    expected[5] = b"nan"
    assert answer(served, name, x).tolist() == expected.tolist()


def test_examples_that_two_nodes_parse_are_parsed_once(models, served):
    assert load_error(served, Named("parsed_twice")) == ""
    x = np.array([example(a=[1, 2]), example(a=[3, 4], b=[5])], object)
    expected = models[1]["parsed_twice"](x.tolist())["y"].numpy()
    assert answer(served, "parsed_twice", x).tolist() == expected.tolist()


def test_nodes_that_parse_a_feature_in_two_ways_are_refused(served):
    error = load_error(served, Named("parsed_in_two_ways"))
    assert "'a' is specified twice" in error and "one tf.io.parse_example" in error, error


@pytest.mark.parametrize("channels", [2, 4])
def test_a_transposed_convolution_of_unknown_channels_has_one_group(channels, models, served):
    assert load_error(served, Named("transposed_convolution")) == ""
    x = np.array([1, 4, 4, channels], np.int32)
    found = answer(served, "transposed_convolution", x)
    if channels == 4:
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)):
            models[1]["transposed_convolution"](x)
        assert isinstance(found, grpc.StatusCode), found
        return
    expected = models[1]["transposed_convolution"](x)["y"].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_a_convolution_of_unknown_channels_finds_its_groups(channels, models, served):
    assert load_error(served, Named("convolution")) == ""
    x = np.random.default_rng(1).standard_normal([1, 3, 3, channels]).astype(np.float32)
    found = answer(served, "convolution", x)
    if channels in (2, 4):
        expected = models[1]["convolution"](x)["y"].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        return
    # No whole number of groups, or 3 groups of 4 outputs.
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, ValueError)):
        models[1]["convolution"](x)
    assert isinstance(found, grpc.StatusCode), found
