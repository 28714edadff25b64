"""What goes wrong around a running server: directories, files, permissions, the clock.

A model that serves goes on serving, whatever happens to others: each test asks one all the time.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import pytest

from grpc_calls import ENDLESS, GRPC_MODELS, LOAD_TIMEOUT, TIMEOUT
from model_server import BINARY, LIBRARY
from onnx_models import FLOAT, model, publish, saved_model, says_its_version, withdraw
from steady_load import Load, Place

NOBODY = 65534
# In seconds since 1970: 2001-09-09T01:46:40Z.
STOPPED_AT = 1_000_000_000


class Models:
    """A server whose configuration file names `steady` and, as a test goes on, others."""

    def __init__(self, start_server, folder, flags=(), **process):
        self.folder = folder
        self.config = folder / "models.config"
        self.names = ["steady"]
        publish(folder / "steady", 1, says_its_version(1))
        self.write_config()
        polls = ["--file_system_poll_wait_seconds=1", "--model_config_file_poll_wait_seconds=1"]
        flags = [f"--model_config_file={self.config}", "--max_num_load_retries=0", *polls, *flags]
        self.server = start_server(flags, ["steady"], **process)

    def write_config(self, text=None):
        models = "".join(
            f"config {{ name: '{name}' base_path: '{self.folder / name}' model_platform: 'onnx' }}\n"
            for name in self.names
        )
        aside = self.config.with_suffix(".new")
        aside.write_text(text or f"model_config_list {{\n{models}}}\n")
        aside.rename(self.config)

    def add(self, name, version=1, content=None, beside=None):
        """A model with one version, in the configuration from now on."""
        content = content or says_its_version(version)
        publish(self.folder / name, version, content, beside=beside)
        self.names.append(name)
        self.write_config()

    def answer(self, name):
        """The version that answers; `None` where none does."""
        status, body = self.server.predict_rest(name, b'{"instances": [0]}')
        return int(float(body.split(b"[")[1].split(b"]")[0])) if status == 200 else None

    def status(self, name):
        _, _, body = self.server.rest("GET", f"/v1/models/{name}")
        return body.decode()

    def await_answer(self, name, version):
        wait_until(lambda: self.answer(name) == version)

    def await_log(self, text):
        """Waits until the server logs `text` once more than it has by now."""
        count = self.server.log(limit=None).count(text)
        wait_until(lambda: self.server.log(limit=None).count(text) > count)

    @contextlib.contextmanager
    def serving(self):
        """Asks `steady` all the time; none of the requests may fail."""
        steady = Place("steady")
        steady.begin(1)
        steady.confirm(1)
        with Load(self.server, [steady], grpc_clients=1, rest_clients=1) as load:
            yield
        assert load.calls
        assert load.complaints() == []


def wait_until(condition):
    deadline = time.monotonic() + LOAD_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def models(start_server, tmp_path_factory):
    return Models(start_server, tmp_path_factory.mktemp("models"))


def test_base_path_vanishes_and_returns(models):
    with models.serving():
        models.add("vanishing")
        models.await_answer("vanishing", 1)

        away = models.folder / "elsewhere"
        (models.folder / "vanishing").rename(away)
        models.await_log("Could not find base path")
        assert models.answer("vanishing") == 1
        publish(away, 2, says_its_version(2))
        away.rename(models.folder / "vanishing")

        models.await_answer("vanishing", 2)


def test_version_directory_is_deleted_while_it_serves(models):
    with models.serving():
        models.add("deleted")
        models.await_answer("deleted", 1)

        # Step by step, as `rm -r` does: first the files, which a loaded version does not need.
        (models.folder / "deleted" / "1" / "model.onnx").unlink()
        models.add("witness")
        models.await_answer("witness", 1)
        assert models.answer("deleted") == 1

        withdraw(models.folder / "deleted", 1)
        wait_until(lambda: '"END"' in models.status("deleted"))
        assert models.answer("deleted") is None
        publish(models.folder / "deleted", 1, says_its_version(1))
        models.await_answer("deleted", 1)


def test_corrupt_model_among_good_ones(models):
    with models.serving():
        good = says_its_version(1)
        models.add("corrupt", content=good[:-10])
        models.add("good")

        models.await_answer("good", 1)
        wait_until(lambda: '"END"' in models.status("corrupt"))
        assert models.answer("corrupt") is None
        # Unlike in TensorFlow Serving, a version is loaded again after its files have changed.
        (models.folder / "corrupt" / "1" / "model.onnx").write_bytes(good)
        models.await_answer("corrupt", 1)


DIFFERENCE = model([("Sub", ["p", "q"], "y")], {}, inputs={"p": (FLOAT, "n"), "q": (FLOAT, "n")})
# Broken versions: the model, the files next to it, and texts that the error has to contain.
UNSERVABLE = {
    "ambiguous": (
        DIFFERENCE,
        {"saved_model.pb": saved_model(["a", "b"], ["y"])},
        ['input "a"', 'match: "p", "q"', 'input { alias: "a" tensor: "???" }'],
    ),
    "alias_missing": (
        None,
        {"saved_model.pb": saved_model(["x"], ["y", "z"])},
        ['output "z"', "signature_map.pbtxt"],
    ),
    "dtype": (
        None,
        {"signature_map.pbtxt": b"signature { name: 's' input { alias: 'x' dtype: DT_STRING }"
                                b" output { alias: 'y' } }"},
        ["string", "float"],
    ),
    "operator": (
        model([("NoSuchOperator", ["x"], "y")], {}),
        {},
        ["NoSuchOperator"],
    ),
    "damaged_original": (None, {"saved_model.pb": b"\xff\xff"}, ["saved_model.pb"]),
    "damaged_map": (None, {"signature_map.pbtxt": b"signature {"}, ["signature_map.pbtxt"]),
}


def test_versions_that_cannot_be_served_say_why(models):
    """In the status and in the log; nothing else is touched."""
    with models.serving():
        for name, (content, beside, _) in UNSERVABLE.items():
            models.add(name, content=content, beside=beside)
        for name, (_, _, texts) in UNSERVABLE.items():
            wait_until(lambda: '"END"' in models.status(name))
            (failed,) = json.loads(models.status(name))["model_version_status"]
            said = failed["status"]["error_message"]
            assert all(text in said for text in texts), (name, said)
            wait_until(lambda: said.splitlines()[0] in models.server.log(limit=None))
        # The model itself stays usable.
        for name in UNSERVABLE:
            publish(models.folder / name, 2, says_its_version(2))
            models.await_answer(name, 2)


def test_configuration_is_garbage_and_then_mended(models):
    with models.serving():
        models.write_config("model_config_list { config { name: ")
        models.await_log("Failed to read ModelServerConfig file")
        models.write_config("\x00\xff" * 1000)
        models.await_log("Failed to read ModelServerConfig file")
        assert models.answer("steady") == 1

        models.add("mended")
        models.await_answer("mended", 1)


def test_server_does_not_start_with_garbage(tmp_path):
    """`testBadModelConfig` of `tensorflow_model_server_test.py`."""
    config = tmp_path / "models.config"
    config.write_text("improperly formatted file")
    command = [str(BINARY), f"--model_config_file={config}", f"--onnxruntime_library={LIBRARY}"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)

    assert ended.returncode == 255
    expected = "Error parsing text-format tensorflow.serving.ModelServerConfig"
    assert expected in ended.stderr


def test_configuration_is_not_read_again_without_polls(start_server, tmp_path):
    """`testModelConfigReloadWithZeroPollPeriod` of `tensorflow_model_server_test.py`."""
    flags = ["--model_config_file_poll_wait_seconds=0"]
    models = Models(start_server, tmp_path, flags)
    models.add("other")
    # For each version it takes at least a second until the poll for versions finds it.
    for version in (2, 3):
        publish(tmp_path / "steady", version, says_its_version(version))
        models.await_answer("steady", version)
    assert models.answer("other") is None


def test_two_directories_of_one_number(models):
    with models.serving():
        publish(models.folder / "twice", "001", says_its_version(1))
        models.add("twice")
        models.await_answer("twice", 1)
        assert models.status("twice").count('"version"') == 1

        # One of them is enough, no matter which one it was loaded from.
        withdraw(models.folder / "twice", "001")
        models.add("later")
        models.await_answer("later", 1)
        assert models.answer("twice") == 1


@pytest.fixture
def open_folder():
    """A folder that every user may read, unlike pytest's."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a server as another user")
