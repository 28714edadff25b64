"""Our own `.proto` files are all that a client in any language needs."""

import json
import pathlib
import subprocess
import sys

import pytest

from model_server import PROJECT

PROTO = PROJECT / "proto"
CLIENT = pathlib.Path(__file__).with_name("stub_client.py")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """A folder with Python stubs of everything in `proto/` that goes over the wire."""
    folder = tmp_path_factory.mktemp("stubs")
    files = sorted(
        str(path.relative_to(PROTO))
        for top in ("tensorflow", "tensorflow_serving", "xla")
        for path in (PROTO / top).rglob("*.proto")
    )
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"]
    command += [f"--python_out={folder}", f"--grpc_python_out={folder}", *files]
    subprocess.run(command, check=True, timeout=120)
    # Packages with a file of their own come before those of the same name in site-packages.
    for package in [path for path in folder.rglob("*") if path.is_dir()]:
        (package / "__init__.py").touch()
    return folder


def test_predict_and_status_with_stubs_alone(stubs, server):
    command = [sys.executable, str(CLIENT), str(stubs), server.grpc_address]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "version": 1,
        "dtype": "DT_FLOAT",
        "shape": [3],
        "y": [2.5, 3.0, 4.5],
        "status": [[1, "AVAILABLE"]],
    }


def test_the_client_cannot_reach_tensorflow(tmp_path):
    """The guard of `stub_client.py` works: without stubs there is nothing to import."""
    command = [sys.executable, str(CLIENT), str(tmp_path), "127.0.0.1:1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert run.returncode != 0
    assert "ModuleNotFoundError: tensorflow was not generated" in run.stderr
