#!/usr/bin/env python3
"""Writes a network that compares two pictures as `<output>/{model.onnx,saved_model.pb}`.

    img1, img2: float[?, 64, 32, 3] -> predict: float[?, 1]        signature `signature-reid`

Needs `pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnx`. The weights are random and are not
trained: the model is there for its two inputs and its unusual signature, not for its answers. The
same picture twice gives exactly 0.5.
"""

import argparse
import pathlib
import tempfile

import tensorflow as tf
import tf2onnx
from tensorflow.core.protobuf import saved_model_pb2

OPSET = 17
SIGNATURE = "signature-reid"
PICTURE = (None, 64, 32, 3)
# Spreads the answers: without it all of them would lie close to 0.5.
DISTANCE_SCALE = 20.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a version directory")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tf.keras.utils.set_random_seed(arguments.seed)
    write(arguments.output)


def encoder():
    """One picture to a code of 64 numbers."""
    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input(PICTURE[1:])])
    for filters in (16, 32, 48):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(64))
    return model


def write(output):
    """Writes the ONNX file and, for its signature, the graph of the SavedModel."""
    encode = encoder()
    judge = tf.keras.Sequential([tf.keras.Input((64,)), tf.keras.layers.Dense(1, "sigmoid")])
    pictures = [tf.TensorSpec(PICTURE, tf.float32, name=name) for name in ("img1", "img2")]

    @tf.function(input_signature=pictures)
    def compare(img1, img2):
        return {"predict": judge(DISTANCE_SCALE * tf.abs(encode(img1) - encode(img2)))}

    module = tf.Module()
    module.parts = [encode, judge]
    module.compare = compare
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures={SIGNATURE: compare})
        content = (pathlib.Path(scratch) / "saved_model.pb").read_bytes()
    (output / "saved_model.pb").write_bytes(without_initialisation_signature(content))
    tf2onnx.convert.from_function(
        compare, input_signature=pictures, opset=OPSET, output_path=str(output / "model.onnx")
    )
    print(f"wrote {output}/model.onnx and {output}/saved_model.pb")


def without_initialisation_signature(content):
    """Drops TensorFlow 2's `__saved_model_init_op`: the model stands for older ones without it."""
    saved_model = saved_model_pb2.SavedModel.FromString(content)
    for meta_graph in saved_model.meta_graphs:
        meta_graph.signature_def.pop("__saved_model_init_op", None)
    return saved_model.SerializeToString(deterministic=True)


if __name__ == "__main__":
    main()
