"""The life of a model's versions, from being found to being gone.

One rule decides what happens next to a model (`ServedModel.next_action`): a new version is loaded before an old
one is let go. Who owns these objects carries that out, and keeps the lock under which they change.
"""

import dataclasses
import enum
import time

from ..errors import RequestError
from ..inference.predictor import Model
from .versions import ModelSettings


class State(enum.IntEnum):
    """Where a version is between being found and being gone; numbered as in get_model_status.proto."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What is told of one version: its state, and its last error."""

    version: int
    state: State
    error: RequestError | None


@dataclasses.dataclass(eq=False)
class Version:
    """One version of a model."""

    name: str  # the model's
    number: int
    path: str
    state: State = State.START
    is_wanted: bool = True  # whether the configuration and the disk still ask for it
    attempts: int = 0  # at loading it
    error: RequestError | None = None  # of the last attempt
    retry_at: float | None = None  # when the next attempt is due (`time.monotonic`)
    model: Model | None = None  # while it is loaded
    in_use: int = 0  # requests that have it now

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.number}}}"

    def close(self) -> None:
        """Gives back what its model holds, if it is loaded."""
        model, self.model = self.model, None
        if model is not None:
            model.runner.close()


@dataclasses.dataclass(eq=False)
class ServedModel:
    """All versions of one model that there have been."""

    name: str
    settings: ModelSettings | None = None  # what the configuration says of it; None where it is no longer there
    wanted: dict[int, str] = dataclasses.field(default_factory=dict)  # paths of the versions to serve, by number
    versions: dict[int, Version] = dataclasses.field(default_factory=dict)  # by number
    looked_at: ModelSettings | None = None  # by which its base path was last looked at
    complaint: str = ""  # what was last wrong with its base path

    def live(self) -> list[Version]:
        """Returns the versions that are not gone."""
        return [version for version in self.versions.values() if version.state != State.END]

    def available(self, number: int | None) -> Version | None:
        """Returns a version that can be used: the given one, or the greatest."""
        if number is not None:
            version = self.versions.get(number)
            return version if version and version.state == State.AVAILABLE else None
        ready = [version for version in self.versions.values() if version.state == State.AVAILABLE]
        return max(ready, key=lambda version: version.number, default=None)

    @property
    def is_settled(self) -> bool:
        """Whether it has versions, and each was loaded or failed once; or is no longer asked for."""
        ended = [version.state >= State.AVAILABLE or version.error is not None for version in self.versions.values()]
        return self.settings is None or (bool(ended) and all(ended))

    @property
    def is_decided(self) -> bool:
        """Whether it can be used, or never will be as things stand."""
        if self.settings is None or self.available(None):
            return True
        # Of one that was taken out and is back, the versions are still those of before until its path is looked at.
        return self.looked_at is self.settings and bool(self.versions) and not self.live()

    def failure(self) -> str:
        """Returns how the last of its versions failed, as TensorFlow Serving lists it."""
        last = max(self.versions.values(), key=lambda version: version.number)
        because = f" due to error: {last.error}" if last.error else ""
        return f"{{{last}{because}}}, "

    def adopt_wanted(self) -> None:
        """Makes entries of newly wanted versions, and marks those that are wanted no more.

        A version that failed stays as it is while it is wanted. One that is wanted again while it is served goes
        on as it is. One that is wanted again while it is still being loaded or unloaded gets its new entry when it
        is gone, since its files may be others by now.
        """
        for number, version in self.versions.items():
            if number not in self.wanted:
                version.is_wanted = False
                if version.state == State.START or version.retry_at is not None:
                    version.state = State.END
                    version.retry_at = None
        for number, path in self.wanted.items():
            known = self.versions.get(number)
            if known is None or (known.state == State.END and not known.is_wanted):
                self.versions[number] = Version(self.name, number, path)
            elif known.state == State.AVAILABLE and known.path == path:
                known.is_wanted = True

    def next_action(self) -> tuple[State, Version] | None:
        """Returns what should be done next, as the state to bring a version to.

        A version that is not wanted goes once a wanted one is there (or none is wanted, or another unwanted
        one is left), or at once where its number waits for a new entry. Of the wanted ones the greatest is loaded
        first.
        """
        wanted = [version for version in self.versions.values() if version.is_wanted]
        leftover = [v for v in self.live() if not v.is_wanted and v.state == State.AVAILABLE]
        replaced = [version for version in leftover if version.number in self.wanted]
        if replaced:
            return State.UNLOADING, replaced[0]
        may_unload = not self.wanted or any(v.state == State.AVAILABLE for v in wanted) or len(leftover) > 1
        if may_unload and leftover:
            return State.UNLOADING, min(leftover, key=lambda version: version.number)
        now = time.monotonic()
        due = [v for v in wanted if v.state == State.START or (v.retry_at is not None and v.retry_at <= now)]
        if due:
            return State.LOADING, max(due, key=lambda version: version.number)
        return None
