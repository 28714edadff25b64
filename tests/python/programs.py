"""Programs of others that tests run: those in `tools/test_programs.txt`.

Where one is not installed the test is skipped. If `REQUIRE_TEST_PROGRAMS` is set, as in CI, a test in
a file `test_ops_*.py` that is skipped, for whatever reason, fails instead (`conftest.py`).
"""

import os
import shutil

import pytest

from model_server import PROJECT

LIST = PROJECT / "tools" / "test_programs.txt"
# On Debian some of them are only in directories of root's PATH.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def program(name):
    """The path of an installed program; skips the test where it is missing."""
    package = packages()[name]
    path = find(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def find(name):
    """The path of an installed program; `None` where it is missing."""
    return shutil.which(name, path=PATH)


def packages():
    """Debian's packages by the programs that are wanted of them."""
    lines = (line.split() for line in LIST.read_text().splitlines() if not line.startswith("#"))
    return dict(line for line in lines if line)
