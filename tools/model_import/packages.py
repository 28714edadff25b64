"""Which Python packages an import needs, and what to say where they are missing.

Imports nothing but the standard library: this is what runs without them.
"""

import importlib.util
import pathlib
import shlex
import sys

from model_import.errors import ImportFailed

ALWAYS = ["numpy", "onnx", "onnxruntime"]
# By command.
NEEDED = {
    "saved_model": ["tensorflow", "tf2onnx"],
    "keras": ["keras", "tensorflow", "tf2onnx"],
    "torch": ["torch", "onnxscript"],
}
# The versions that the required packages exist for.
PYTHON = [(3, 11), (3, 13)]
REQUIREMENTS = pathlib.Path(__file__).parent.parent / "import_requirements.txt"


def check_packages(command):
    """Raises ImportFailed, with the way to install them, if packages of a command are missing."""
    needed = [*ALWAYS, *NEEDED[command]]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if not missing:
        return
    lines = f"grep -v -E '{without(command)}' {shlex.quote(str(REQUIREMENTS))}"
    oldest, newest = (f"{major}.{minor}" for major, minor in PYTHON)
    raise ImportFailed(
        f"these Python packages are missing from {sys.executable}: {', '.join(missing)}. To install "
        f"what this command needs, in a folder of its own, with Python {oldest} to {newest}:\n"
        "    python3 -m venv import\n"
        f"    {lines} > import/requirements.txt\n"
        "    import/bin/pip install -r import/requirements.txt\n"
        "and run import/bin/python in place of python3"
    )


def without(command):
    """A pattern for the lines of the requirements that a command can do without."""
    if command == "torch":
        return "^(keras|tensorflow|tf2onnx)"
    return "^(torch|onnxscript)"
