"""Asks a server without pause while a test changes what it serves, and judges the answers.

What may answer is written down by the test as *lives*: from when on a version might serve, had to,
need no longer, and could not any more. An answer is right if its version might have given it at
some moment of the request; a refusal is right if nothing had to serve throughout the request.

The models say their version: y = x + version (`onnx_models.says_its_version`).
"""

import dataclasses
import http.client
import json
import math
import threading
import time

import grpc
import numpy as np

from grpc_calls import TIMEOUT, predict_request, prediction

# How long a loader measures the server's capacity, before it uses half of it.
CALIBRATION_SECONDS = 1.0


@dataclasses.dataclass
class Life:
    """One version's time at one place. Bounds of what only the server knows exactly."""

    version: int
    may_serve: float
    must_serve: float = math.inf
    need_not_serve: float = math.inf
    cannot_serve: float = math.inf

    def might_answer(self, call):
        return self.may_serve <= call.end and call.begin <= self.cannot_serve

    def had_to_answer(self, call):
        return self.must_serve <= call.begin and call.end <= self.need_not_serve


class Place:
    """Something that requests can name: a model, a version label."""

    def __init__(self, name, label=None):
        self.name = name
        self.label = label
        self.lives = []

    def begin(self, version):
        """To be called before the change that makes `version` serve here."""
        self.lives.append(Life(version, time.monotonic()))

    def confirm(self, version):
        """To be called once the server has said that `version` serves here."""
        self._life(version).must_serve = time.monotonic()

    def leave(self, version):
        """To be called before the change that makes `version` go."""
        self._life(version).need_not_serve = time.monotonic()

    def end(self, version):
        """To be called once the server has said that `version` is gone."""
        self._life(version).cannot_serve = time.monotonic()

    def _life(self, version):
        return next(life for life in reversed(self.lives) if life.version == version)


@dataclasses.dataclass
class Call:
    """One request and what came of it: a version, or the text of a refusal."""

    place: Place
    begin: float
    end: float = 0.0
    version: int | None = None
    not_found: bool = False
    failure: str = ""

    def complaint(self):
        """What is wrong with the answer; `None` if nothing is."""
        lives = self.place.lives
        if self.version is None:
            owed = [life.version for life in lives if life.had_to_answer(self)]
            if not self.not_found or owed:
                return f"{self.place.name}: failed though {owed} served: {self.failure}"
            return None
        if not any(it.version == self.version and it.might_answer(self) for it in lives):
            return f"{self.place.name}: answered by {self.version}, which did not serve"
        newer = [it.version for it in lives if it.version > self.version and it.had_to_answer(self)]
        if newer:
            return f"{self.place.name}: answered by {self.version} though {newer} served"
        return None


class Load:
    """Requests from a few clients at half the rate at which they could send them."""

    def __init__(self, server, places, grpc_clients=2, rest_clients=2):
        self.calls = []
        self._places = places
        self._is_over = threading.Event()
        clients = [GrpcClient(server) for _ in range(grpc_clients)]
        clients += [RestClient(server) for _ in range(rest_clients)]
        self._threads = [threading.Thread(target=self._run, args=[it]) for it in clients]
        self._calibrated = threading.Barrier(len(clients) + 1)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self._calibrated.wait(TIMEOUT)
        self._steady_from = len(self.calls)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def complaints(self):
        return [complaint for call in self.calls if (complaint := call.complaint())]

    def quantile_ms(self, share):
        """Of the time that the requests since the calibration took."""
        times = sorted(call.end - call.begin for call in self.calls[self._steady_from :])
        return times[int(share * (len(times) - 1))] * 1e3

    def _run(self, client):
        begin = time.monotonic()
        count = 0
        while time.monotonic() < begin + CALIBRATION_SECONDS:
            self._call(client, count)
            count += 1
        self._calibrated.wait(TIMEOUT)
        interval = 2 * CALIBRATION_SECONDS / count
        next_call = time.monotonic()
        while not self._is_over.is_set():
            self._call(client, count)
            count += 1
            next_call = max(next_call + interval, time.monotonic() - interval)
            self._is_over.wait(max(0, next_call - time.monotonic()))

    def _call(self, client, count):
        call = Call(self._places[count % len(self._places)], time.monotonic())
        try:
            client.ask(call)
        except Exception as error:  # Any error means that the request failed.
            call.failure = repr(error)
        call.end = time.monotonic()
        self.calls.append(call)


def open_channel(server, credentials=None):
    """A channel, over TLS with `credentials`, that shares its connection with no other."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials:
        return grpc.secure_channel(server.grpc_address, credentials, options)
    return grpc.insecure_channel(server.grpc_address, options)


class GrpcClient:
    """A client on one channel."""

    def __init__(self, server, credentials=None):
        self.stub = prediction(open_channel(server, credentials))

    def ask(self, call):
        request = predict_request(call.place.name, x=np.float32([0]))
        if call.place.label:
            request.model_spec.version_label = call.place.label
        try:
            response = self.stub.Predict(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            call.not_found = error.code() == grpc.StatusCode.NOT_FOUND
            call.failure = f"{error.code()}: {error.details()}"
            return
        version = response.model_spec.version.value
        said = list(response.outputs["y"].float_val)
        if said == [version]:
            call.version = version
        else:
            call.failure = f"version {version} answered {said}"


class RestClient:
    """A client on one connection, which has to stay open."""

    def __init__(self, server):
        self.headers = server.headers
        self.connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=TIMEOUT)
        self.connection.connect()
        # If the server closes the connection, that is an error and does not lead to a new connection.
        self.connection.auto_open = 0

    def ask(self, call):
        label = f"/labels/{call.place.label}" if call.place.label else ""
        path = f"/v1/models/{call.place.name}{label}:predict"
        self.connection.request("POST", path, '{"instances": [0]}', self.headers)
        reply = self.connection.getresponse()
        body = reply.read()
        call.not_found = reply.status == 404
        if reply.status == 200:
            call.version = int(json.loads(body)["predictions"][0])
        else:
            call.failure = f"{reply.status}: {body.decode()}"
