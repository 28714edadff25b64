"""A client that behaves, while others do not: it must be answered all the time."""

import contextlib
import http.client
import threading
import time

from model_server import peak_memory_mib

ANSWER = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
BODY = '{"instances": [1.0, 2.0, 5.0]}'
PAUSE_SECONDS = 0.005


class GoodClient(threading.Thread):
    """Calls `half_plus_two` again and again on one connection until it is stopped."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.seconds = []
        self.failures = []
        self.stopped = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.stopped.wait(PAUSE_SECONDS):
            started = time.monotonic()
            try:
                connection.request("POST", "/v1/models/half_plus_two:predict", BODY)
                reply = connection.getresponse()
                answer = (reply.status, reply.read())
            except (OSError, http.client.HTTPException) as error:
                answer = error
            if answer != (200, ANSWER):
                self.failures.append(answer)
                return
            self.seconds.append(time.monotonic() - started)

    def percentile(self, share):
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@contextlib.contextmanager
def serves_meanwhile(server, what, max_mib):
    """Whatever the block does, a good client is answered, and memory stays below a bound."""
    client = GoodClient(server.rest_port)
    client.start()
    try:
        yield
    finally:
        client.stopped.set()
        client.join(60)
    peak = peak_memory_mib(server.process.pid)
    print(
        f"{what}: {len(client.seconds)} good requests, p50 {client.percentile(0.5) * 1e3:.1f} ms, "
        f"p99 {client.percentile(0.99) * 1e3:.1f} ms; peak {peak:.0f} MiB"
    )
    assert not client.failures
    assert client.seconds
    assert peak < max_mib
