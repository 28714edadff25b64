"""Runs containers of an image for the tests, with buildah alone: no daemon, no registry.

A container is a `buildah run` with chroot isolation, in a process namespace of its own, so that its
`/proc` shows what a container's shows. It uses the machine's network: ports have to be free ones.

Not here: building the images (`tools/build_image.sh`, `make_bases.sh`), the requests (the tests).
"""

import http.client
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import time

START_SECONDS = 60
STOP_SECONDS = 60
CALL_SECONDS = 30

ENTRYPOINT = "/usr/bin/tf_serving_entrypoint.sh"


def buildah(*arguments):
    """What a buildah command prints; its errors end the test."""
    command = ["buildah", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"
    return ended.stdout.strip()


class Container:
    """One running container of an image."""

    def __init__(
        self,
        image,
        log_path,
        arguments=(),
        environment=None,
        volumes=None,
        user="0:0",
        read_only=False,
    ):
        """Starts the image's entry point with `arguments`.

        `volumes` are folders by where they appear, read-only. With `read_only` the root file system
        is, too.
        """
        self.log_path = log_path
        self.user = user
        self.environment = [f"{name}={value}" for name, value in (environment or {}).items()]
        self.volumes = volumes or {}
        self.name = buildah("from", image)
        start = self._on_read_only_root if read_only else self._by_buildah
        namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*namespaces, *start([ENTRYPOINT, *arguments])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _by_buildah(self, command):
        options = ["--isolation", "chroot", "--cap-drop", "all", "--user", self.user]
        for variable in self.environment:
            options += ["--env", variable]
        for target, source in self.volumes.items():
            options += ["--volume", f"{source}:{target}:ro"]
        return ["buildah", "run", *options, self.name, "--", *command]

    def _on_read_only_root(self, command):
        """A bind of the image's files that cannot be written to, with `/proc` and the volumes."""
        listed = "{{range .OCIv1.Config.Env}}{{println .}}{{end}}"
        environment = buildah("inspect", "--format", listed, self.name).split()
        root = pathlib.Path(buildah("mount", self.name))
        script = ['mount --bind "$root" "$root"', 'mount -t proc proc "$root/proc"']
        for target, source in self.volumes.items():
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
            script.append(f'mount --bind "{source}" "$root{target}"')
            script.append(f'mount -o remount,ro,bind "$root{target}"')
        script.append('mount -o remount,ro,bind "$root"')
        variables = " ".join(map(shlex.quote, environment + self.environment))
        script.append(f'exec chroot --userspec={self.user} "$root" /usr/bin/env -i {variables} "$@"')
        text = f"root={shlex.quote(str(root))}\n" + "\n".join(script)
        return ["sh", "-ec", text, "sh", *command]

    def server_id(self):
        """The id of the server's process, once it is there."""
        return wait_for(self._find_server, f"{self.name}: no server", self)

    def _find_server(self):
        left = [self.process.pid]
        while left:
            process = left.pop()
            if command_line(process)[:1] == ["tensorflow_model_server"]:
                return process
            left += children(process)
        return None

    def wait_until_available(self, rest_port, model):
        def is_available():
            status, body = rest(rest_port, "GET", f"/v1/models/{model}")
            return status == 200 and b'"AVAILABLE"' in body

        wait_for(is_available, f"{model} is not available", self)

    def execute(self, *command):
        """Runs a command beside the server, as an engine's `exec` does."""
        process = str(self.server_id())
        inside = ["nsenter", "--target", process, "--pid", "--mount", "--root", "--", *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=CALL_SECONDS)

    def terminate(self):
        """Sends SIGTERM to the server and returns the container's exit status."""
        os.kill(self.server_id(), signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def remove(self):
        if self.process.poll() is None:
            # The namespace and everything in it end with its first process.
            self.process.kill()
            self.process.wait()
        buildah("umount", self.name)
        buildah("rm", self.name)


def rest(port, method, path, body=None):
    """One REST call: the status and the body; status 0 if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_SECONDS)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply.status, reply.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def wait_for(condition, failure, container):
    """Waits until `condition` gives something true, and returns that."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = condition()
        if found:
            return found
        running = container.process.poll() is None and time.monotonic() < deadline
        assert running, f"{failure}; the log:\n{container.log()}"
        time.sleep(0.05)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def command_line(process):
    try:
        content = pathlib.Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return []
    return content.decode(errors="replace").split("\0")


def children(process):
    found = []
    for file in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        try:
            found += [int(child) for child in file.read_text().split()]
        except OSError:
            continue
    return found
