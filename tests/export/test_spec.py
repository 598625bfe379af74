"""The spec: where its fields come from, and what each mistake is answered with."""

import re

import pytest
from maskport.export import ExportSpec, SpecError, load_spec
from maskport.export.spec import make_spec, parse_spec_fields

MINIMAL = {"source": "model.keras", "output_dir": "served/model"}


def test_flags_override_single_fields_of_the_file(tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text("source: a.keras\noutput_dir: out\nthreshold: 0.3\nclasses: [sky, cat]\nforeground: [cat]\n")
    spec = load_spec(str(file), {"threshold": "0.7", "formats": "png, jpeg"})
    assert (spec.source, spec.threshold, spec.classes) == ("a.keras", 0.7, ["sky", "cat"])
    assert spec.formats == ["png", "jpeg"]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("320,256", "model_size", (320, 256)),
        ("320x256", "model_size", (320, 256)),
        ("256", "model_size", (256, 256)),
        ("0,2", "foreground", [0, 2]),
        ("cat,1", "foreground", ["cat", 1]),
        ("0.5", "mean", [0.5]),
        ("0.4,0.5,0.6", "mean", [0.4, 0.5, 0.6]),
        ("mask,mask_png", "signatures", ["mask", "mask_png"]),
        ("7", "version", 7),
        ("8", "mask_png_bits", 8),
    ],
)
def test_flag_texts_become_values(text, field, value):
    classes = {"classes": ["dog", "cat"]} if "cat" in text else {}
    assert getattr(make_spec({**MINIMAL, **classes, field: text}), field) == value


def test_integers_of_a_file_are_decimal():
    """As those of flags are; YAML 1.1 would read eight and 510."""
    assert parse_spec_fields("version: 010\nkeep: 12", "x")["keep"] == 12
    assert make_spec({"source": "m", "output_dir": "o", **parse_spec_fields("version: 010", "x")}).version == 10
    with pytest.raises(SpecError, match="model_size"):
        make_spec({"source": "m", "output_dir": "o", **parse_spec_fields("model_size: 8:30", "x")})


def test_clean_is_read_from_pairs():
    clean = make_spec({**MINIMAL, "clean": "open=2,close=3"}).clean
    assert (clean.open, clean.close) == (2, 3)


@pytest.mark.parametrize("value", ["off", False, None, ""])
def test_clean_can_be_off(value):
    clean = make_spec({**MINIMAL, "clean": value}).clean
    assert (clean.open, clean.close) == (0, 0)


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert make_spec({**MINIMAL, "output_dir": "~/served"}).output_dir == "/home/someone/served"


@pytest.mark.parametrize(("dtype", "full_scale"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_full_scale_follows_the_image_dtype(dtype, full_scale):
    assert make_spec({**MINIMAL, "image_dtype": dtype}).full_scale == full_scale
    assert make_spec({**MINIMAL, "image_dtype": dtype, "input_max": 1}).full_scale == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"treshold": 0.5}, "unknown key 'treshold' (did you mean 'threshold'?)"),
        ({"threshold": 1.5}, "threshold: input should be less than or equal to 1 (got 1.5)"),
        ({"threshold": "high"}, "threshold: input should be a valid number"),
        ({"threshold": float("nan")}, "threshold: input should be a finite number"),
        ({"mask_png_bits": 4}, "mask_png_bits: input should be 1 or 8 (got 4)"),
        ({"activation": "relu"}, "'softmax', 'clip', 'byte', 'tanh' or 'classes' (got 'relu')"),
        ({"classes": ["a", "a"]}, "classes: given twice: a"),
        ({"classes": ["sky"], "foreground": "cat"}, "foreground: no class 'cat'; classes are: sky"),
        ({"classes": ["car"], "foreground": "cat"}, "foreground: no class 'cat' (did you mean 'car'?)"),
        ({"foreground": "cat"}, "foreground: no class 'cat'; give classes too"),
        ({"scaling": "unit", "mean": 0.5}, "scaling: mean and std replace it"),
        ({"std": 0}, "std: each value must be above 0"),
        ({"input_max": 4095}, "input_max: 4095 is above what uint8 holds; set image_dtype: uint16"),
        ({"model_size": 64, "pad_to_multiple": 8}, "pad_to_multiple: is for models that run at the image's size"),
        ({"signatures": "masks"}, "signatures: no signature 'masks' (did you mean 'mask'?)"),
        (
            {"signatures": ["mask", "masked_image_jpeg"], "background": "transparent"},
            "signatures: 'masked_image_jpeg' needs an opaque background, as JPEG has none other; got transparent",
        ),
        ({"jpeg_quality": 0}, "jpeg_quality: input should be greater than or equal to 1 (got 0)"),
        ({"source": "nets.unet:build"}, "weights: needed with the builder 'nets.unet:build'"),
        ({"weights": "a.weights.h5"}, "weights: only a builder (package.module:function) takes them"),
        ({"version": 0}, "version: input should be greater than 0"),
        ({"background": "pink"}, "background: wanted black, transparent or #rrggbb (got 'pink')"),
        ({"clean": {"opening": 2}}, "clean: no key 'opening'; there are: open, close"),
        ({"clean": "foo"}, "clean: no key 'foo'; there are: open, close"),
        ({"clean": {"open": True}}, "clean: got true (YAML reads yes, no, on and off as true and false)"),
        ({"keep": True}, "keep: got true (YAML reads yes, no, on and off as true and false)"),
        ({"threshold": True}, "threshold: got true"),
        ({"foreground": [True]}, "foreground: got true"),
        ({"version": 2**63}, "version: input should be less than or equal to 9223372036854775807"),
        ({"output_dir": ""}, "output_dir: string should have at least 1 character"),
        ({"classes": "cat,"}, "classes: string should have at least 1 character"),
        ({"signatures": []}, "signatures: wants at least one"),
        ({"warmup_signatures": "mask", "warmup": False}, "warmup_signatures: is for an export with warm-up requests"),
        ({"model_size": 100_000}, "model_size: input should be less than or equal to 32768"),
        ({"formats": "gif"}, "formats: input should be 'jpeg', 'png', 'bmp' or 'webp'"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_key(fields, message):
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        make_spec({**MINIMAL, **fields})
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named():
    with pytest.raises(SpecError, match=r"^output_dir: is needed$"):
        make_spec({"source": "model.keras"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "holds a list"),
        ("source: [a\nb: c: d", "line 2 is not YAML"),
        ("source: a.keras\nthreshold: 0.5\nthreshold: 0.6", "line 3 is not YAML: key 'threshold' is given twice"),
        ("source: a.keras\nthresold: 0.5", "unknown key 'thresold' (did you mean 'threshold'?)"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        load_spec(str(file), {})
    assert str(caught.value).startswith(f"spec {file}:")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"none\.yaml: cannot be read: No such file or directory"):
        load_spec(str(tmp_path / "none.yaml"), {})


def test_every_field_says_what_it_is_for():
    assert not [name for name, field in ExportSpec.model_fields.items() if not field.description]


def test_a_template_that_was_not_filled_in_is_one_line(tmp_path):
    (tmp_path / "spec.yaml").write_text("source: {{ model }}\noutput_dir: served\n")
    with pytest.raises(SpecError, match=r"spec\.yaml") as caught:
        load_spec(str(tmp_path / "spec.yaml"), {})
    assert "\n" not in str(caught.value)
