#!/usr/bin/env python3
"""Trains a small digit reader on MNIST and writes it as `<output>/{model.onnx,saved_model.pb}`.

    input_image: float[?, 28, 28, 1], pixel / 255 -> y_pred: float[?, 10]

Needs `pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnx` and MNIST's files in IDX format
(gzipped or not), which the caller gives: it trains on exactly those images and on nothing else.
With `--test-images` and `--test-labels` it prints the accuracy on those.
"""

import argparse
import gzip
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf
import tf2onnx

OPSET = 17
IDX_UINT8 = 0x08


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--labels", type=pathlib.Path, required=True)
    parser.add_argument("--test-images", type=pathlib.Path)
    parser.add_argument("--test-labels", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a version directory")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if (arguments.test_images is None) != (arguments.test_labels is None):
        parser.error("--test-images and --test-labels go together")

    tf.keras.utils.set_random_seed(arguments.seed)
    images, labels = read_images(arguments.images), read_idx(arguments.labels)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        images, labels, epochs=arguments.epochs, batch_size=arguments.batch_size, verbose=2
    )
    print(f"trained on the {len(images)} images of {arguments.images}")
    if arguments.test_images is not None:
        test = read_images(arguments.test_images), read_idx(arguments.test_labels)
        _, accuracy = model.evaluate(*test, verbose=0)
        print(f"accuracy on the {len(test[0])} images of {arguments.test_images}: {accuracy:.4f}")
    write(model, arguments.output)


def build():
    """Three blocks of convolution, pooling and normalisation, then two dense layers."""
    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input((28, 28, 1))])
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D(2, padding="same"))
        model.add(layers.BatchNormalization())
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def write(model, output):
    """Writes the ONNX file and, for its signatures, the graph of the SavedModel."""
    signature = tf.TensorSpec((None, 28, 28, 1), tf.float32, name="input_image")

    @tf.function(input_signature=[signature])
    def predict(input_image):
        return {"y_pred": model(input_image, training=False)}

    module = tf.Module()
    module.model = model
    module.predict = predict
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(module, scratch, signatures={"serving_default": predict})
        shutil.copy(pathlib.Path(scratch) / "saved_model.pb", output)
    tf2onnx.convert.from_function(
        predict,
        input_signature=[signature],
        opset=OPSET,
        output_path=str(output / "model.onnx"),
    )
    print(f"wrote {output}/model.onnx and {output}/saved_model.pb")


def read_images(path):
    """Images of an IDX file, `float[?, 28, 28, 1]` between 0 and 1."""
    images = read_idx(path)
    if images.shape[1:] != (28, 28):
        raise SystemExit(f"{path}: expected images of 28 x 28, found {images.shape[1:]}")
    return images[..., np.newaxis].astype(np.float32) / 255


def read_idx(path):
    """The array in an IDX file of unsigned bytes, the format MNIST comes in."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:3] != bytes((0, 0, IDX_UINT8)):
        raise SystemExit(f"{path}: not an IDX file of unsigned bytes")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


if __name__ == "__main__":
    main()
