"""Our `.proto` files against the descriptors inside the real TensorFlow packages.

Every message, field, number, type, enum value and service of ours has to be the original's, and
none of the original's may be missing.
"""

import importlib
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2

from model_server import PROJECT

PROTO = PROJECT / "proto"

# Our files for which the Python packages have no module.
NOT_IN_THE_PACKAGES = [
    "tensorflow/core/profiler/profiler_service.proto",
    "tensorflow_serving/apis/internal/serialized_input.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/ssl_config.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
]


@pytest.fixture(scope="module")
def our_files(tmp_path_factory):
    """The descriptors of our files, by path."""
    descriptors = tmp_path_factory.mktemp("descriptors") / "ours.bin"
    files = [
        str(path.relative_to(PROTO))
        for top in ("tensorflow", "tensorflow_serving", "xla")
        for path in (PROTO / top).rglob("*.proto")
    ]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"]
    command += [f"--descriptor_set_out={descriptors}", *files]
    subprocess.run(command, check=True, timeout=120)
    found = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    return {file.name: file for file in found.file}


def test_definitions_equal_the_originals(our_files):
    differences, missing = {}, []
    for path, ours in our_files.items():
        original = original_file(path)
        if original is None:
            missing.append(path)
            continue
        ours, original = definitions(ours), definitions(original)
        for name in ours.keys() | original.keys():
            if ours.get(name) != original.get(name):
                differences[name] = (ours.get(name), original.get(name))

    assert sorted(missing) == NOT_IN_THE_PACKAGES
    assert not differences, "\n".join(
        f"{name}: ours {ours}, the original's {original}"
        for name, (ours, original) in sorted(differences.items())
    )


def original_file(path):
    """The descriptor of the file of that path in the real packages, or None."""
    name = path.removesuffix(".proto").replace("/", ".") + "_pb2"
    if name.startswith("xla."):
        name = f"tensorflow.compiler.{name}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    return descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def definitions(file):
    """Each definition of a file by its full name, in a form that can be compared."""
    found = {f"{file.name} syntax": file.syntax or "proto2"}
    for message in file.message_type:
        found |= message_definitions(file.package, message)
    for enum in file.enum_type:
        found |= enum_definitions(file.package, enum)
    for service in file.service:
        for method in service.method:
            found[f"{file.package}.{service.name}.{method.name}"] = (
                method.input_type,
                method.output_type,
                method.client_streaming,
                method.server_streaming,
            )
    return found


def message_definitions(scope, message):
    full_name = f"{scope}.{message.name}"
    found = {full_name: "message"}
    for field in message.field:
        oneof = (
            message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        )
        found[f"{full_name}.{field.name}"] = (
            field.number,
            descriptor_pb2.FieldDescriptorProto.Type.Name(field.type),
            descriptor_pb2.FieldDescriptorProto.Label.Name(field.label),
            field.type_name,
            oneof,
            is_packed(field),
            field.default_value,
        )
    for nested in message.nested_type:
        found |= message_definitions(full_name, nested)
    for enum in message.enum_type:
        found |= enum_definitions(full_name, enum)
    return found


def enum_definitions(scope, enum):
    full_name = f"{scope}.{enum.name}"
    return {full_name: "enum"} | {
        f"{full_name}.{value.name}": value.number for value in enum.value
    }


def is_packed(field):
    """Whether the file says so; None where it leaves that to the syntax."""
    return field.options.packed if field.options.HasField("packed") else None
