"""Which directory entries are versions, and which of them a policy chooses."""

import pytest
from maskport.serving.server.models.versions import ALL_VERSIONS, VersionPolicy, find_versions


def test_files_count_as_well_as_directories(tmp_path):
    (tmp_path / "3").mkdir()
    (tmp_path / "11").write_text("a file")
    (tmp_path / "notes").mkdir()
    assert find_versions(str(tmp_path)) == {3: str(tmp_path / "3"), 11: str(tmp_path / "11")}


def test_base_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        find_versions(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (VersionPolicy(), [5]),
        (VersionPolicy(latest=0), [5]),
        (VersionPolicy(latest=2), [5, 3]),
        (VersionPolicy(latest=9), [5, 3, 1]),
        (ALL_VERSIONS, [5, 3, 1]),
        (VersionPolicy(latest=None, specific=(1, 3, 8)), [3, 1]),
        (VersionPolicy(latest=None, specific=()), []),
    ],
)
def test_policy_chooses_greatest_first(policy, chosen):
    assert policy.choose([1, 5, 3]) == chosen