def test_server_without_permission(start_server, open_folder):
    # Other users might not have access to the folder of this clone.
    binary, library = (shutil.copy(file, open_folder) for file in (BINARY, LIBRARY))
    flags = [f"--onnxruntime_library={library}"]
    models = Models(start_server, open_folder, flags, executable=binary, user=NOBODY, group=NOBODY)

    with models.serving():
        models.folder.joinpath("secret").mkdir(0o700)
        models.add("secret")
        models.await_log("Could not find base path")
        models.add("unreadable")
        models.await_answer("unreadable", 1)
        publish(models.folder / "unreadable", 2, says_its_version(2), mode=0o000)
        wait_until(lambda: '"END"' in models.status("unreadable"))
        assert models.answer("unreadable") == 1

        models.folder.joinpath("secret").chmod(0o755)
        models.await_answer("secret", 1)
        (models.folder / "unreadable" / "2" / "model.onnx").chmod(0o644)
        models.await_answer("unreadable", 2)


CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The time of day jumps by two years, or does not, from one reading to the next. Which of the two
 * follows from their count alone: something that reads it in a rhythm must not always hit the same. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    static unsigned readings;
    const time_t year = 365 * 24 * 3600;
    long result = syscall(SYS_clock_gettime, clock, time);
#ifdef STOPPED
    if (result == 0 && clock == CLOCK_REALTIME) {
        time->tv_sec = STOPPED;
        time->tv_nsec = 0;
    }
