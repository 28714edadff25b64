"""Clients that act side by side, each on a thread, until a test has seen enough.

Not here: what kinds of clients there are (`soak_clients`).
"""

import contextlib
import threading

# For each client; more would add no information.
MAX_COMPLAINTS = 5
# The longest duration of one act, on a machine that is busy otherwise.
ACT_SECONDS = 300


class Client(threading.Thread):
    """Does something again and again; a subclass says what.

    What must not happen, `act` raises; it must not happen whatever else goes on.
    """

    pause_seconds = 0.1

    def __init__(self):
        super().__init__(name=type(self).__name__, daemon=True)
        self.acts = 0
        self.failures = 0
        self.complaints = []
        # Held while it acts.
        self.acting = threading.Lock()
        self.is_over = threading.Event()

    def act(self):
        raise NotImplementedError

    def run(self):
        while not self.is_over.is_set():
            with self.acting:
                try:
                    self.act()
                except Exception as error:
                    self.complain(repr(error))
                self.acts += 1
            self.is_over.wait(self.pause_seconds)

    def complain(self, text):
        self.failures += 1
        if len(self.complaints) < MAX_COMPLAINTS:
            self.complaints.append(f"{self.name}: {text}")


class Crowd:
    """Clients that act while the block runs."""

    def __init__(self, clients):
        self.clients = clients

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.is_over.set()
        for client in self.clients:
            client.join(ACT_SECONDS)

    @contextlib.contextmanager
    def quiet(self):
        """No client acts while the block runs; none is interrupted in what it does."""
        with contextlib.ExitStack() as stack:
            for client in self.clients:
                assert client.acting.acquire(timeout=ACT_SECONDS), f"{client.name} does not end"
                stack.callback(client.acting.release)
            yield

    def complaints(self):
        return [complaint for client in self.clients for complaint in client.complaints]

    def counts(self):
        """How often each kind of client acted."""
        counts = {}
        for client in self.clients:
            counts[client.name] = counts.get(client.name, 0) + client.acts
        return counts
