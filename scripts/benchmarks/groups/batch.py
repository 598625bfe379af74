"""The batch job, from files to files and tables, beside the exported signature called by two threads in one process.

The bare signature has its pictures in memory, and nothing is made of its answers. The job reads and hashes the files,
counts the masks' pixels, and writes masks and tables; its start is in the time, but for loading the model.
"""

import json
import subprocess
import sys
from collections.abc import Iterator

from .. import pictures
from ..lab import Lab
from ..measuring import ratio, spread
from ..results import Finding, Row, at_least, number_text

_GOAL = 0.85
_DIFFERENT = 40
"""Pictures that are drawn, and repeated."""
_SIZES = {"512²": (512, 512), "12 megapixels": (4000, 3000)}


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the job's rate ÷ the signature's, of small pictures and of photographs."""
    light = lab.subjects.light
    for (name, size), count in zip(_SIZES.items(), (lab.effort.batch_small, lab.effort.batch_large), strict=True):
        different = pictures.variants(min(count, _DIFFERENT), [size])
        files = [different[number % len(different)] for number in range(count)]
        folder = pictures.write_files(files, lab.folder / f"{size[0]}")
        command = [sys.executable, "-m", "benchmarks.batch_rates", light.base_path / "1", folder]
        done = subprocess.run(
            [*map(str, command), str(lab.effort.batch_rounds)], check=True, capture_output=True, text=True
        )
        rates = json.loads(done.stdout.splitlines()[-1])
        job, bare = (spread(rates[way]).median for way in ("job", "bare"))
        yield Row.of(
            f"rate of the batch job ÷ two threads on the signature, light, {count} JPEG of {name}",
            ratio(rates["job"], rates["bare"]),
            goal=at_least(_GOAL),
            note=f"{number_text(job)} against {number_text(bare)} pictures a second",
        )
