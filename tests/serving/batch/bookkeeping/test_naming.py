import itertools

import pytest
from hypothesis import given, strategies as st
from maskport.serving.batch.bookkeeping.naming import Naming, folder_of


@pytest.mark.parametrize(
    ("patterns", "folder"),
    [
        (["photos/**/*.jpg"], "photos/"),
        (["/data/photos/x.jpg"], "/data/photos/"),
        (["gs://bucket/photos-*/x.jpg"], "gs://bucket/"),
        (["./*.jpg"], "./"),
        (["photos/a/*.jpg", "photos/ab/*.jpg"], "photos/"),
        (["gs://one/*.jpg", "s3://other/*.jpg"], ""),
        (["{here}/photos/*.jpg", "photos/x/*.png"], "{here}/photos/"),
        (["photos/*.jpg", "../{name}/photos/*.png"], "{here}/photos/"),
        (["photos/a/*.jpg", "photos/a/../b/*.jpg"], "{here}/photos/"),
        (["./*.jpg", "photos/*.png"], "{here}/"),
    ],
)
def test_the_folder_of_patterns(patterns, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"here": tmp_path.resolve(), "name": tmp_path.resolve().name}
    assert folder_of([pattern.format(**names) for pattern in patterns]) == folder.format(**names)


@pytest.mark.parametrize(
    ("patterns", "is_picture"),
    [
        (["./photos/**"], False),
        (["./**"], False),
        (["/home/me/.data/**"], False),
        (["./photos/**", "./x.jpg"], False),
        (["photos/.hidden/**"], True),  # below what was asked for
        (["photos/**/.hidden/*.jpg"], True),
    ],
)
def test_hidden_pictures_are_taken_where_they_are_asked_for(patterns, is_picture):
    top = patterns[0].partition("**")[0].replace(".hidden/", "")
    assert Naming(patterns, "masks", ".png").is_picture(f"{top}.hidden/x.jpg") == is_picture


@pytest.mark.parametrize(
    ("uri", "is_picture"),
    [
        ("photos/x.jpg", True),
        ("photos/X.TIFF", True),
        ("photos/deep/x.weird", True),  # as a pattern asks for it
        ("photos/notes.txt", False),
        ("photos/.x.jpg", False),
        ("photos/.git/x.jpg", False),
        ("photos/masks/x.png", False),
        ("photos/masks2/x.png", True),
    ],
)
def test_what_is_a_picture(uri, is_picture):
    assert Naming(["photos/**", "photos/**/*.weird"], "photos/masks/", ".png").is_picture(uri) == is_picture


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("photos/**", "./photos/masks"),
        ("photos/**", "{here}/photos/masks/"),
        ("{here}/photos/**", "photos/masks"),
        ("linked/**", "photos/masks"),
        ("photos/**", "link_to_masks"),
        ("./**", "photos/masks"),
    ],
)
def test_answers_below_the_pictures_are_none_however_paths_are_written(tmp_path, monkeypatch, pattern, output):
    (tmp_path / "photos/masks").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("photos")
    (tmp_path / "link_to_masks").symlink_to("photos/masks")
    monkeypatch.chdir(tmp_path)
    pattern, output = (text.format(here=tmp_path) for text in (pattern, output))
    naming, folder = Naming([pattern], output, ".png"), folder_of([pattern])
    top = folder if "photos" in folder or folder == "linked/" else f"{folder}photos/"
    assert naming.is_picture(f"{top}x.png")
    assert naming.is_picture(f"{top}masks2/x.png")
    assert not naming.is_picture(f"{top}masks/x.png")


NAMES = st.lists(st.sampled_from(["x", "x.jpg", "y", "a/x", "x.weird", "x.png.jpg"]), min_size=1, unique=True)
ENDINGS = st.lists(st.sampled_from([".jpg", ".png", ".JPG", ".weird"]), min_size=1, unique=True)


@given(NAMES, ENDINGS)
def test_no_two_pictures_get_one_name_and_each_is_found_by_its_answer(stems, endings):
    naming = Naming(["photos/**/*.weird"], "masks", ".png")
    uris = [f"photos/{stem}{ending}" for stem in stems for ending in endings]
    answers = {}
    for _, group in itertools.groupby(sorted(uris, key=naming.stem), naming.stem):
        answers |= naming.answers(list(group))
    assert set(answers) == set(uris)
    assert len(set(answers.values())) == len(answers)
    for uri, answer in answers.items():
        assert naming.stem_of_answer(answer) == naming.stem(uri)
