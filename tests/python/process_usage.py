"""What a process, or a server, holds at a moment."""

import pathlib


class Usage:
    """Memory, threads and descriptors of a process at this moment."""

    def __init__(self, pid):
        process = pathlib.Path("/proc") / str(pid)
        lines = (process / "status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        self.resident = int(fields["VmRSS"].split()[0]) * 1024
        self.threads = int(fields["Threads"])
        self.descriptors = len(list((process / "fd").iterdir()))

    def __str__(self):
        megabytes = self.resident / 2**20
        return f"{megabytes:.1f} MiB, {self.threads} threads, {self.descriptors} descriptors"


def requests_in_flight(server):
    """How many runs the server says are wanted at this moment."""
    _, _, page = server.rest("GET", "/metrics")
    lines = page.decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("onnx_model_server_requests_in_flight{")
    )
