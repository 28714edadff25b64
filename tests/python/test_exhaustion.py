"""The server runs out of something: memory for models, descriptors, space for request logs.

What it has goes on serving, and it recovers once there is enough again.
"""

import contextlib
import resource
import socket
import subprocess
import time

import pytest

import steady_load
from grpc_calls import LOAD_TIMEOUT, TIMEOUT
from model_server import peak_memory_mib
from onnx_models import publish, says_its_version, weighs, withdraw

MEMORY_LIMIT_MIB = 250
DESCRIPTORS = 80
DISK_KIB = 64


@contextlib.contextmanager
def serving(server):
    """Asks `steady` all the time; none of the requests may fail."""
    steady = steady_load.Place("steady")
    steady.begin(1)
    steady.confirm(1)
    with steady_load.Load(server, [steady], grpc_clients=1, rest_clients=1) as load:
        yield
    assert load.calls
    assert load.complaints() == []


def write_config(path, names, logging=""):
    """A configuration of models beside `path`; `logging` is of `steady`."""
    models = "".join(
        f"config {{ name: '{name}' base_path: '{path.parent / name}' model_platform: 'onnx' "
        f"{logging if name == 'steady' else ''} }}\n"
        for name in names
    )
    aside = path.with_suffix(".new")
    aside.write_text(f"model_config_list {{\n{models}}}\n")
    aside.rename(path)


@pytest.fixture
def start(start_server, tmp_path):
    """Starts a server of `steady` and, once the configuration says so, other models."""
    publish(tmp_path / "steady", 1, says_its_version(1))
    config = tmp_path / "models.config"

    def start(*flags, logging="", **process):
        write_config(config, ["steady"], logging)
        polls = ["--file_system_poll_wait_seconds=1", "--model_config_file_poll_wait_seconds=1"]
        flags = [f"--model_config_file={config}", "--max_num_load_retries=0", *polls, *flags]
        return start_server(flags, ["steady"], **process)

    return start


def wait_until(condition):
    deadline = time.monotonic() + LOAD_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def status(server, name):
    return server.rest("GET", f"/v1/models/{name}")[2].decode()


def test_model_beyond_the_memory_limit_is_refused(start, tmp_path):
    server = start(f"--model_memory_limit_mb={MEMORY_LIMIT_MIB}")
    with serving(server):
        # According to measurements, it needs 300 MiB in addition to the server's own memory.
        publish(tmp_path / "heavy", 1, weighs(100))
        write_config(tmp_path / "models.config", ["steady", "heavy"])
        wait_until(lambda: '"END"' in status(server, "heavy"))
        said = status(server, "heavy")
        assert '"error_code": "RESOURCE_EXHAUSTED"' in said
        # The words of `basic_manager.cc`.
        assert "Insufficient resources to load servable {name: heavy version: 1}" in said
        assert peak_memory_mib(server.process.pid) < MEMORY_LIMIT_MIB

        publish(tmp_path / "heavy", 2, weighs(10))
        wait_until(lambda: '"AVAILABLE"' in status(server, "heavy"))
    assert peak_memory_mib(server.process.pid) < MEMORY_LIMIT_MIB


def limit_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def test_connections_leave_descriptors_for_files(start, tmp_path):
    server = start(preexec_fn=limit_descriptors)
    with serving(server), contextlib.ExitStack() as held:
        # More than the server can accept: the connections that have waited longest are closed.
        for _ in range(2 * DESCRIPTORS):
            address = ("127.0.0.1", server.rest_port)
            held.enter_context(socket.create_connection(address, TIMEOUT))
        # Base paths and the configuration can be read meanwhile.
        publish(tmp_path / "later", 1, says_its_version(1))
        write_config(tmp_path / "models.config", ["steady", "later"])
        wait_until(lambda: '"AVAILABLE"' in status(server, "later"))
        log = server.log(limit=None)
        assert "cannot accept connections" not in log
        assert "Failed to read ModelServerConfig file" not in log


@pytest.fixture
def small_disk(tmp_path):
    """A file system with very little space."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except OSError as error:
        pytest.skip(f"no file system can be mounted: {error}")
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted: {mounted.stderr}")
    yield folder
    # Lazily: the server, which the fixture of a module stops, has files there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=TIMEOUT)


def request_log(prefix):
    return (
        f"logging_config {{ log_collector_config {{ type: 'file' filename_prefix: '{prefix}' }} "
        "sampling_config { sampling_rate: 1 } }"
    )


def records(server, outcome):
    _, _, page = server.rest("GET", "/metrics")
    name = "onnx_model_server_request_log_records_total{"
    return sum(
        float(line.rpartition(" ")[2])
        for line in page.decode().splitlines()
        if line.startswith(name) and f'outcome="{outcome}"' in line
    )


def test_disk_that_is_full_stops_the_log_only(start, small_disk):
    server = start(logging=request_log(small_disk / "log"))
    with serving(server):
        wait_until(lambda: records(server, "failed") > 10)
        for file in small_disk.iterdir():
            file.unlink()
        written = records(server, "written")
        wait_until(lambda: records(server, "written") > written)


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_KIB * 1024, DISK_KIB * 1024))


def test_files_that_may_not_grow_stop_the_log_only(start, tmp_path):
    server = start(logging=request_log(tmp_path / "log"), preexec_fn=limit_files)
    with serving(server):
        wait_until(lambda: records(server, "failed") > 10)
