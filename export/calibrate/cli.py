"""`mask-calibrate`: chooses the threshold of a spec from labelled pictures."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags, logging

from ...serving import command_line
from ..errors import ExportError, SpecError
from .criteria import CRITERIA, DEFAULT_TARGET
from .labels import parse_values
from .pairs import find_pairs
from .tally import AVERAGES

with command_line.importing("mask-calibrate", extra="export"):
    from ..sources.preflight import check_source
    from ..spec import ExportSpec, flags as spec_flags, make_spec, read_spec_fields

_DESCRIPTION = """
Runs the model of an export spec over pictures with masks, and recommends the threshold that fits them best.

  mask-calibrate --spec=configs/export/coins.yaml --images=photos --masks=masks
  mask-calibrate --spec=coins.yaml --images=photos --masks=masks --criterion=precision_at_recall --target=0.98
  mask-calibrate --spec=coins.yaml --images=photos --masks=masks --write

A picture and its mask have one stem (photos/a/1.jpg and masks/a/1.png) and, turned upright, one size; what is
not zero in the mask is foreground, unless --foreground_values and --ignore_value say otherwise. The values found
are printed, and those that look like void, trimaps or class indices refused until they are named. Files without a
partner are named and left out. Nothing is exported.
The last line printed is "recommended threshold: 0.42". Exit codes: 0 done, 1 something failed (each pair that
could not be used is named), 2 usage.
"""

_NOT_OVERRIDDEN = (
    "threshold", "mask_dtype", "mask_png_bits", "background", "jpeg_quality", "edge", "bad_image", "signatures",
    "optimize", "warmup", "warmup_signatures", "allow_ops", "output_dir", "version", "keep",
)  # fmt: skip
"""Fields that change nothing about a probability."""

_SPEC = flags.DEFINE_string("spec", None, "The YAML file that mask-export takes.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of pictures; folders in it count too.")
_MASKS = flags.DEFINE_string("masks", None, "Folder of their masks.")
_CRITERION = flags.DEFINE_enum(
    "criterion",
    CRITERIA[0],
    CRITERIA,
    "What is to be best: IoU, Dice, precision among thresholds whose recall is at least --target, or recall "
    "among those whose precision is.",
)
_TARGET = flags.DEFINE_float("target", DEFAULT_TARGET, "See --criterion; 0 to 1.", lower_bound=0.0, upper_bound=1.0)
_AVERAGE = flags.DEFINE_enum(
    "average",
    AVERAGES[0],
    AVERAGES,
    "pixels: scores of all pixels together, so large pictures weigh more. pictures: the mean of their scores.",
)
_WRITE = flags.DEFINE_boolean(
    "write", False, "Put the threshold into the spec file, and leave all else in it as it is. Not after a failure."
)
_FOREGROUND_VALUES = flags.DEFINE_list(
    "foreground_values",
    None,
    "What is foreground in the masks: levels or palette indices (1), ranges (1-3), colours (#ff0000), with commas "
    "between; all but 0 unless it is given.",
)
_IGNORE_VALUE = flags.DEFINE_list(
    "ignore_value", [], "Values of pixels in the masks that do not count, such as 255 for void; likewise."
)
_OUT = flags.DEFINE_string(
    "out",
    "calibration",
    "Folder for calibration.svg (plot), calibration.csv (table) and calibration.html (page); empty writes none.",
)

_OVERRIDES = spec_flags.define(without=_NOT_OVERRIDDEN, prefix="In place of the spec's: ")
flags.adopt_module_key_flags(spec_flags)


def main(arguments: Sequence[str]) -> int:
    """Translates the flags into one calibration, and shows and saves what came of it."""
    if arguments:
        raise command_line.UsageError(f"unexpected argument {arguments[0]!r}; folders are given by --images, --masks")
    for holder in (_IMAGES, _MASKS):
        if not holder.value:
            raise command_line.UsageError(f"give --{holder.name}=FOLDER")
    try:
        for holder in (_FOREGROUND_VALUES, _IGNORE_VALUE):
            parse_values(holder.value or ())
    except ExportError as error:
        raise command_line.UsageError(f"--{holder.name}: {error}") from error
    spec = _load_spec()
    out = Path(_OUT.value) if _OUT.value else None

    command_line.check_installed("tensorflow")
    check_source(spec)
    pairing = find_pairs(Path(_IMAGES.value), Path(_MASKS.value))
    with _progress() as on_pair:
        command_line.import_quietly("tensorflow")
        from .calibration import calibrate

        calibration = calibrate(
            spec,
            pairing,
            criterion=_CRITERION.value,
            target=_TARGET.value,
            average=_AVERAGE.value,
            foreground_values=_FOREGROUND_VALUES.value,
            ignore_value=_IGNORE_VALUE.value,
            on_pair=on_pair,
        )

    from . import results
    from .spec_file import write_threshold

    warnings = [f"{path}: has no partner, left out" for path in pairing.unpaired]
    if pairing.lossy_masks:
        warnings.append(
            f"{len(pairing.lossy_masks)} masks are JPEG files ({pairing.lossy_masks[0]}): traces of the compression "
            "beside the edges count as foreground, unless --foreground_values=128-255 leaves them out; PNG has none"
        )
    warnings += [*(f"{failure}, left out" for failure in calibration.failures), *calibration.doubts]
    for warning in warnings:
        _warn(warning)
    print(results.summarize(calibration))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        results.write_plot(calibration, out / results.PLOT_FILE)
        results.write_table(calibration, out / results.TABLE_FILE)
        results.write_page(calibration, warnings, out / results.PAGE_FILE)
        print(f"saved {out / results.PLOT_FILE} and {out / results.TABLE_FILE}; as a page: {out / results.PAGE_FILE}")
    count = len(calibration.failures)
    if calibration.doubts:
        refusal = "see the warning above; --threshold of mask-export takes it all the same"
    elif count:
        bad = "the bad pair first (there is 1)" if count == 1 else f"the bad pairs first (there are {count})"
        refusal = f"mend or remove {bad}"
    else:
        refusal = ""
    if _WRITE.value and refusal:
        _warn(f"not written into {_SPEC.value}: {refusal}")
    elif _WRITE.value:
        write_threshold(Path(_SPEC.value), calibration.threshold)
        print(f"written into {_SPEC.value}")
    print(f"recommended threshold: {results.format_threshold(calibration.threshold)}")
    is_failure = count or (_WRITE.value and refusal)
    return command_line.EXIT_FAILED if is_failure else command_line.EXIT_OK


def _load_spec() -> ExportSpec:
    overrides = _OVERRIDES()
    if _SPEC.value is None and _WRITE.value:
        raise command_line.UsageError("--write needs --spec=FILE.yaml to write into")
    if _SPEC.value is None and "source" not in overrides:
        raise command_line.UsageError("give --spec=FILE.yaml, or --source")
    try:
        fields = read_spec_fields(_SPEC.value) if _SPEC.value else {}
        # Nothing is exported, so a spec may leave to mask-export where to.
        return make_spec({"output_dir": "unused", **fields, **overrides}, origin=_SPEC.value)
    except SpecError as error:
        raise command_line.UsageError(str(error)) from error


def _warn(text: str) -> None:
    print(f"mask-calibrate: {text}", file=sys.stderr)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Shows how many pairs are done, on stderr, unless `--verbosity` is below -1 (warnings)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=logging.get_verbosity() < logging.WARNING)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # In a log file a bar is of no use.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Loading the model", total=None)

        def on_pair(done: int, count: int) -> None:
            progress.update(task, description="Measuring", completed=done, total=count)

        yield on_pair


def run() -> None:
    """The console script's entry point."""
    command_line.run_app(
        main,
        program="mask-calibrate",
        description=_DESCRIPTION,
        user_errors=(ExportError,),
        extra="export",
        needs_gpu=False,
    )
