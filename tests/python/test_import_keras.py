"""Keras files that hold Python code or need some, and aliases that `--rename` gives."""

import json
import shutil
import subprocess

import h5py
import numpy
import pytest

tensorflow = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")
pytest.importorskip("tf2onnx")

from importing import check_same, import_model, predict, run_import, serve
from model_server import BINARY

LAYERS = '''
import keras


@keras.saving.register_keras_serializable("mine")
class Twice(keras.layers.Layer):
    def call(self, x):
        return x * 2
'''
X = numpy.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]], numpy.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models whose answers are twice their inputs, and those of `small`."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "layers.py").write_text(LAYERS)
    names = {}
    exec(LAYERS, names)  # the test's own text
    lambdas = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    custom = keras.Sequential([keras.Input((3,)), names["Twice"]()])
    for ending in ("keras", "h5"):
        lambdas.save(folder / f"lambda.{ending}")
        custom.save(folder / f"custom.{ending}")
    image, words = keras.Input((3,), name="image"), keras.Input((2,), name="words")
    doubled = keras.layers.Rescaling(2.0)(image)
    both = keras.layers.Concatenate()([doubled, words])
    keras.Model([image, words], [doubled, both]).save(folder / "two.h5")
    return folder


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_lambda_layers_run_when_they_are_allowed(folder, tmp_path, start_server, ending):
    file = folder / f"lambda.{ending}"
    output = tmp_path / "lambda" / "1"
    status, text = run_import("keras", file, "--output", output)
    assert status == 1
    assert "--allow_lambda" in text
    assert "safe_mode" not in text and "Traceback" not in text
    assert not output.exists()

    text = import_model("keras", file, "--allow_lambda", "--output", output)
    assert "agrees" in text
    server = serve(start_server, tmp_path, ["lambda"])
    alias = next(iter(inputs_of(server, "lambda")))
    check_same(predict(server, "lambda", {alias: X}), {"output_0": X * 2})


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_layers_of_a_module_are_found_when_it_is_named(folder, tmp_path, ending):
    file = folder / f"custom.{ending}"
    status, text = run_import("keras", file, "--output", tmp_path / "1", cwd=folder)
    assert status == 1
    assert "Twice" in text and "--import_module" in text
    arguments = ("keras", file, "--import_module", "layers", "--output", tmp_path / "1")
    assert "agrees" in import_model(*arguments, cwd=folder)
    assert (tmp_path / "1" / "model.onnx").is_file()


def test_operations_that_keras_2_saved_as_layers_have_another_way(folder, tmp_path):
    file = tmp_path / "old.h5"
    shutil.copy(folder / "lambda.h5", file)
    with h5py.File(file, "r+") as content:
        config = content.attrs["model_config"]
        config = config.decode() if isinstance(config, bytes) else config
        content.attrs["model_config"] = config.replace('"Lambda"', '"TFOpLambda"')
    status, text = run_import("keras", file, "--output", tmp_path / "1")
    assert status == 1
    assert "tf.saved_model.save" in text
    assert "--import_module" not in text


def test_renamed_inputs_and_outputs_are_served(folder, tmp_path, start_server):
    renames = ("image=pixels", "output:output_0=double", "serving_default:output_1=all")
    options = [part for rename in renames for part in ("--rename", rename)]
    output = tmp_path / "two" / "1"
    text = import_model("keras", folder / "two.h5", *options, "--output", output)
    assert "agrees on pixels" in text
    server = serve(start_server, tmp_path, ["two"])
    words = numpy.array([[5.0, 6.0], [7.0, 8.0]], numpy.float32)
    inputs = {"pixels": X, "words": words}
    both = numpy.concatenate([X * 2, words], 1)
    check_same(predict(server, "two", inputs), {"double": X * 2, "all": both})
    # A rename with a signature's name applies only to that signature.
    check_same(predict(server, "two", inputs, "serve"), {"double": X * 2, "output_1": both})
    status, reply = server.predict_rest("two", json.dumps({"inputs": {"image": X.tolist()}}))
    assert status == 400, reply

    command = [BINARY, "show", "--dir", output, "--all"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "(signature map, in place of 'output_0')" in shown


def test_rename_in_the_directory_of_a_saved_model(tmp_path, start_server):
    class Halves(tensorflow.Module):
        @tensorflow.function(
            input_signature=[
                tensorflow.TensorSpec([None], tensorflow.float32, name="x"),
                tensorflow.TensorSpec([None], tensorflow.float32, name="id"),
            ]
        )
        def halve(self, x, id):
            return {"x": x / 2, "twice": x * 2, "id": id}

    module = Halves()
    directory = tmp_path / "halves" / "1"
    tensorflow.saved_model.save(module, directory, {"serving_default": module.halve})
    status, text = run_import(
        "saved_model", directory, "--rename", "x=half", "--output", directory
    )
    assert status == 1
    assert "input:x=half or output:x=half" in text
    options = ("--rename", "output:x=half", "--rename", "output:id=key", "--rename", "input:x=number")
    import_model("saved_model", directory, *options, "--output", directory)
    server = serve(start_server, tmp_path, ["halves"])
    inputs = {"number": [1.0, 4.0], "id": [7.0, 8.0]}
    expected = {"half": [0.5, 2.0], "twice": [2.0, 8.0], "key": [7.0, 8.0]}
    check_same(predict(server, "halves", inputs), expected)


@pytest.mark.parametrize(
    "rename, error",
    [
        ("nothing=x", "there is no input or output nothing. serve has the inputs image, words"),
        ("image", "not of the form OLD=NEW"),
        ("output_0=output_1", "two outputs of one name"),
    ],
)
def test_renames_that_cannot_be_are_refused(folder, tmp_path, rename, error):
    output = tmp_path / "1"
    status, text = run_import("keras", folder / "two.h5", "--rename", rename, "--output", output)
    assert status == 1
    assert error in text
    assert not output.exists()


def test_aliases_may_change_places(folder, tmp_path, start_server):
    options = ("--rename", "output_0=output_1", "--rename", "output_1=output_0")
    import_model("keras", folder / "two.h5", *options, "--output", tmp_path / "swap" / "1")
    server = serve(start_server, tmp_path, ["swap"])
    words = numpy.array([[5.0, 6.0], [7.0, 8.0]], numpy.float32)
    both = numpy.concatenate([X * 2, words], 1)
    outputs = predict(server, "swap", {"image": X, "words": words})
    check_same(outputs, {"output_1": X * 2, "output_0": both})


def inputs_of(server, model):
    status, _, reply = server.rest("GET", f"/v1/models/{model}/metadata")
    assert status == 200
    signatures = json.loads(reply)["metadata"]["signature_def"]["signature_def"]
    return signatures["serving_default"]["inputs"]
