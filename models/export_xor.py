#!/usr/bin/env python3
"""Writes `xor/1`: a SavedModel as TensorFlow leaves it, with variables, which the server imports when it loads it.

Needs `pip install tensorflow-cpu==2.21.0`. The weights are chosen, not trained, so that the answers are exact.

    x: float[?, 2] -> y: float[?]
"""

import argparse
import pathlib

import tensorflow as tf

MODELS = pathlib.Path(__file__).resolve().parent


class Xor(tf.Module):
    """Two layers: y = h[0] - 2 * h[1], h = relu(x * w + b)."""

    def __init__(self):
        super().__init__()
        self.hidden_kernel = tf.Variable([[1.0, 1.0], [1.0, 1.0]])
        self.hidden_bias = tf.Variable([0.0, -1.0])
        self.kernel = tf.Variable([[1.0], [-2.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(self, x):
        hidden = tf.nn.relu(tf.matmul(x, self.hidden_kernel) + self.hidden_bias)
        return {"y": tf.squeeze(tf.matmul(hidden, self.kernel), axis=1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=MODELS / "xor" / "1")
    arguments = parser.parse_args()
    model = Xor()
    tf.saved_model.save(model, str(arguments.output), signatures=model.serve)


if __name__ == "__main__":
    main()
