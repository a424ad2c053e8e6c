"""The message definitions against a table of the protocol, and the generated module against the definitions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

import leyden.satellite
from leyden.satellite import satellite_pb2 as pb

SOURCE = Path(leyden.satellite.__file__).parent
TABLE = Path(__file__).parents[2] / "fixtures" / "satellite-messages.txt"
PACKAGE = "Electric.Satellite"

SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_INT32: "int32",
}


def expected() -> list[list[str]]:
    lines = TABLE.read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def messages(descriptors: list[Descriptor]) -> Iterator[Descriptor]:
    for descriptor in descriptors:
        yield descriptor
        yield from messages(list(descriptor.nested_types))


def all_messages() -> list[Descriptor]:
    return list(messages(list(pb.DESCRIPTOR.message_types_by_name.values())))


def short(descriptor: Descriptor | EnumDescriptor) -> str:
    return descriptor.full_name.removeprefix(PACKAGE + ".")


def field_type(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return short(field.message_type)
    if field.enum_type is not None:
        return short(field.enum_type)
    return SCALARS[field.type]


def label(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "rep"
    if field.containing_oneof is None:
        return "-"
    # proto3 keeps an `optional` field in a oneof of its own, named after it
    name = field.containing_oneof.name
    return "opt" if name == f"_{field.name}" else f"oneof:{name}"


def test_fields_have_their_documented_numbers_types_and_labels() -> None:
    actual = {
        (short(message), str(field.number), field.name, field_type(field), label(field))
        for message in all_messages()
        for field in message.fields
    }

    assert actual == {tuple(line) for line in expected() if line[0] != "enum"}


def test_enums_have_their_documented_values() -> None:
    enums = [
        *pb.DESCRIPTOR.enum_types_by_name.values(),
        *(enum for message in all_messages() for enum in message.enum_types),
    ]
    actual = {short(enum): {f"{value.name}={value.number}" for value in enum.values} for enum in enums}

    assert actual == {line[1]: set(line[2:]) for line in expected() if line[0] == "enum"}


def test_the_package_is_the_name_that_clients_check() -> None:
    assert pb.DESCRIPTOR.package == PACKAGE


def test_the_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    binaries = Path(sys.executable).parent  # where protoc finds the mypy plugin
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I", str(SOURCE)),
            *(f"--python_out={tmp_path}", f"--mypy_out={tmp_path}", "satellite.proto"),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"},
    )

    for name in ("satellite_pb2.py", "satellite_pb2.pyi"):
        assert (tmp_path / name).read_bytes() == (SOURCE / name).read_bytes(), f"{name} is stale: run `make proto`"
