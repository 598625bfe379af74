"""What every group measures with: the models, servers of them, and how much effort to make."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from .effort import Effort
from .models import Subject, Subjects
from .servers import Served, serve


@dataclasses.dataclass(frozen=True)
class Lab:
    """The place of one run.

    Attributes:
        subjects: the models.
        effort: how much is measured.
        server: the command that starts a server.
        folder: for files that nobody needs afterwards.
    """

    subjects: Subjects
    effort: Effort
    server: Sequence[str]
    folder: Path

    @contextlib.contextmanager
    def serve(self, *subjects: Subject, naive: Sequence[Subject] = (), flags: Sequence[str] = ()) -> Iterator[Served]:
        """Serves models as maskport exports them, and some as people do without it, by one server."""
        base_paths = {subject.name: subject.base_path for subject in subjects}
        base_paths |= {subject.naive_name: subject.naive_base_path for subject in naive}
        with serve(self.server, base_paths, *flags) as served:
            yield served
