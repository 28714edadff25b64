"""Runs tools/import_model.py and serves what it writes, for the tests of `make test-import`.

These tests need TensorFlow, Keras and PyTorch whole, so `make test` leaves them out.
"""

import base64
import json
import subprocess
import sys

import numpy

from model_server import PROJECT

TOOL = PROJECT / "tools" / "import_model.py"
IMPORT_SECONDS = 900
TOLERANCE = 1e-4


def run_import(*arguments, cwd=None):
    """Runs the tool; the status and all that it printed."""
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=IMPORT_SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def import_model(*arguments, cwd=None):
    """As `run_import`, which has to go well; what it printed."""
    status, output = run_import(*arguments, cwd=cwd)
    assert status == 0, output
    return output


def serve(start_server, folder, models):
    """A server with these models, whose base paths are folders in `folder`."""
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n'
        for name in models
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    return start_server([f"--model_config_file={config}"], models)


def predict(server, model, inputs, signature="serving_default"):
    """The outputs of a REST predict call in columnar format, by alias; one output has no alias."""
    body = {
        "signature_name": signature,
        "inputs": {alias: to_json(value) for alias, value in inputs.items()},
    }
    status, reply = server.predict_rest(model, json.dumps(body))
    assert status == 200, reply
    return json.loads(reply)["outputs"]


def to_json(value):
    """A tensor as lists; strings as `b64` objects."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, (list, numpy.ndarray)):
        return [to_json(item) for item in value]
    return value.item() if isinstance(value, numpy.generic) else value


def check_same(outputs, expected):
    """Compares a reply's outputs with the original's, by alias."""
    if len(expected) == 1:
        outputs = {next(iter(expected)): outputs}
    assert set(outputs) == set(expected)
    for alias, value in expected.items():
        value = numpy.asarray(value)
        if value.dtype.kind in "OS":
            wanted = [it.decode() for it in value.ravel()]
            assert list(numpy.asarray(outputs[alias]).ravel()) == wanted, alias
        else:
            actual = numpy.asarray(outputs[alias])
            assert actual.shape == value.shape, alias
            numpy.testing.assert_allclose(actual, value, TOLERANCE, TOLERANCE, err_msg=alias)
