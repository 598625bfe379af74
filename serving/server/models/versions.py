"""Which entries of a base path are versions of a model, and which of those the configuration asks for."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

from ...model_directories import SAVED_MODEL_FILES, parse_version


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk are served; all where neither rule is given."""

    latest: int | None = 1  # so many of the greatest
    specific: tuple[int, ...] | None = None  # these, as far as they exist

    def choose(self, versions: Sequence[int]) -> list[int]:
        """Returns the versions to serve, greatest first."""
        ordered = sorted(versions, reverse=True)
        if self.specific is not None:
            return [version for version in ordered if version in self.specific]
        if self.latest is not None:
            return ordered[: max(self.latest, 1)]
        return ordered


ALL_VERSIONS = VersionPolicy(latest=None)


def find_versions(base_path: str) -> dict[int, str]:
    """Returns the versions under a base path and their full paths; OSError where it cannot be read.

    Of two names for one version (`7` and `007`) the later in the alphabet counts.
    """
    names = sorted(os.listdir(base_path))
    versions = ((parse_version(name), os.path.join(base_path, name)) for name in names)
    return {version: path for version, path in versions if version is not None}


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """What a configuration says of one model."""

    name: str
    base_path: str  # absolute path of the directory that holds the versions
    policy: VersionPolicy = dataclasses.field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)  # version of each label
    only_version: int | None = None  # its number where the base path is itself a version directory

    def find_wanted(self) -> dict[int, str]:
        """Looks at the disk and returns the versions to serve, with their paths; see `find_versions`."""
        if self.only_version is not None:
            return {self.only_version: self.base_path} if os.path.exists(self.base_path) else {}
        found = find_versions(self.base_path)
        return {version: found[version] for version in self.policy.choose(list(found))}

    def look(self) -> tuple[dict[int, str] | None, str]:
        """Returns `find_wanted`, None where the base path cannot be read; and a complaint if there is nothing."""
        try:
            wanted = self.find_wanted()
        except (OSError, ValueError) as error:  # a path may hold what no path can
            reason = getattr(error, "strerror", None) or error
            return None, f"Could not find base path {self.base_path} for servable {self.name} with error {reason}"
        if wanted:
            return wanted, ""
        if self.policy.specific is not None:
            named = ", ".join(map(str, self.policy.specific)) or "none"
            return wanted, (
                f"No version of servable {self.name} that its policy names ({named}) is under base path "
                f"{self.base_path}"
            )
        return wanted, (
            f"No versions of servable {self.name} found under base path {self.base_path}. Did you forget "
            "to name your leaf directory as a number (eg. '/1/')?"
        )


def model_in(path: str, name: str | None = None) -> ModelSettings:
    """Returns the one model of an absolute path: of a directory of versions, or a version directory, served alone.

    Without a name it has that of the base path's last part.
    """
    if not any(os.path.exists(os.path.join(path, file)) for file in SAVED_MODEL_FILES):
        return ModelSettings(name or os.path.basename(path), path)
    parent, last = os.path.split(path)
    version = parse_version(last)
    if version is None:
        return ModelSettings(name or last, path, only_version=1)
    return ModelSettings(name or os.path.basename(parent), path, only_version=version)
