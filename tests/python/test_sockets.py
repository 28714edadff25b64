"""The server talks to its clients and to nobody else: no telemetry, no look-ups.

Official builds of ONNX Runtime send events home unless told not to, so the sockets of the process
are watched, from its start until after its first answers.
"""

import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from model_server import BINARY, PROJECT, ModelServer, free_ports

WATCH_SECONDS = 2.0
INTERVAL_SECONDS = 0.01

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class SocketWatch:
    """Collects the local ports of a process's network sockets, again and again."""

    def __init__(self):
        self.ports = set()
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = None

    def start(self, pid):
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def stop_after(self, seconds):
        self._stop.wait(seconds)
        self._stop.set()
        self._thread.join()

    def _watch(self, pid):
        while not self._stop.wait(INTERVAL_SECONDS):
            self.ports |= local_ports(pid)
            self.rounds += 1


def local_ports(pid):
    """`(protocol, local port)` of each network socket that the process has open."""
    process = pathlib.Path("/proc") / str(pid)
    inodes = set()
    for descriptor in (process / "fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in (process / "net" / protocol).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[9] in inodes:
                found.add((protocol.rstrip("6"), int(columns[1].rpartition(":")[2], 16)))
    return found


def test_only_the_servers_own_ports(tmp_path):
    watch = SocketWatch()
    base_path = PROJECT / "models" / "half_plus_two"
    server = ModelServer(
        ["--model_name=half_plus_two", f"--model_base_path={base_path}"],
        ["half_plus_two"],
        tmp_path / "server.log",
        on_start=watch.start,
    )
    try:
        assert server.predict_rest("half_plus_two", '{"instances":[2.0]}')[0] == 200
        watch.stop_after(WATCH_SECONDS)
    finally:
        server.stop()

    assert watch.rounds > 10
    assert watch.ports == {("tcp", server.grpc_port), ("tcp", server.rest_port)}


def test_the_watch_sees_a_socket_of_another_port():
    """So that the test above cannot pass by looking in the wrong place."""
    (port,) = free_ports(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.bind(("127.0.0.1", port))
        assert ("udp", port) in local_ports(os.getpid())


LIBRARY_THAT_TELLS = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void tell(void) {
    const char *value = getenv("ORT_DISABLE_TELEMETRY");
    fprintf(stderr, "telemetry disabled: %s\\n", value ? value : "no");
}
"""


@pytest.mark.parametrize("given, seen", [(None, "1"), ("0", "0")])
def test_the_library_is_told_before_it_is_loaded(tmp_path, given, seen):
    """The variable that ONNX Runtime looks at, as a library in its place finds it."""
    library = tmp_path / "libonnxruntime.so"
    compile = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(compile, input=LIBRARY_THAT_TELLS, text=True, check=True)
    environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    if given:
        environment["ORT_DISABLE_TELEMETRY"] = given
    command = [BINARY, "--version", f"--onnxruntime_library={library}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.stderr.splitlines() == [f"telemetry disabled: {seen}"]
