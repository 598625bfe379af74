import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from maskport.serving.client import SignatureInfo
from maskport.serving.client.transport.calls import MetadataCall, PredictCall, ReloadCall, StatusCall, Target
from maskport.serving.client.transport.grpc_codec import encode
from maskport.serving.wire import messages
from random_messages import random_message

# Both in one process: the official messages are loaded beside ours.
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2,
    prediction_log_pb2,
    prediction_service_pb2,
)

ROOT = Path(__file__).parents[3]
_OFFICIAL_PACKAGES = ("tensorflow.serving", "tensorflow", "google.protobuf", "tensorflow.error")
_OFFICIAL = descriptor_pool.Default()
_LOADED = (get_model_status_pb2, model_management_pb2, prediction_log_pb2)  # with all that they import


def _all_messages(descriptors: Any) -> list[Descriptor]:
    found = []
    for descriptor in descriptors:
        if not descriptor.GetOptions().map_entry:
            found += [descriptor, *_all_messages(descriptor.nested_types)]
    return found


OURS = _all_messages(messages.DESCRIPTOR.message_types_by_name.values())


def _twin_name(full_name: str) -> str:
    name = full_name.removeprefix("maskport.wire.")
    for package in _OFFICIAL_PACKAGES:
        for find in (_OFFICIAL.FindMessageTypeByName, _OFFICIAL.FindEnumTypeByName):
            try:
                return find(f"{package}.{name}").full_name
            except KeyError:
                continue
    raise LookupError(f"no official twin of {full_name}")


def _twin(descriptor: Descriptor) -> type[Message]:
    official = _OFFICIAL.FindMessageTypeByName(_twin_name(descriptor.full_name))
    return message_factory.GetMessageClass(official)


def _plain(message: Message) -> dict[str, Any]:
    """A message's set fields by name, whatever its class: to compare the two families."""

    def plain(value: Any) -> Any:
        return _plain(value) if isinstance(value, Message) else value

    result: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            result[field.name] = {key: plain(value[key]) for key in value}
        elif field.is_repeated:
            result[field.name] = [plain(element) for element in value]
        else:
            result[field.name] = plain(value)
    return result


@pytest.mark.parametrize("descriptor", OURS, ids=lambda descriptor: descriptor.name)
def test_our_messages_mean_the_same_to_the_official_ones(descriptor):
    ours, official = message_factory.GetMessageClass(descriptor), _twin(descriptor)
    rng = random.Random(descriptor.full_name)
    for _ in range(60):
        sent = random_message(ours, rng)
        received = official.FromString(sent.SerializeToString())
        assert _plain(received) == _plain(sent)
        assert ours.FromString(received.SerializeToString()) == sent


@pytest.mark.parametrize("descriptor", OURS, ids=lambda descriptor: descriptor.name)
def test_official_messages_pass_through_ours_without_loss(descriptor):
    ours, official = message_factory.GetMessageClass(descriptor), _twin(descriptor)
    rng = random.Random(descriptor.full_name)
    for _ in range(60):
        sent = random_message(official, rng)
        passed = ours.FromString(sent.SerializeToString())
        assert official.FromString(passed.SerializeToString()) == sent


@pytest.mark.parametrize("descriptor", OURS, ids=lambda descriptor: descriptor.name)
def test_fields_are_declared_as_the_official_ones_are(descriptor):
    official = _twin(descriptor).DESCRIPTOR

    def declaration(field: FieldDescriptor) -> tuple[object, ...]:
        kind = field.message_type or field.enum_type
        name = None
        if kind is not None and not (field.message_type and field.message_type.GetOptions().map_entry):
            ours = kind.full_name.startswith("maskport.wire.")
            name = _twin_name(kind.full_name) if ours else kind.full_name
        oneof = field.containing_oneof.name if field.containing_oneof else None
        return field.number, field.type, field.is_repeated, field.is_packed, oneof, name

    for field in descriptor.fields:
        assert declaration(field) == declaration(official.fields_by_name[field.name]), field.full_name


@pytest.mark.parametrize(
    "enum",
    [
        *messages.DESCRIPTOR.enum_types_by_name.values(),
        *(enum for descriptor in OURS for enum in descriptor.enum_types),
    ],
    ids=lambda enum: enum.name,
)
def test_enum_values_are_the_official_ones(enum):
    official = _OFFICIAL.FindEnumTypeByName(_twin_name(enum.full_name))
    left_out = {"DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_"}
    assert {value.name: value.number for value in enum.values} == {
        value.name: value.number
        for value in official.values
        if not value.name.endswith("_REF") and value.name not in left_out
    }


@pytest.mark.parametrize(
    ("call", "service", "name"),
    [
        (PredictCall(Target("m"), SignatureInfo("s", {}, {}), {}), prediction_service_pb2, "PredictionService.Predict"),
        (MetadataCall(Target("m", version=3)), prediction_service_pb2, "PredictionService.GetModelMetadata"),
        (StatusCall(Target("m", label="x")), model_service_pb2, "ModelService.GetModelStatus"),
        (ReloadCall(messages.ModelServerConfig()), model_service_pb2, "ModelService.HandleReloadConfigRequest"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_calls_go_to_the_official_services(call, service, name):
    service_name, method_name = name.split(".")
    official = service.DESCRIPTOR.services_by_name[service_name].methods_by_name[method_name]
    path, request = encode(call)
    assert path == f"/{official.containing_service.full_name}/{official.name}"
    parsed = message_factory.GetMessageClass(official.input_type).FromString(request)
    if not isinstance(call, ReloadCall):
        assert parsed.model_spec.name == "m"


def test_our_messages_leave_the_default_pool_alone():
    with pytest.raises(KeyError):
        _OFFICIAL.FindMessageTypeByName("maskport.wire.PredictRequest")


def test_compiled_files_are_current(tmp_path):
    subprocess.run([ROOT / "scripts/compile_protos", tmp_path], check=True)
    for name in ("messages.binpb", "messages.pyi"):
        assert (tmp_path / name).read_bytes() == (ROOT / "serving/wire" / name).read_bytes(), name


def test_every_stub_is_there_at_run_time():
    stubs = (ROOT / "serving/wire/messages.pyi").read_text()
    classes = [line.split()[1].split("(")[0] for line in stubs.splitlines() if line.startswith("class ")]
    assert classes
    assert not [name for name in classes if not hasattr(messages, name)]


def test_wire_loads_without_tensorflow():
    script = (
        "import sys; import maskport.serving.wire.tensors;"
        "print([n for n in sys.modules if n.split('.')[0] in ('tensorflow', 'tensorflow_serving', 'grpc')])"
    )
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]"
