"""The texts of tools/import_model.py about files and directories that its commands do not import.

Nothing but Python's standard library is there, so that a wrong file is named before packages are.
"""

import io
import zipfile

import h5py
import pytest

from test_importing_without_packages import run

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'
COMMANDS = ("saved_model", "keras", "torch")


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name in names:
            written.writestr(name, b"{}" * 400)
    return file.getvalue()


def hdf5(**options):
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as written:
        written["weights"] = list(range(4000))
        written.attrs["model_config"] = "{}"
    return file.getvalue()


KERAS = archive("metadata.json", "config.json", "model.weights.h5")
PROGRAM = archive("model/archive_format", "model/models/model.json")
SCRIPT = archive("model/data.pkl", "model/code/net.py", "model/constants.pkl")
WEIGHTS = archive("weights/data.pkl", "weights/data/0")


def refused(tmp_path, command, source):
    status, text, errors = run(command, str(source), "--output", str(tmp_path / "out" / "1"))
    assert (status, text) == (1, ""), errors
    assert "Traceback" not in errors
    assert "Keras 2" not in errors and "packages" not in errors, errors
    assert not (tmp_path / "out").exists()
    return errors


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "content, named, way_out",
    [
        (POINTER, "a Git LFS pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--ab.keras\n", "a git-annex pointer", "git annex get"),
        (PAGE, "an HTML or XML page", "download it again"),
        (DENIED, "an HTML or XML page", "download it again"),
        (b"\xff" + PAGE, "by its first bytes", "copy it again"),
        (b'{"error": "not found"}', "a text file", "download the model again"),
        (b"", "an empty file", "copy it again"),
        (bytes(5000), "a file of zeros", "copy it again"),
        (KERAS[: len(KERAS) // 2], "the beginning of a ZIP archive", "copy it again"),
        (hdf5()[:-100], "the beginning of an HDF5 file", "copy it again"),
        (hdf5(libver="latest")[:-100], "the beginning of an HDF5 file", "copy it again"),
        (SCRIPT, "a TorchScript program", "torch.export.save"),
        (WEIGHTS, "a file of torch.save", "torch.export.save"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "a file of torch.save", "torch.export"),
        (b"\x80\x04\x95sklearn", "a Python pickle", "skl2onnx"),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model", "--tflite"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{"b":"c"}}   ', "a safetensors file", "export"),
        (b"\x08\x01\x92\x1f\xff", "by its first bytes", "copy it again"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_not_models_are_named(tmp_path, command, content, named, way_out):
    for name in ("model.keras", "model.h5", "model.pt2", "model.pt"):
        file = tmp_path / name
        file.write_bytes(content)
        errors = refused(tmp_path, command, file)
        assert str(file) in errors
        assert named in errors and way_out in errors, errors


def test_a_page_in_an_old_encoding_is_a_page(tmp_path):
    file = tmp_path / "model.h5"
    file.write_bytes("<html><title>Zugriff verweigert für Gäste</title>".encode("latin-1"))
    assert "an HTML or XML page" in refused(tmp_path, "keras", file)


@pytest.mark.parametrize(
    "content, name, right",
    [
        (KERAS, "model.keras", "keras"),
        (KERAS, "model.bin", "keras"),
        (hdf5(), "model.h5", "keras"),
        (PROGRAM, "model.pt2", "torch"),
        (PROGRAM, "model.pt", "torch"),
    ],
)
def test_the_command_for_a_file_is_named(tmp_path, content, name, right):
    file = tmp_path / name
    file.write_bytes(content)
    for command in COMMANDS:
        if command == right:
            status, _, errors = run(command, str(file), "--output", str(tmp_path / "1"))
            assert status == 1
            # The file is right, and packages are missing.
            assert "these Python packages are missing" in errors
        else:
            assert f"`import_model.py {right} {file}`" in refused(tmp_path, command, file)


def test_the_command_for_a_directory_is_named(tmp_path):
    base = tmp_path / "model"
    for version in ("1", "2"):
        (base / version / "variables").mkdir(parents=True)
        (base / version / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    directory = base / "2"
    advice = f"`import_model.py saved_model {directory}`"
    for command in ("keras", "torch"):
        errors = refused(tmp_path, command, directory)
        assert "the directory of a TensorFlow SavedModel" in errors and advice in errors
    for command in COMMANDS:
        errors = refused(tmp_path, command, base)
        assert "a directory of SavedModels" in errors and advice in errors
        assert advice in refused(tmp_path, command, directory / "saved_model.pb")
    exported = tmp_path / "exported"
    exported.mkdir()
    assert "without a saved_model.pb" in refused(tmp_path, "saved_model", exported)
    (exported / "model.keras").write_bytes(KERAS)
    advice = f"`import_model.py keras {exported / 'model.keras'}`"
    assert advice in refused(tmp_path, "saved_model", exported)


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_pointers_in_a_saved_model_are_named(tmp_path, file):
    directory = tmp_path / "model"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (directory / file).write_bytes(POINTER)
    errors = refused(tmp_path, "saved_model", directory)
    assert f"a SavedModel whose {file} is a Git LFS pointer" in errors
    assert "git lfs pull" in errors


def test_other_names_have_their_own_way_out(tmp_path):
    for command in COMMANDS:
        for name, named, way_out in (
            ("model.onnx", "an ONNX model", "needs no import"),
            ("frozen.pb", "a frozen TensorFlow graph", "--graphdef"),
        ):
            (tmp_path / name).write_bytes(b"\x08\x08\x12\x07pytorch\xff")
            errors = refused(tmp_path, command, tmp_path / name)
            assert named in errors and way_out in errors
    (tmp_path / "net.py").write_text("import torch\n")
    assert "torch MODULE:NAME" in refused(tmp_path, "torch", tmp_path / "net.py")
    (tmp_path / "model.weights.h5").write_bytes(hdf5())
    errors = refused(tmp_path, "keras", tmp_path / "model.weights.h5")
    assert "a file of Keras weights" in errors and "model.save" in errors
