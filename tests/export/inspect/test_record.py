"""Reading `maskport.json` as what comes from a disk."""

import json

import pytest
from maskport.export.inspect import InspectError
from maskport.export.inspect.record import read_record


@pytest.fixture
def manifest(exported, tmp_path):
    """The file of a real export, to be spoilt."""
    path = tmp_path / "assets.extra/maskport.json"
    path.parent.mkdir()
    path.write_bytes((exported.path / "assets.extra/maskport.json").read_bytes())
    return path


def test_a_record_tells_what_the_export_was_made_with(manifest, tmp_path):
    record = read_record(tmp_path)
    assert (record.source.name, record.threshold, record.full_scale) == ("toy.keras", 0.4, 255)
    assert record.classes == ["sky", "<b>cat</b>", "sea & shore"]
    assert (record.model.size, record.model.channels, record.model.output_channels) == ((48, 64), 3, 3)
    assert (record.image_dtype, record.formats) == ("uint8", ["jpeg", "png", "bmp", "webp"])


def test_a_directory_without_one_was_not_exported_by_maskport(tmp_path):
    assert read_record(tmp_path) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda fields: b"{", r"maskport\.json: is not what an export writes: as a whole: "),
        (lambda fields: b"\xff", "it is not UTF-8 text"),
        (lambda fields: fields | {"schema_version": 2}, "is of schema version 2, this maskport knows 1"),
        (lambda fields: fields | {"threshold": "high"}, "is not what an export writes: threshold: "),
        (lambda fields: fields | {"model": {}}, r"is not what an export writes: model\.channels: Field required"),
        (lambda fields: {}, "is not what an export writes: schema_version: Field required"),
    ],
)
def test_a_spoilt_record_is_one_line_that_names_the_file_and_the_field(manifest, tmp_path, spoil, message):
    spoilt = spoil(json.loads(manifest.read_text()))
    manifest.write_bytes(spoilt if isinstance(spoilt, bytes) else json.dumps(spoilt).encode())
    with pytest.raises(InspectError, match=message) as caught:
        read_record(tmp_path)
    assert "\n" not in str(caught.value)
