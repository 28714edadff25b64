"""The commands `run`, `example` and `import` on models of this repository.

What `run` prints is what `saved_model_cli run` of TensorFlow prints for the same SavedModel.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from model_server import BINARY, LIBRARY, MODELS_FOLDER, PROJECT

ZOO = PROJECT / "tests" / "data" / "zoo"
XOR = MODELS_FOLDER / "xor" / "1"
MODELS = {
    "half_plus_two": ZOO / "half_plus_two",
    "multi_signature": ZOO / "multi_signature",
    "parse_example": ZOO / "parse_example",
    "scalar": ZOO / "scalar",
    "text_lookup": ZOO / "text_lookup",
    "xor": XOR.parent,
}


def command(*arguments):
    return subprocess.run(
        [BINARY, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ORT_DYLIB_PATH": LIBRARY},
    )


def results(text):
    """The printed outputs, without the lines of logs in front of them."""
    return text[text.index("Result for output key") :]


def test_run_prints_what_saved_model_cli_prints(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0, 1], [0.25, 1e-3], [1, 1]]))
    np.savez(tmp_path / "x.npz", a=np.array([[1, 0]]), b=np.zeros(3))
    cli = pathlib.Path(sys.executable).with_name("saved_model_cli")
    program = [cli] if cli.exists() else [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    for values in (
        f"--inputs=x={tmp_path}/x.npy",
        f"--inputs=x={tmp_path}/x.npz[a]",
        "--input_exprs=x=[[0, 1], [2.5, -1e3]]",
    ):
        arguments = ["run", f"--dir={XOR}", "--tag_set=serve", "--signature_def=serving_default", values]
        theirs = subprocess.run([*program, *arguments], capture_output=True, text=True, check=True)
        ours = command(*arguments)
        assert ours.returncode == 0, ours.stderr
        assert ours.stdout == results(theirs.stdout)


def test_run_takes_examples():
    examples = 'inputs=[{"x": [2.0]}, {"x": [4.0]}]'
    ran = command(
        "run", "--dir", ZOO / "half_plus_two" / "1", "--signature_def=regress_x_to_y",
        "--input_examples", examples,
    )
    assert ran.stdout == "Result for output key outputs:\n[[3.]\n [4.]]\n", ran.stderr


@pytest.mark.parametrize(
    "values, error",
    [
        ("--input_exprs=x=np.random.rand(2)", "'np.random.rand' is Python that this program does not run"),
        ("--input_exprs=y=[[1, 2]]", '"y" is not a valid input key. Please choose from "x"'),
        ("--input_exprs=x=['a']", "input 'x': its value of shape [1] is not of dtype float"),
        ("--inputs=x=/nothing.npy", "/nothing.npy"),
        ("--input_exprs=x", "is not of the form INPUT=VALUE"),
    ],
)
def test_run_refuses_values_by_name(values, error):
    ran = command("run", "--dir", XOR, values)
    assert ran.returncode == 1
    assert error in ran.stderr


@pytest.fixture(scope="module")
def served(start_server, tmp_path_factory):
    config = tmp_path_factory.mktemp("examples") / "models.config"
    entries = (
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
        for name, path in MODELS.items()
    )
    config.write_text("model_config_list { %s }" % " ".join(entries))
    return start_server([f"--model_config_file={config}"], MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_example_is_a_body_that_the_server_answers(served, model):
    version = max(MODELS[model].glob("[0-9]*"))
    shown = command("show", "--dir", version, "--all").stdout
    methods = re.findall(r"signature_def\['(\w+)'\]:.*?Method name is: (\S*)\n", shown, re.DOTALL)
    methods = [(name, method) for name, method in methods if not name.startswith("__")]
    assert methods
    for signature, method in methods:
        made = command("example", "--dir", version, "--signature_def", signature)
        assert made.returncode == 0, made.stderr
        takes_examples = '"examples"' in made.stdout
        verb = method.rpartition("/")[2] if takes_examples else "predict"
        status, _, reply = served.rest("POST", f"/v1/models/{model}:{verb}", made.stdout)
        assert status == 200, (signature, made.stdout[:300], reply)


def test_written_version_has_other_aliases(served, tmp_path, start_server):
    written = command("import", XOR.parent, "--output", tmp_path / "xor", "--rename", "output:y=z")
    assert written.returncode == 0, written.stdout
    server = start_server(["--model_name=xor", f"--model_base_path={tmp_path / 'xor'}"], ["xor"])
    body = json.dumps({"inputs": [[0, 1], [1, 1]]})
    status, reply = server.predict_rest("xor", body)
    assert (status, json.loads(reply)) == (200, {"outputs": [1.0, 0.0]})
    shown = command("show", "--dir", tmp_path / "xor" / "1", "--all").stdout
    assert "outputs['z'] tensor_info:" in shown and "in place of 'y'" in shown
    again = command("import", XOR, "--output", tmp_path / "xor" / "1")
    assert again.returncode == 1 and "exists already" in again.stdout


def test_missing_operators_are_listed(tmp_path):
    version = tmp_path / "image" / "1"
    version.mkdir(parents=True)
    contents = (ZOO / "image_b64" / "1" / "saved_model.pb").read_bytes()
    (version / "saved_model.pb").write_bytes(contents)
    listed = command("import", "--list_ops", tmp_path / "image")
    assert listed.returncode == 1
    assert re.search(r"^  DecodePng  MISSING \(node \S+\)$", listed.stdout, re.MULTILINE)
    complete = command("import", "--list_ops", XOR)
    assert complete.returncode == 0 and "MISSING" not in complete.stdout
    checked = command("check", "--dir", version, "--onnxruntime_library", "/nothing")
    assert checked.returncode == 1 and "DecodePng (node " in checked.stdout
    shown = command("show", "--dir", version, "--all")
    assert shown.returncode == 0 and "inputs['image_bytes'] tensor_info:" in shown.stdout
