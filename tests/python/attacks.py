"""Bad luck and bad manners, as clients of a `Crowd`: the log's reader stops, a mount hangs, versions are
broken, clients send what must be refused.

`test_bystander` runs each of them beside a good client, `test_soak` has some in its mix. Not here:
clients that take whatever they get (`test_greedy_clients`).
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time

import onnx_models
from crowd import Client

MOUNT_SECONDS = 10


class LogReader:
    """Reads what a server logs through a pipe into a file, and stops reading when it is told to.

    `write_end` is for the server's output.
    """

    def __init__(self, path):
        self._read_end, self.write_end = os.pipe()
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._copy, args=[path], daemon=True)
        self._thread.start()

    def _copy(self, path):
        with open(path, "wb", buffering=0) as file:
            while True:
                self._reads.wait()
                content = os.read(self._read_end, 1 << 16)
                if not content:
                    return
                file.write(content)

    def close(self):
        """To be called once the server has its end of the pipe, so that reading ends with it."""
        os.close(self.write_end)

    @contextlib.contextmanager
    def stopped(self):
        """Nothing is read while the block runs, except what a read under way still returns."""
        self._reads.clear()
        try:
            yield
        finally:
            self._reads.set()


class StoppingLogReader(Client):
    """Reads the log for a while, then does not."""

    pause_seconds = 2

    def __init__(self, reader, stopped_seconds=20):
        super().__init__()
        self.reader = reader
        self.stopped_seconds = stopped_seconds

    def act(self):
        with self.reader.stopped():
            self.is_over.wait(self.stopped_seconds)


class HangingMount(Client):
    """A mount whose file system does not answer for a while, then does.

    bindfs serves `folder` below `mount_point`; being stopped, it answers nothing.
    """

    pause_seconds = 5

    def __init__(self, folder, mount_point, hanging_seconds=10):
        super().__init__()
        self.mount_point = pathlib.Path(mount_point)
        self.hanging_seconds = hanging_seconds
        self.mount_point.mkdir()
        command = ["bindfs", "-f", str(folder), str(mount_point)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(mount_point):
            assert time.monotonic() < deadline, "bindfs does not mount"
            time.sleep(0.05)

    def act(self):
        self._process.send_signal(signal.SIGSTOP)
        try:
            self.is_over.wait(self.hanging_seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def unmount(self):
        subprocess.run(["umount", "--lazy", str(self.mount_point)], check=False)
        self._process.kill()
        self._process.wait()


class BreakingModel(Client):
    """Publishes versions that do not load, each broken in another way, and takes them away."""

    pause_seconds = 1

    def __init__(self, base_path):
        super().__init__()
        self.base_path = pathlib.Path(base_path)
        self.version = 1

    def act(self):
        """Beside the one version that loads and stays."""
        self.version += 1
        good = onnx_models.says_its_version(self.version)
        kind = self.version % 3
        content = [b"not a model", good[: len(good) // 2], good][kind]
        onnx_models.publish(self.base_path, self.version, content)
        if kind == 2:
            folder = self.base_path / str(self.version) / "assets.extra"
            folder.mkdir()
            os.mkfifo(folder / "tf_serving_warmup_requests")
        self.is_over.wait(3)
        onnx_models.withdraw(self.base_path, self.version)


class WrongLogins(Client):
    """Gives a password that is wrong, and is refused."""

    pause_seconds = 0.05

    def __init__(self, server):
        super().__init__()
        self.server = server

    def act(self):
        # "alice:wrong", in the form of `Authorization: Basic`.
        headers = {"authorization": "Basic YWxpY2U6d3Jvbmc="}
        status, _, body = self.server.rest("GET", "/v1/models/steady", headers=headers)
        assert status in (401, 429), (status, body)


class WrongRanks(Client):
    """Sends inputs of ranks that the model's author excluded, and is refused."""

    pause_seconds = 0.01

    def __init__(self, server, model):
        super().__init__()
        self.server = server
        self.model = model

    def act(self):
        status, body = self.server.predict_rest(self.model, b'{"inputs": [1.0, 2.0]}')
        assert status == 400, (status, body)


class UnreadBodies(Client):
    """Sends bodies of megabytes to paths that do not exist."""

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.body = b"x" * (20 << 20)

    def act(self):
        path = "/v1/models/half_plus_two/predict"
        status, _, body = self.server.rest("POST", path, self.body)
        assert status == 400, (status, body)
