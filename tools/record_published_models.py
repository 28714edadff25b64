#!/usr/bin/env python3
"""Records TensorFlow's answers for the SavedModels of `tests/data/published/models.json`.

Downloads the pinned packages, runs each model with the loader that TensorFlow Serving uses, and writes
`tests/data/published/NAME.npz`. Runs with the Python of the tests:

    .venv/bin/python tools/record_published_models.py [NAME...]     all of them without a name
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "python"))

from published_models import DATA, SIGNATURE, published_models  # noqa: E402


def main() -> int:
    models = {model.name: model for model in published_models()}
    unknown = set(sys.argv[1:]) - set(models)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(models)}", file=sys.stderr)
        return 2
    for name in sys.argv[1:] or models:
        record(models[name])
    return 0


def record(model):
    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        model.unpack(Path(folder))
        for case, outputs in enumerate(answers(model, folder)):
            for alias, answer in outputs.items():
                arrays[f"{case}/{alias}/shape"] = np.array(answer.shape)
                arrays[f"{case}/{alias}/sample"] = model.sample(answer)
    path = DATA / f"{model.name}.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size} bytes, from TensorFlow {tf.__version__}")


def answers(model, folder):
    """For each case the outputs by alias."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
        signature = meta_graph.signature_def[SIGNATURE]
        outputs = {alias: info.name for alias, info in signature.outputs.items()}
        for case in range(len(model.cases)):
            feeds = {
                signature.inputs[alias].name: tensor
                for alias, tensor in model.inputs(case).items()
            }
            yield session.run(outputs, feeds)


if __name__ == "__main__":
    sys.exit(main())
