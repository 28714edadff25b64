"""A client that behaves, while others do not: it must be answered all the time.

It is a process of its own, so that it measures the server and not the Python of a test:
`good_client.py PORT` calls until its input ends, then prints what it has seen.
"""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time

from model_server import peak_memory_mib

# How long the client calls before the block begins, for comparison.
QUIET_SECONDS = 1
ANSWER = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
BODY = '{"instances": [1.0, 2.0, 5.0]}'
PAUSE_SECONDS = 0.005


def call(port, stopped):
    """Calls `half_plus_two` on one connection; says how long each call took, in seconds: those of the
    quiet beginning and the others."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    quiet, seconds, is_last = [], [], False
    begin = time.monotonic()
    while not is_last:
        # One more after the end, because the server must have survived.
        is_last = stopped.wait(PAUSE_SECONDS)
        started = time.monotonic()
        connection.request("POST", "/v1/models/half_plus_two:predict", BODY)
        reply = connection.getresponse()
        answer = (reply.status, reply.read())
        assert answer == (200, ANSWER), answer
        seconds.append(time.monotonic() - started)
        if not quiet and time.monotonic() > begin + QUIET_SECONDS:
            quiet, seconds = seconds, []
            print("answered", flush=True)
    return quiet, seconds


@contextlib.contextmanager
def serves_meanwhile(server, what, max_mib):
    """Whatever the block does, a good client is answered, and memory stays below a bound."""
    client = subprocess.Popen(
        [sys.executable, __file__, str(server.rest_port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout.readline() == "answered\n"
        yield
        output, _ = client.communicate(timeout=60)
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, "a good request was not answered"
    quiet, seconds = (sorted(part) for part in json.loads(output))
    peak = peak_memory_mib(server.process.pid)
    print(
        f"{what}: {len(seconds)} good requests, p50 {quantile_ms(seconds, 0.5):.1f} ms, "
        f"p99 {quantile_ms(seconds, 0.99):.1f} ms (quiet: {quantile_ms(quiet, 0.99):.1f} ms), "
        f"longest {seconds[-1] * 1e3:.1f} ms; peak {peak:.0f} MiB"
    )
    assert peak < max_mib


def quantile_ms(ordered, share):
    return ordered[int((len(ordered) - 1) * share)] * 1e3


def main():
    stopped = threading.Event()

    def wait_for_the_end():
        sys.stdin.read()
        stopped.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    print(json.dumps(call(int(sys.argv[1]), stopped)))


if __name__ == "__main__":
    main()
