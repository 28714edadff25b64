"""A server whose versions, labels and models change while clients ask it.

`Serving` makes the changes, one after another, and writes down for each place (`steady_load.Place`)
from when to when which version may, must and cannot answer.
"""

import time

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

import onnx_models
from grpc_calls import LOAD_TIMEOUT, TIMEOUT
from steady_load import Call, GrpcClient, Place, open_channel

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.END


class Serving:
    """A server of the models `swapped` and `steady` and, at times, `visitor`."""

    def __init__(
        self, start_server, folder, by_file=False, flags=(), others="", credentials=None, **options
    ):
        """`others` are further models in the configuration; with `credentials` gRPC is over TLS.
        `options` are those of `ModelServer`."""
        self.folder = folder
        self.others = others
        self.by_file = by_file
        self.versions = [1]  # Of `swapped`, as configured.
        self.policy = "latest { num_versions: 2 }"
        self.stable = 1
        self.has_visitor = False
        self.changes = 0
        self.latest = Place("swapped")
        self.label = Place("swapped", "stable")
        self.steady = Place("steady")
        self.visitor = Place("visitor")
        for name in ("swapped", "steady", "visitor"):
            onnx_models.publish(folder / name, 1, onnx_models.says_its_version(1))
        self.config_file = folder / "models.config"
        self.write_config()
        # Without polls the file is read once.
        poll = ["--model_config_file_poll_wait_seconds=1"] if by_file else []
        flags = [f"--model_config_file={self.config_file}", *poll, *flags]
        # The first configuration assigns the label before its version is available.
        flags.append("--allow_version_labels_for_unavailable_models")
        for place in (self.latest, self.label, self.steady):
            place.begin(1)
        self.server = start_server(flags, ["swapped", "steady"], **options)
        for place in (self.latest, self.label, self.steady):
            place.confirm(1)
        channel = open_channel(self.server, credentials)
        self.stub = model_service_pb2_grpc.ModelServiceStub(channel)
        self.client = GrpcClient(self.server, credentials)

    def config(self):
        names = ["swapped", "steady"] + ["visitor"] * self.has_visitor
        of_swapped = (
            f"model_version_policy {{ {self.policy} }} "
            f"version_labels {{ key: 'stable' value: {self.stable} }}"
        )
        models = "".join(
            f"config {{ name: '{name}' base_path: '{self.folder / name}' "
            f"model_platform: 'onnx' {of_swapped if name == 'swapped' else ''} }}\n"
            for name in names
        )
        return f"model_config_list {{\n{models}{self.others}}}\n"

    def write_config(self):
        aside = self.config_file.with_suffix(".new")
        aside.write_text(self.config())
        aside.rename(self.config_file)

    def apply(self):
        self.changes += 1
        if self.by_file:
            self.write_config()
            return
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(self.config(), request.config)
        response = self.stub.HandleReloadConfigRequest(request, timeout=LOAD_TIMEOUT)
        assert response.status.error_code == 0, response.status.error_message

    def state(self, model, version):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self.stub.GetModelStatus(request, timeout=TIMEOUT)
        except grpc.RpcError:
            return None
        states = {it.version: it.state for it in response.model_version_status}
        return states.get(version)

    def await_state(self, model, version, state):
        wait_until(lambda: self.state(model, version) == state)

    # Changes. Each returns when the server reports that it is done.

    def add_version(self, version):
        self.policy = "latest { num_versions: 2 }"
        content = onnx_models.says_its_version(version)
        self.latest.begin(version)
        onnx_models.publish(self.folder / "swapped", version, content)
        self.apply()
        self.await_state("swapped", version, AVAILABLE)
        self.latest.confirm(version)

    def relabel(self, version):
        before, self.stable = self.stable, version
        self.label.begin(version)
        self.label.leave(before)
        self.apply()
        wait_until(lambda: self.ask(self.label) == version)
        self.label.end(before)
        self.label.confirm(version)

    def keep_only(self, version, other):
        """Pins `version`; `other` goes, and with it its directory."""
        self.policy = f"specific {{ versions: {version} }}"
        self.latest.leave(other)
        self.apply()
        self.await_state("swapped", other, END)
        self.latest.end(other)
        onnx_models.withdraw(self.folder / "swapped", other)

    def add_visitor(self):
        self.has_visitor = True
        self.visitor.begin(1)
        self.apply()
        self.await_state("visitor", 1, AVAILABLE)
        self.visitor.confirm(1)

    def remove_visitor(self):
        self.has_visitor = False
        self.visitor.leave(1)
        self.apply()
        self.await_state("visitor", 1, END)
        self.visitor.end(1)

    def ask(self, place):
        call = Call(place, time.monotonic())
        self.client.ask(call)
        return call.version

    def round(self, old, new, rolls_back):
        """One version after another, with a model that comes and goes beside it."""
        self.add_version(new)
        self.relabel(new)
        self.add_visitor()
        if rolls_back:
            self.relabel(old)
        stays, goes = (old, new) if rolls_back else (new, old)
        self.keep_only(stays, goes)
        self.remove_visitor()
        return stays


def wait_until(condition):
    deadline = time.monotonic() + LOAD_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
