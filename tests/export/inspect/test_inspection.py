"""What an inspection finds, against what was exported."""

import json
import shutil

import pytest
import tensorflow as tf
from maskport.export.inspect import InspectError, Target, inspect_version
from maskport.export.inspect.signature_table import TensorForm
from maskport.serving import contract

BY_DEFAULT = [name for name, one in contract.SIGNATURES.items() if one.product != contract.MASKED_IMAGE_JPEG]


def test_every_signature_is_listed_in_the_contracts_order_with_its_forms(inspection):
    assert list(inspection.signatures) == BY_DEFAULT
    any_size = (None, None, None)
    assert inspection.signatures["mask_at_threshold"].inputs == {
        "image": TensorForm("uint8", (*any_size, None)),
        "threshold": TensorForm("float32", (None,)),
    }
    assert inspection.signatures["mask"].outputs == {"mask": TensorForm("float32", (*any_size, 1))}
    assert list(inspection.signatures["class_map_png"].outputs.items()) == [
        ("class_map_bytes", TensorForm("string", (None,))),
        ("error", TensorForm("string", (None,))),
    ]


def test_the_forms_are_those_of_the_loaded_signatures(pixels_only):
    loaded = tf.saved_model.load(str(pixels_only.path))
    for name, form in inspect_version(pixels_only.path, runs=0).signatures.items():
        outputs = loaded.signatures[name].structured_outputs
        assert {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in outputs.items()} == {
            key: (tensor.dtype, list(tensor.shape)) for key, tensor in form.outputs.items()
        }


def test_every_signature_is_timed_by_the_warm_up_requests(inspection):
    assert set(inspection.seconds) == set(BY_DEFAULT)
    assert all(0 < seconds < 10 for seconds in inspection.seconds.values())
    assert inspection.timed == "1 picture of 48×64, median of up to 2 calls in this process"


def test_without_warm_up_requests_the_golden_ones_are_timed(medical):
    inspection = inspect_version(medical.path, runs=1)
    assert set(inspection.seconds) == {"mask", "mask_png"}
    assert inspection.timed.startswith("the small golden requests, ")


def test_timing_can_be_left_out(exported):
    inspection = inspect_version(exported.path, runs=0)
    assert (inspection.seconds, inspection.timed) == ({}, "")


def test_sizes_are_those_on_the_disk(exported, inspection):
    files = [file for file in exported.path.rglob("*") if file.is_file()]
    assert inspection.file_sizes == {str(f.relative_to(exported.path)): f.stat().st_size for f in files}
    assert inspection.parameters == 3 * 3 * 3 * 3 + 3


def test_json_holds_all_but_the_pictures(exported, inspection):
    found = json.loads(json.dumps(inspection.to_json()))
    assert found["directory"] == str(exported.path)
    assert (found["model_name"], found["version"], found["exported_by_maskport"]) == ("toy", 1, True)
    mask_png = found["signatures"]["mask_png"]
    assert mask_png["inputs"] == {"image_bytes": {"dtype": "string", "shape": [None]}}
    assert mask_png["milliseconds"] == pytest.approx(1000 * inspection.seconds["mask_png"])
    assert set(mask_png["calls"]) == {"curl", "python", "grpcurl"}
    assert found["sizes"]["bytes"] == sum(found["sizes"]["files"].values())
    assert found["export"]["threshold"] == 0.4
    assert found["export"]["spec"]["clean"] == {"open": 1, "close": 0}


def test_a_saved_model_of_others_shows_its_signatures_and_sizes(foreign):
    inspection = inspect_version(foreign, with_picture=True)
    assert list(inspection.signatures) == ["add"]
    assert inspection.signatures["add"].inputs == {"x": TensorForm("int32", (None, 3))}
    assert inspection.signatures["add"].outputs["y"] == TensorForm("float32", (None, 3))
    assert inspection.parameters == 6
    assert (inspection.record, inspection.calls, inspection.seconds, inspection.picture) == (None, {}, {}, None)
    found = inspection.to_json()
    assert (found["exported_by_maskport"], found["version"], found["export"]) == (False, None, None)
    assert found["signatures"]["add"]["calls"] is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "saved_model.pb").write_bytes(b"nothing"), r"its saved_model\.pb cannot be read"),
        (lambda path: (path / "saved_model.pb").write_bytes(b""), "no graph in it has the tag 'serve'"),
        (lambda path: shutil.rmtree(path / "variables"), "TensorFlow cannot load it"),
        (
            lambda path: (path / "assets.extra/tf_serving_warmup_requests").write_bytes(b"nothing" * 9),
            "the recorded requests cannot be read",
        ),
    ],
)
def test_a_broken_directory_is_one_line(pixels_only, tmp_path, spoil, message):
    shutil.copytree(pixels_only.path, tmp_path / "1")
    spoil(tmp_path / "1")
    with pytest.raises(InspectError, match=message) as caught:
        inspect_version(tmp_path / "1", runs=1)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "1") in str(caught.value)


def test_a_target_changes_the_calls_alone(exported):
    target = Target("other", "https://host:1", "grpcs://host:2", "my photo.jpg")
    inspection = inspect_version(exported.path, target=target, runs=0)
    calls = inspection.calls["mask_png"]
    assert "https://host:1/v1/models/other:predict" in calls["curl"]
    assert "base64 < 'my photo.jpg'" in calls["curl"]
    assert "MaskClient('grpcs://host:2', model='other')" in calls["python"]
    assert "grpcurl -protoset tensorflow_serving.protoset -d @ host:2 " in calls["grpcurl"]
    assert inspection.directory.model_name == "toy"
