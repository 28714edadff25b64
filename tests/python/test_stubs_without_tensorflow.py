"""Our own `.proto` files are all that a client in any language needs."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from model_server import PROJECT

PROTO = PROJECT / "proto"
CLIENT = pathlib.Path(__file__).with_name("stub_client.py")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """A folder with Python stubs of everything in `proto/` that goes over the wire."""
    root = tmp_path_factory.mktemp("root")
    (root / "proto").symlink_to(PROTO)
    # The page's commands, without the virtual environment at their beginning.
    (commands,) = blocks("grpc.md", "sh", "grpc_tools.protoc")
    commands = commands.split("\n", 1)[1].replace("client/bin/python", sys.executable)
    subprocess.run(["sh", "-ec", commands], cwd=root, check=True, timeout=120)
    folder = root / "stubs"
    # Packages with an `__init__.py` precede those of the same name in site-packages.
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


@pytest.mark.parametrize("page", ["grpc.md", "rest.md"])
def test_the_clients_of_the_pages_work(stubs, server, page):
    """As they are printed, but for the ports."""
    (program,) = blocks(page, "python", 'sys.path.insert(0, "stubs")')
    program = program.replace("http://localhost:8501", server.rest_url)
    program = program.replace("localhost:8500", server.grpc_address)
    guard = "import sys, stub_client\nsys.meta_path.insert(0, stub_client.NoTensorFlow('stubs'))\n"
    environment = os.environ | {"PYTHONPATH": str(CLIENT.parent)}
    run = subprocess.run(
        [sys.executable, "-c", guard + program],
        cwd=stubs.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout == "[2.5, 3.0, 4.5]\n"


def blocks(page, language, part):
    """The code blocks of a page that have a part in them."""
    text = (PROJECT / "docs" / page).read_text()
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [block for block in found if part in block]


def test_the_client_cannot_reach_tensorflow(tmp_path):
    """The guard of `stub_client.py` works: without stubs there is nothing to import."""
    command = [sys.executable, str(CLIENT), str(tmp_path), "127.0.0.1:1"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert run.returncode != 0
    assert "ModuleNotFoundError: tensorflow was not generated" in run.stderr
