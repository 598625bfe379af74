import pytest
from maskport.serving.batch.bookkeeping import files

ODD = ["plain.png", "a [1].png", "star*.png", "what?.png", "[*].png", "b]c[.png"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_reads_like_a_pattern_means_itself(tmp_path, name):
    for other in (*ODD, "a 1.png", "starry.png", "x.png"):
        files.write(files.join(str(tmp_path), other), other.encode())
    path = files.join(str(tmp_path), name)
    assert [one.path for one in files.find(files.literal(path))] == [path]
    files.remove([path, path])
    assert files.size_of(path) is None
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize(
    ("folder", "path"), [("", "x"), ("/", "/x"), ("a", "a/x"), ("a/", "a/x"), ("gs://b/", "gs://b/x"), ("./", "./x")]
)
def test_paths_are_put_together(folder, path):
    assert files.join(folder, "x") == path


def test_each_file_that_cannot_get_its_name_says_why(tmp_path):
    for name in "ab":
        files.write(str(tmp_path / name), b"new")
    (tmp_path / "c/in_the_way").mkdir(parents=True)
    failed = files.rename([str(tmp_path / "a"), str(tmp_path / "b")], [str(tmp_path / "c"), str(tmp_path / "d/e")])
    assert list(failed) == [str(tmp_path / "c")]
    assert failed[str(tmp_path / "c")].strerror == "Is a directory"
    assert (tmp_path / "d/e").read_bytes() == b"new"
