"""What the values of masks mean, and which are not taken for foreground unasked."""

import numpy as np
import pytest
from maskport.export.calibrate.labels import COLOUR, LabelCounts, LabelMeaning, parse_values
from maskport.export.errors import CalibrationError
from PIL import Image, ImageFilter

DISC = np.hypot(*(np.mgrid[:64, :64] - 30.5)) < 20


def counts(*masks, foreground=None, ignored=()):
    labels = LabelCounts(LabelMeaning(None if foreground is None else parse_values(foreground), parse_values(ignored)))
    for mask in masks:
        labels.add(np.asarray(mask, np.int64))
    return labels


def labelled(*values):
    """A mask with every one of some values, the first most often."""
    return np.array([*values, *[values[0]] * 40]).reshape(1, -1)


@pytest.mark.parametrize(
    ("given", "found", "foreground"),
    [
        (None, [0, 1, 2, 255], [False, True, True, True]),
        (255, [0, 1, 255], [False, False, True]),
        (["1-3", 9], [0, 1, 2, 3, 4, 9], [False, True, True, True, False, True]),
        ("#800000", [0, 128, COLOUR + 0x800000], [False, False, True]),
        ("#ffffff", [0, 255], [False, True]),  # a gray is its level
        ([-1], [-1, 0, 1], [True, False, False]),
    ],
)
def test_values_ranges_and_colours_name_the_foreground(given, found, foreground):
    meaning = LabelMeaning(None if given is None else parse_values(given), parse_values(7))
    assert meaning.is_foreground(np.array(found)).tolist() == foreground
    assert meaning.counts(np.array([0, 7, 255])).tolist() == [True, False, True]


@pytest.mark.parametrize("value", ["", "a", "#12345", "1.5", "1-", "--1"])
def test_what_is_no_value_is_refused(value):
    with pytest.raises(CalibrationError, match="is no value of a mask: give levels"):
        parse_values([value])


def test_values_are_told_with_their_shares_and_meanings():
    labels = counts([[0, 0, 0, COLOUR + 0xFF0000]], [[0, 1, 255, 255]], ignored=[255])
    assert labels.summarize() == "0 (50.0 %), 1 (12.5 %), 255 (25.0 %), #ff0000 (12.5 %)"
    assert labels.summarize(with_meaning=True).startswith(
        "0 (50.0 %, background), 1 (12.5 %, foreground), 255 (25.0 %, ig"
    )
    assert counts(np.arange(300)).summarize().endswith("%), 288 others")


@pytest.mark.parametrize(
    ("masks", "meaning", "message"),
    [
        ([labelled(0, 15, 255)], {}, "255 beside other values mostly means void.* --ignore_value=255.*=15$"),
        ([labelled(0, *range(1, 21), 255)], {}, "mostly means void"),
        ([labelled(0, *range(1, 183), 255)], {}, "mostly means void"),
        ([labelled(0, 128, 255)], {}, "mostly means void"),
        ([labelled(0, 300, 65535)], {}, "65535 beside other values"),
        ([labelled(2, 1, 3)], {}, "every pixel of the masks is foreground; they hold 1 .*, 2 .*, 3 "),
        ([labelled(255)], {}, "every pixel of the masks is foreground"),
        ([labelled(1, 255)], {"ignored": [255]}, "every pixel of the masks is foreground"),
        ([labelled(2, 1, 3)], {"foreground": ["1-3"]}, "every pixel of the masks is foreground"),
        ([labelled(0, 1, 2)], {}, "look like indices of the model's 3 classes.* --foreground_values=1,"),
        ([labelled(0, 1), labelled(0, 2)], {}, "look like indices"),
        ([labelled(0, 2)], {}, "look like indices"),
        ([labelled(0, COLOUR + 0x800000, COLOUR + 0xE0E0C0)], {}, "several colours, .*--foreground_values=#e0e0c0"),
    ],
)
def test_values_that_probably_mean_something_else_are_refused(masks, meaning, message):
    with pytest.raises(CalibrationError, match=message):
        counts(*masks, **meaning).check(3, [1])


@pytest.mark.parametrize(
    ("masks", "meaning"),
    [
        ([labelled(0, 1)], {}),
        ([labelled(0, 255), labelled(0)], {}),
        ([labelled(0, 255), labelled(0, 1)], {}),  # each file in its own way
        ([labelled(0, 3), labelled(0, 7)], {}),
        ([labelled(0, *range(1, 24))], {}),  # numbered objects
        ([labelled(0, *range(1, 400))], {}),
        ([labelled(0, COLOUR + 0xFF0000)], {}),
        ([labelled(0, 15, 255)], {"ignored": [255]}),
        ([labelled(2, 1, 3)], {"foreground": [1], "ignored": [3]}),
        ([labelled(0, 1, 2)], {"foreground": [2]}),
        ([labelled(1, 0)], {"foreground": [0]}),
    ],
)
def test_plain_masks_and_named_values_are_taken(masks, meaning):
    assert counts(*masks, **meaning).check(3, [1]) is None


def test_soft_and_compressed_edges_are_doubtful_rather_than_labels(tmp_path):
    disc = Image.fromarray(DISC.astype(np.uint8) * 255)
    disc.save(tmp_path / "disc.jpg", quality=80)
    for mask in (
        np.asarray(disc.resize((200, 200), Image.Resampling.BICUBIC)),
        np.asarray(disc.filter(ImageFilter.GaussianBlur(1))),
        np.asarray(Image.open(tmp_path / "disc.jpg")),
        labelled(0, 1, 2, 254, 255),
    ):
        doubt = counts(mask).check(1, [0])
        assert "--foreground_values=128-255 takes the upper half" in doubt
        assert counts(mask, foreground=["128-255"]).check(1, [0]) is None
