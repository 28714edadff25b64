"""What a bad network does to connections: `network_faults.py`, as root.

To be run in a network namespace of its own (`unshare --net`), whose loopback interface this script
spoils; `test_network_faults.py` does so.
"""

import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import tempfile
import time

import numpy as np

from grpc_calls import ENDLESS, LOAD_TIMEOUT, TIMEOUT, cpu_seconds, model_flags
from grpc_calls import predict_request, prediction, slow_request
from model_server import ModelServer
from onnx_models import publish, says_its_version
from process_usage import Usage, requests_in_flight
from steady_load import open_channel

REQUESTS = 80
LOSS = 0.05
CONNECTIONS = 20


def packet_loss(folder):
    """Every twentieth packet is lost: all requests are answered, though later."""
    publish(folder / "steady", 1, says_its_version(1))
    flags = ["--model_name=steady", f"--model_base_path={folder / 'steady'}"]
    with running(flags, "steady", folder) as server:
        firewall("-A", "-m", "statistic", "--mode", "random", "--probability", LOSS)
        begin = time.monotonic()
        channel = open_channel(server)
        stub = prediction(channel)
        kept = server.rest_connection()
        for number in range(REQUESTS):
            request = predict_request("steady", x=np.float32([number]))
            response = stub.Predict(request, timeout=TIMEOUT)
            assert list(response.outputs["y"].float_val) == [number + 1]
            kept.request("POST", "/v1/models/steady:predict", f'{{"instances": [{number}]}}')
            reply = kept.getresponse()
            assert json.loads(reply.read()) == {"predictions": [number + 1]}
            if number % 10 == 0:
                # New connections lose packets, too, and large requests have many packets.
                x = np.arange(20_000)
                body = json.dumps({"instances": x.tolist()})
                status, reply = server.predict_rest("steady", body)
                assert status == 200
                assert np.array_equal(json.loads(reply)["predictions"], x + 1)
        seconds = time.monotonic() - begin
        print(f"{dropped()} packets lost, {2 * REQUESTS} requests in {seconds:.1f} s")
        assert dropped() > 0


def half_open(folder):
    """Clients vanish without a word: what the server held for them, it lets go of."""
    flags = [
        *model_flags("slow"),
        "--rest_api_idle_timeout_seconds=5",
        "--stall_timeout_seconds=5",
        "--grpc_channel_arguments=grpc.keepalive_time_ms=500,grpc.keepalive_timeout_ms=500",
    ]
    with running(flags, "slow", folder) as server, contextlib.ExitStack() as held:
        before = Usage(server.process.pid)
        for _ in range(CONNECTIONS):
            address = ("127.0.0.1", server.rest_port)
            silent, idle, halfway = (
                held.enter_context(socket.create_connection(address, TIMEOUT)) for _ in range(3)
            )
            idle.sendall(b"GET /v1/models/slow HTTP/1.1\r\nHost: here\r\n\r\n")
            reply = http.client.HTTPResponse(idle)
            reply.begin()
            assert reply.status == 200
            halfway.sendall(b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: here\r\n")
        channel = open_channel(server)
        calls = [prediction(channel).Predict.future(slow_request(ENDLESS)) for _ in range(3)]
        wait_until(lambda: requests_in_flight(server) == len(calls))
        print(f"with {3 * CONNECTIONS + 1} connections: {Usage(server.process.pid)}")

        for port in (server.rest_port, server.grpc_port):
            firewall("-A", "-p", "tcp", "--dport", port)
            firewall("-A", "-p", "tcp", "--sport", port)

        wait_until(lambda: Usage(server.process.pid).descriptors <= before.descriptors)
        wait_until(lambda: is_idle(server.process.pid))
        print(f"before: {before}; after they vanished: {Usage(server.process.pid)}")
        firewall("-F")
        # Clients that come back are served.
        with open_channel(server) as again:
            response = prediction(again).Predict(slow_request(10), timeout=TIMEOUT)
            assert list(response.outputs["y"].int64_val) == [10]
        channel.close()


@contextlib.contextmanager
def running(flags, model, folder):
    server = ModelServer(flags, [model], folder / "server.log")
    try:
        yield server
        assert server.is_running(), server.log()
    except BaseException:
        print(server.log())
        raise
    finally:
        firewall("-F")
        server.stop()


def firewall(change, *rule):
    """Drops what matches."""
    drop = [] if change == "-F" else ["-j", "DROP"]
    command = ["iptables", "-w", change, "INPUT", *map(str, rule), *drop]
    subprocess.run(command, check=True, timeout=TIMEOUT)


def dropped():
    """How many packets the first rule has dropped."""
    command = ["iptables", "-w", "-L", "INPUT", "1", "-v", "-x", "-n"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return int(done.stdout.split()[0])


def is_idle(pid):
    before = cpu_seconds(pid)
    time.sleep(0.3)
    return cpu_seconds(pid) - before <= 0.05


def wait_until(condition):
    deadline = time.monotonic() + LOAD_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


if __name__ == "__main__":
    for scenario in (packet_loss, half_open):
        print(f"{scenario.__name__}:", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            scenario(pathlib.Path(scratch))
