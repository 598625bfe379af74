"""Which entries of a base path are versions of a model, and which of those a policy asks for."""

import dataclasses
import os
import re
from collections.abc import Sequence

# What absl::SimpleAtoi reads: white space around an optionally signed decimal number of 64 bits.
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served.

    Attributes:
        latest: so many of the greatest; None where another rule holds.
        specific: these, as far as they exist; None where another rule holds.

    With neither, all versions are served.
    """

    latest: int | None = 1
    specific: tuple[int, ...] | None = None

    def choose(self, versions: Sequence[int]) -> list[int]:
        """Returns the versions to serve, greatest first."""
        ordered = sorted(versions, reverse=True)
        if self.specific is not None:
            return [version for version in ordered if version in self.specific]
        if self.latest is not None:
            return ordered[: max(self.latest, 1)]
        return ordered


ALL_VERSIONS = VersionPolicy(latest=None)


def parse_version(name: str) -> int | None:
    """Returns the version that the name of a directory entry stands for, or None.

    `007` is 7, ` 8` is 8 and `-4` is -4, as TensorFlow Serving reads them.
    """
    match = _INTEGER.fullmatch(name)
    if not match:
        return None
    number = int(match[1])
    return number if _SMALLEST <= number <= _LARGEST else None


def find_versions(base_path: str) -> dict[int, str]:
    """Returns the versions under a base path and where they are.

    Args:
        base_path: a directory.

    Returns:
        The full path of each version. Of two names for one version (`7` and `007`) the later in the
        alphabet counts.

    Raises:
        OSError: the directory cannot be read.
    """
    found = {}
    for name in sorted(os.listdir(base_path)):
        version = parse_version(name)
        if version is not None:
            found[version] = os.path.join(base_path, name)
    return found
