"""tools/import_model.py where nothing is installed: its help, and what it says is missing."""

import subprocess
import sys

from model_server import PROJECT

TOOL = PROJECT / "tools" / "import_model.py"


def run(*arguments):
    # -S: the standard library alone.
    command = [sys.executable, "-S", str(TOOL), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_help_needs_no_packages():
    status, text, errors = run("--help")
    assert (status, errors) == (0, "")
    assert "saved_model" in text and "keras" in text and "torch" in text
    status, text, errors = run("keras", "--help")
    assert (status, errors) == (0, "")
    assert "--rename" in text


def test_missing_packages_are_named_with_the_way_to_install_them(tmp_path):
    for command, package, other in (
        ("keras", "tf2onnx", "onnxscript"),
        ("saved_model", "tensorflow", "onnxscript"),
        ("torch", "onnxscript", "tf2onnx"),
    ):
        status, text, errors = run(command, "model", "--output", str(tmp_path / "1"))
        assert (status, text) == (1, "")
        missing = errors.split("To install")[0]
        assert f" {package}" in missing and "numpy" in missing
        assert other not in missing
        assert "Traceback" not in errors
        assert "import_requirements.txt" in errors
        # The printed command omits the packages for the other half of the models.
        pattern = errors.split("grep -v -E '")[1].split("'")[0]
        requirements = (PROJECT / "tools" / "import_requirements.txt").read_text()
        done = subprocess.run(
            ["grep", "-v", "-E", pattern], input=requirements, capture_output=True, text=True
        )
        assert f"\n{package}" in done.stdout
        assert f"\n{other}==" not in done.stdout


def test_output_is_required_before_anything_is_looked_for():
    status, _, errors = run("keras", "model.h5")
    assert status == 2
    assert "--output" in errors