#else
    if (result == 0 && clock == CLOCK_REALTIME) {
        unsigned mixed = __atomic_add_fetch(&readings, 1, __ATOMIC_RELAXED) * 2654435761u;
        time->tv_sec += (mixed ^ mixed >> 15) >> 9 & 1 ? year : -year;
    }
#endif
    return (int)result;
}
"""


def with_clock(folder, *definitions):
    """The environment in which a server has this clock."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the clock with")
    clock = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", *definitions, "-o", str(clock), "-x", "c", "-"]
    subprocess.run(command, input=CLOCK, text=True, check=True)
    return {**os.environ, "LD_PRELOAD": str(clock)}


def test_clock_that_jumps(start_server, tmp_path):
    models = Models(start_server, tmp_path, ["--enable_batching"], env=with_clock(tmp_path))

    with models.serving():
        models.add("moving")
        models.await_answer("moving", 1)
        publish(tmp_path / "moving", 2, says_its_version(2))
        models.await_answer("moving", 2)
        # Files with dates in the future or long ago are treated like others.
        models.add("dated", content=b"none yet")
        wait_until(lambda: '"END"' in models.status("dated"))
        file = tmp_path / "dated" / "1" / "model.onnx"
        file.write_bytes(says_its_version(1))
        os.utime(file, (0, 0))
        models.await_answer("dated", 1)
    years = {line[:4] for line in models.server.log(limit=None).splitlines() if line[:1] == "2"}
    assert len(years) > 1, "the clock did not jump"


def test_clock_that_stands_still(start_server, tmp_path):
    """Timeouts and polls go by a clock that nobody sets."""
    flags = ["--rest_api_timeout_in_ms=300", "--stall_timeout_seconds=1"]
    stopped = f"-DSTOPPED={STOPPED_AT}"
    models = Models(start_server, tmp_path, flags, env=with_clock(tmp_path, stopped))

    with models.serving():
        models.add("moving")
        models.await_answer("moving", 1)
        publish(tmp_path / "moving", 2, says_its_version(2))
        models.await_answer("moving", 2)
        models.names.append("slow")
        shutil.copytree(GRPC_MODELS / "slow", tmp_path / "slow")
        models.write_config()
        wait_until(lambda: '"AVAILABLE"' in models.status("slow"))
        status, body = models.server.predict_rest("slow", f'{{"inputs": {ENDLESS}}}')
        assert (status, b"Timed out" in body) == (504, True), body
        with socket.create_connection(("127.0.0.1", models.server.rest_port), TIMEOUT) as stalled:
            head = b"POST /v1/models/steady:predict HTTP/1.1\r\nHost: here\r\n"
            stalled.sendall(head + b"Content-Length: 100\r\n\r\n{")
            assert stalled.recv(1024).startswith(b"HTTP/1.1 504 ")
    days = {line[:10] for line in models.server.log(limit=None).splitlines() if line[:1] == "2"}
    assert days == {"2001-09-09"}
