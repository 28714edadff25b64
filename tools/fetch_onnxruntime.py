#!/usr/bin/env python3
"""Puts the official ONNX Runtime library into `.onnxruntime/`.

Owns the version of ONNX Runtime and the SHA-256 of its library on every supported machine. The
library comes out of the `onnxruntime` wheel that Python's package index offers; all wheels of one
version and machine hold the same library, whatever Python they are for, so the library itself is
pinned. Runs on Python's standard library and pip alone, does nothing when the right library is
already there, and needs no network then.

Not here: how the server finds the library (`crates/runtime/src/ort/`).
"""

import argparse
import hashlib
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.32.0"

# Of `onnxruntime/capi/libonnxruntime.so.<VERSION>`, by the machine's name.
LIBRARY_SHA256 = {
    "x86_64": "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    "aarch64": "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
}

# The wheel of this Python is as good as any other, and every pip knows this tag.
WHEEL_PYTHON = "3.12"
WHEEL_PLATFORM = "manylinux_2_28"

LIBRARY = f"libonnxruntime.so.{VERSION}"
LINK = "libonnxruntime.so"
NOTICES = ("LICENSE", "ThirdPartyNotices.txt", "Privacy.md")

PROJECT = pathlib.Path(__file__).resolve().parent.parent


class FetchError(Exception):
    """Why the library could not be put in place; the text says what to do."""


def main():
    parser = argparse.ArgumentParser(description=f"Fetches ONNX Runtime {VERSION}.")
    parser.add_argument("--machine", default=platform.machine(), help="x86_64 or aarch64")
    parser.add_argument("--directory", type=pathlib.Path, default=PROJECT / ".onnxruntime")
    arguments = parser.parse_args()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        arguments.machine.lower(), arguments.machine.lower()
    )
    try:
        fetch(machine, arguments.directory)
    except FetchError as error:
        sys.exit(f"fetch_onnxruntime: {error}")


def fetch(machine, directory):
    """Makes `directory/lib/libonnxruntime.so` the pinned library for `machine`."""
    if sys.platform != "linux" or machine not in LIBRARY_SHA256:
        raise FetchError(
            f"no ONNX Runtime is pinned for {sys.platform} on {machine}; give the server one of "
            f"your own with --onnxruntime_library=<path> (version {VERSION})"
        )
    lib = directory / "lib"
    library = lib / LIBRARY
    complete = library.is_file() and all((directory / notice).is_file() for notice in NOTICES)
    if complete and sha256(library.read_bytes()) == LIBRARY_SHA256[machine]:
        link(lib)
        return

    print(f"fetch_onnxruntime: fetching ONNX Runtime {VERSION} for {machine}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download_wheel(machine, pathlib.Path(scratch))
        unpack(wheel, machine, directory)
    link(lib)
    print(f"fetch_onnxruntime: {library}")


def download_wheel(machine, into):
    """Has pip download the wheel and returns its path."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", WHEEL_PYTHON, "--platform", f"{WHEEL_PLATFORM}_{machine}"]
    command += ["--dest", str(into), f"onnxruntime=={VERSION}"]
    if subprocess.run(command, check=False).returncode != 0:
        raise FetchError(
            f"pip could not download onnxruntime {VERSION} (its own message is above); this step "
            f"needs pip and the package index, once. Or put {LIBRARY} somewhere yourself and give "
            "the server --onnxruntime_library=<path>"
        )
    wheels = sorted(into.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip left {len(wheels)} wheels where one was expected")
    return wheels[0]


def unpack(wheel, machine, directory):
    """Writes the library and its notices out of `wheel`, once the library's hash is right."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            library = archive.read(f"onnxruntime/capi/{LIBRARY}")
            notices = {name: archive.read(f"onnxruntime/{name}") for name in NOTICES}
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} is not the wheel that was expected: {error}") from error

    found = sha256(library)
    if found != LIBRARY_SHA256[machine]:
        raise FetchError(
            f"the library in {wheel.name} is not the pinned one and was not installed\n"
            f"  expected SHA-256 {LIBRARY_SHA256[machine]}\n"
            f"  found    SHA-256 {found}\n"
            "Either the download was tampered with, or the version was changed without its hash: "
            "see LIBRARY_SHA256 in tools/fetch_onnxruntime.py"
        )
    (directory / "lib").mkdir(parents=True, exist_ok=True)
    for name, text in notices.items():
        replace(directory / name, text, 0o644)
    replace(directory / "lib" / LIBRARY, library, 0o755)


def replace(path, content, mode):
    """Writes a file in one step, so that an interrupted run leaves no half of it."""
    partial = path.with_name(f"{path.name}.partial{os.getpid()}")
    partial.write_bytes(content)
    partial.chmod(mode)
    partial.replace(path)


def link(lib):
    """Points `libonnxruntime.so` at the library, for those who look for the plain name."""
    plain = lib / LINK
    if plain.is_symlink() and os.readlink(plain) == LIBRARY:
        return
    partial = lib / f"{LINK}.partial{os.getpid()}"
    partial.unlink(missing_ok=True)
    partial.symlink_to(LIBRARY)
    partial.replace(plain)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
