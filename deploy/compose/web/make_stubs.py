#!/usr/bin/env python3
"""Generates Python stubs of the prediction service from the server's `.proto` files alone."""

import argparse
import pathlib
import subprocess
import sys


def main():
    parser = argparse.ArgumentParser(description="Generates the stubs that web.py imports.")
    parser.add_argument("--proto", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    sys.exit(generate(arguments.proto, arguments.output))


def generate(proto, output):
    """Writes stubs of everything in `proto` that goes over the wire; `protoc`'s exit status."""
    files = sorted(
        str(path.relative_to(proto))
        for package in ("tensorflow", "tensorflow_serving", "xla")
        for path in (proto / package).rglob("*.proto")
    )
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={proto}"]
    command += [f"--python_out={output}", f"--grpc_python_out={output}", *files]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    main()
