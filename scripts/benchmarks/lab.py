"""What every group measures with: the models, servers of them, and how much effort to make."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from .models import Subject, Subjects
from .servers import Served, serve


@dataclasses.dataclass(frozen=True)
class Effort:
    """Numbers of rounds and sizes of tasks: a full run's, unless given."""

    rounds: int = 60  # of calls that take milliseconds
    slow_rounds: int = 10  # of calls that take up to a second
    budget_s: float = 9  # for one comparison, unless that is fewer than three rounds
    longest_call_s: float = 20  # what would take longer is left out
    edges: Sequence[int] = (256, 512, 1024, 2048, 4096)  # in pixels, of the pictures whose latency is plotted
    batches: Sequence[int] = (1, 2, 4, 8, 16)  # numbers of pictures in a request
    callers: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)  # at one time
    load_s: float = 2  # of load, for one measurement of a rate
    load_turns: int = 4  # how often rates that are compared are measured
    open_s: float = 8  # of calls at fixed times, for the light model; the U-Net has twice as many
    open_turns: int = 3
    requests: int = 10_000  # that the server's memory is watched over; a tenth at a time
    large_edge: int = 7071  # in pixels, of the large pictures of which a request holds eight
    large_cases: int = 2  # kinds of models that get such a request
    optimized: Sequence[str] = ("coins", "unet", "light")  # models that are exported with each `optimize`
    json_pixels: int = 1_000_000  # at most, of pictures that are sent as JSON: more are like them, only slower
    imports: int = 5  # fresh interpreters for each import
    files: int = 1000  # photographs for the command line
    exports: int = 2  # how often an export is timed
    batch_small: int = 1000  # pictures of 512² for the batch job
    batch_large: int = 160  # likewise of 12 megapixels
    batch_rounds: int = 3


FULL = Effort()
QUICK = Effort(
    rounds=10, slow_rounds=3, budget_s=2, longest_call_s=2, edges=(256, 512, 1024), batches=(1, 8), callers=(1, 16),
    load_s=1.5, load_turns=1, open_s=3, open_turns=1, requests=500, large_edge=1000, large_cases=1,
    optimized=("light",), json_pixels=300_000, imports=1, files=100, exports=1,
    batch_small=300, batch_large=40, batch_rounds=1,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Lab:
    """The place of one run: models, effort, the command that starts a server, and a folder for temporary files."""

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
