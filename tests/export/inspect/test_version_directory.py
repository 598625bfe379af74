"""Which directory is meant."""

import pytest
from maskport.export.inspect import InspectError
from maskport.export.inspect.version_directory import find_version_directory


def make(path, *names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x" * len(name))


def test_a_version_directory_is_itself(tmp_path):
    make(tmp_path, "coins/3/saved_model.pb", "coins/4/saved_model.pb")
    found = find_version_directory(tmp_path / "coins/3")
    assert (found.path, found.model_name, found.version) == (tmp_path / "coins/3", "coins", 3)


def test_a_base_path_means_its_highest_version(tmp_path, monkeypatch):
    make(tmp_path, "coins/9/saved_model.pb", "coins/10/saved_model.pb", "coins/temp/saved_model.pb", "coins/x.txt")
    monkeypatch.chdir(tmp_path / "coins")
    found = find_version_directory(type(tmp_path)("."))
    assert (found.path, found.model_name, found.version) == (tmp_path / "coins/10", "coins", 10)


def test_a_directory_without_a_number_for_a_name_has_no_version(tmp_path):
    make(tmp_path, "unet/saved_model.pb")
    found = find_version_directory(tmp_path / "unet")
    assert (found.model_name, found.version) == ("unet", None)


def test_files_are_listed_with_their_sizes(tmp_path):
    make(tmp_path, "1/saved_model.pb", "1/variables/variables.index")
    sizes = find_version_directory(tmp_path / "1").file_sizes()
    assert sizes == {"saved_model.pb": 16, "variables/variables.index": 27}


@pytest.mark.parametrize(
    ("files", "asked", "message"),
    [
        ([], "none", "none: no such directory"),
        (["a.txt"], "a.txt", r"a\.txt: not a directory"),
        (["1/saved_model.pb"], "1/saved_model.pb", r"saved_model\.pb: give its directory, .*/1$"),
        (["coins/notes.txt"], "coins", "holds neither a saved_model.pb nor versions"),
        (["coins/1/saved_model.pb", "coins/2/notes.txt"], "coins", r"coins/2: the highest version holds no saved"),
    ],
)
def test_other_things_are_refused_by_what_they_are(tmp_path, files, asked, message):
    make(tmp_path, *files)
    with pytest.raises(InspectError, match=message):
        find_version_directory(tmp_path / asked)
