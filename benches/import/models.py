"""Makes the models of the bench: SavedModels written by Keras 3, and tf2onnx's ONNX file of each.

`models.py NAME FOLDER` makes one model, in a process of its own because of TensorFlow's memory. Weights
are random but not degenerate: every batch normalization has statistics, scales and offsets that differ by
channel, so that nothing in the graph can be left out.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

SEED = 25
IMPORT_TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "import_model.py"
SAVED_MODEL = "saved_model"
TF2ONNX = "tf2onnx"
INPUT = "input.json"


def mobilenet_v2(keras):
    return keras.applications.MobileNetV2(weights=None)


def efficientnet_b0(keras):
    return keras.applications.EfficientNetB0(weights=None)


def densenet121(keras):
    return keras.applications.DenseNet121(weights=None)


def encoder(keras):
    """Six layers of a Transformer's encoder, with the layers and the exact GELU of BERT."""
    layers = keras.layers
    words, width, length = 8000, 256, 128
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    places = keras.ops.arange(length)[None]
    x = layers.Embedding(words, width)(tokens) + layers.Embedding(length, width)(places)
    for _ in range(6):
        attention = layers.MultiHeadAttention(8, width // 8)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + attention)
        hidden = layers.Dense(4 * width, activation=gelu(keras))(x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dense(width)(hidden))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(10, activation="softmax")(x))


def gelu(keras):
    return lambda x: keras.activations.gelu(x, approximate=False)


def lstm(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((100, 64)),
            layers.LSTM(128, return_sequences=True),
            layers.LSTM(128),
            layers.Dense(10, activation="softmax"),
        ]
    )


def mlp(keras):
    layers = keras.layers
    hidden = [layers.Dense(512, activation="relu") for _ in range(3)]
    return keras.Sequential(
        [keras.Input((784,)), *hidden, layers.Dense(10, activation="softmax")]
    )


# The function that builds a model, and how many examples a call has.
MODELS = {
    "MobileNetV2": (mobilenet_v2, 1),
    "EfficientNetB0": (efficientnet_b0, 1),
    "DenseNet121": (densenet121, 1),
    "encoder": (encoder, 1),
    "LSTM": (lstm, 1),
    "MLP": (mlp, 32),
}


def make(name, folder):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    keras.utils.set_random_seed(SEED)
    build, examples = MODELS[name]
    model = build(keras)
    fill(model)
    model.export(str(folder / SAVED_MODEL), verbose=False)
    shape = [examples, *model.inputs[0].shape[1:]]
    dtype = keras.backend.standardize_dtype(model.inputs[0].dtype)
    (folder / INPUT).write_text(json.dumps({"shape": shape, "dtype": dtype}))
    # It calls tf2onnx and replaces operators that tf2onnx leaves in the graph and ONNX does not define.
    subprocess.run(
        [sys.executable, IMPORT_TOOL, "saved_model", folder / SAVED_MODEL]
        + ["--output", folder / TF2ONNX / "1"],
        check=True,
    )


def fill(model):
    """Gives every weight that Keras sets to zeros or ones a random value."""
    random = np.random.RandomState(SEED)
    for weight in model.weights:
        shape = weight.shape
        if weight.name in ("moving_variance", "gamma"):
            weight.assign(random.uniform(0.7, 1.3, shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(random.normal(0, 0.1, shape))


if __name__ == "__main__":
    make(sys.argv[1], pathlib.Path(sys.argv[2]))
