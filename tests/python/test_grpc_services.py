"""What answers beside TensorFlow Serving's own RPCs: health, reflection, the profiler; and what
does not.
"""

import queue
import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    session_service_pb2,
)

from grpc_calls import GOLDEN, TIMEOUT, golden_flags, refused

BEGINNING = ("half_plus_two", "half_plus_three", "vers")
Status = health_pb2.HealthCheckResponse
OWN_SERVICES = {
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "tensorflow.ProfilerService",
}
REFLECTION = "/grpc.reflection.{}.ServerReflection/ServerReflectionInfo"


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory):
    flags = golden_flags(tmp_path_factory.mktemp("services"), "reload")
    return start_server([*flags, "--enable_grpc_healthcheck_service"], BEGINNING)


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def plain_channel(start_server, tmp_path_factory):
    """To a server without the health service and without the profiler."""
    flags = golden_flags(tmp_path_factory.mktemp("plain"), "reload")
    server = start_server([*flags, "--enable_profiler=false"], BEGINNING)
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel


# Health.


def check(channel, service):
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT).status


@pytest.mark.parametrize(
    "service",
    [
        # TensorFlow Serving's names.
        "",
        "ModelService",
        "PredictionService",
        # Our own: a model, a version of it.
        "half_plus_two",
        "half_plus_two/123",
        "vers/2",
    ],
)
def test_health_of_known_names(channel, service):
    assert check(channel, service) == Status.SERVING


@pytest.mark.parametrize(
    "service",
    [
        "nope",
        "half_plus_two/1",
        "half_plus_two/",
        "half_plus_two/x",
        # TensorFlow Serving has only short names.
        "tensorflow.serving.PredictionService",
    ],
)
def test_health_of_unknown_names(channel, service):
    with refused(grpc.StatusCode.NOT_FOUND):
        check(channel, service)


def test_health_is_off_by_default(plain_channel):
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        check(plain_channel, "")


class Watch:
    """Collects what a watcher of one name hears."""

    def __init__(self, channel, service):
        request = health_pb2.HealthCheckRequest(service=service)
        self.call = health_pb2_grpc.HealthStub(channel).Watch(request)
        self.heard = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self):
        return self.heard.get(timeout=TIMEOUT)

    def _listen(self):
        try:
            for response in self.call:
                self.heard.put(response.status)
        except grpc.RpcError as error:
            self.heard.put(error.code())


def test_watchers_hear_of_models_that_come_and_go(start_server, tmp_path):
    server = start_server(
        [*golden_flags(tmp_path, "reload"), "--enable_grpc_healthcheck_service"], BEGINNING
    )
    with grpc.insecure_channel(server.grpc_address) as channel:
        going, coming, overall = (Watch(channel, name) for name in ("vers", "mlp", ""))
        assert going.next() == Status.SERVING
        # By the protocol this is not an error, because the service can appear later.
        assert coming.next() == Status.SERVICE_UNKNOWN
        assert overall.next() == Status.SERVING

        reload_to(channel, "half_plus_two", "mlp")

        assert going.next() == Status.NOT_SERVING
        heard = coming.next()
        if heard == Status.NOT_SERVING:  # While it loads.
            heard = coming.next()
        assert heard == Status.SERVING
        assert check(channel, "vers") == Status.NOT_SERVING
        assert overall.heard.empty()
        for watch in (going, coming, overall):
            watch.call.cancel()
            assert watch.next() == grpc.StatusCode.CANCELLED


def reload_to(channel, *names):
    request = model_management_pb2.ReloadConfigRequest()
    configs = "".join(
        f"config {{ name: '{name}' base_path: '{GOLDEN / 'models' / name}' "
        "model_platform: 'tensorflow' }"
        for name in names
    )
    text_format.Parse(f"model_config_list {{ {configs} }}", request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    stub.HandleReloadConfigRequest(request, timeout=TIMEOUT)


# Reflection.


def reflect(channel, version, *requests):
    """The answers of one reflection stream. The messages of both versions are the same."""
    call = channel.stream_stream(
        REFLECTION.format(version),
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(requests), timeout=TIMEOUT))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(channel, plain_channel, version):
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    def listed(channel):
        (response,) = reflect(channel, version, request)
        names = {it.name for it in response.list_services_response.service}
        return {name for name in names if not name.startswith("grpc.reflection.")}

    assert listed(channel) == OWN_SERVICES | {"grpc.health.v1.Health"}
    assert listed(plain_channel) == OWN_SERVICES - {"tensorflow.ProfilerService"}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_messages(channel, version):
    by_symbol, by_name = reflect(
        channel,
        version,
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="tensorflow.serving.PredictRequest"
        ),
        reflection_pb2.ServerReflectionRequest(
            file_by_filename="tensorflow_serving/apis/predict.proto"
        ),
    )

    (content,) = by_name.file_descriptor_response.file_descriptor_proto
    file = descriptor_pb2.FileDescriptorProto.FromString(content)
    assert file.package == "tensorflow.serving"
    assert "PredictRequest" in [it.name for it in file.message_type]
    assert content in by_symbol.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_of_an_unknown_symbol_ends_the_stream(channel, version):
    """gRPC's own library says so in an `error_response`, and the stream goes on."""
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol")
    with refused(grpc.StatusCode.NOT_FOUND):
        reflect(channel, version, request)


def test_calls_can_be_made_from_reflection_alone(channel):
    """What grpcurl does: every method of every service resolves, down to its messages."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    methods = {
        name: sorted(method.name for method in pool.FindServiceByName(name).methods)
        for name in database.get_services()
        if name in OWN_SERVICES
    }
    assert methods == {
        "tensorflow.serving.PredictionService": [
            "Classify",
            "GetModelMetadata",
            "MultiInference",
            "Predict",
            "Regress",
        ],
        "tensorflow.serving.ModelService": ["GetModelStatus", "HandleReloadConfigRequest"],
        "tensorflow.ProfilerService": ["Monitor", "Profile", "Terminate"],
    }
    tensor = pool.FindMessageTypeByName("tensorflow.TensorProto")
    assert tensor.fields_by_name["dtype"].enum_type.values_by_name["DT_BFLOAT16"].number == 14


# Methods that are not supported.


@pytest.mark.parametrize("method", ["Profile", "Terminate", "Monitor"])
def test_profiler_is_unimplemented(channel, plain_channel, method):
    for each in (channel, plain_channel):
        with refused(grpc.StatusCode.UNIMPLEMENTED):
            each.unary_unary(f"/tensorflow.ProfilerService/{method}")(b"", timeout=TIMEOUT)


def test_session_run_is_unimplemented(channel):
    """The client's package has its messages, the original never served it."""
    run = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    request = session_service_pb2.SessionRunRequest(fetch=["y:0"])
    request.model_spec.name = "half_plus_two"
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        run(request.SerializeToString(), timeout=TIMEOUT)


@pytest.mark.parametrize(
    "path",
    [
        "/tensorflow.serving.PredictionService/PredictStreamed",
        "/tensorflow.serving.NoService/Predict",
        "/PredictionService/Predict",
    ],
)
def test_other_paths_are_unimplemented(channel, path):
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        channel.unary_unary(path)(b"", timeout=TIMEOUT)
