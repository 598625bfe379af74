"""Which pictures a command line means, and where the answers to them go."""

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InvalidRequestError
from .connection_flags import STANDARD

IMAGE_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "jif", "mpo"),
        *("png", "apng", "bmp", "dib", "webp", "gif"),
        *("tif", "tiff", "gtif", "gtiff", "btf", "tf8"),
        *("avif", "avifs", "heic", "heif", "hif"),
    )
)
"""What names of pictures end with, in small letters; HEIC, which is not read, fails by name rather than unseen."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One picture of a command line.

    Attributes:
        path: of the picture, or `STANDARD`.
        relative: its path below the folder or the fixed part of the pattern that it was found by.
    """

    path: str
    relative: Path


def find_inputs(words: Sequence[str], out: str | None = None) -> tuple[list[Input], list[str], list[str]]:
    """Returns the pictures that paths, folders and patterns mean, each once, in order.

    Args:
        words: files; folders, of which all files with an image's ending are taken, at any depth; patterns with
            `*`, `?`, `[…]`, and `**` for any depth; `-` for standard input.
        out: where answers go: a folder below one of `words` holds those of an earlier run, and no pictures.

    Returns:
        The pictures; what is wrong with words that mean none; and the files of folders and patterns that were
        left out, as they have no image's ending.

    Raises:
        InvalidRequestError: none of them means any.
    """
    found: dict[str, Input] = {}
    problems = []
    left_out: dict[str, None] = {}
    for word in words:
        unreadable: list[str] = []
        others: list[str] = []
        try:
            inputs = [one for one in _inputs_of(word, unreadable, others) if not _is_answer(one.path, word, out)]
            others = [path for path in others if not _is_answer(path, word, out)]
            left_out |= dict.fromkeys(others)
            if not inputs and not unreadable:
                what = f" among {len(others)} files, such as {others[0]}" if others else ""
                raise InvalidRequestError(f"{word}: there is no image{what}")
        except InvalidRequestError as error:
            problems.append(error.problem)
            continue
        problems += unreadable
        for one in inputs:
            found.setdefault(one.path, one)
    if not found:
        raise InvalidRequestError("; ".join(problems) or "there is no image")
    return list(found.values()), problems, [path for path in left_out if path not in found]


def output_paths(inputs: Sequence[Input], folder: Path, ending: str) -> list[Path]:
    """Returns where each input's answer goes, below a folder.

    Args:
        inputs: in order.
        folder: that the answers go to.
        ending: of their files, with the dot.

    Returns:
        `RELATIVE/NAME.png`; `RELATIVE/NAME.EXT.png` where several inputs share NAME.

    Raises:
        InvalidRequestError: two would go to one file, or one over an input.
    """
    shared = Counter(one.relative.with_suffix("") for one in inputs)
    paths = [
        folder
        / (
            one.relative.with_suffix(ending)
            if shared[one.relative.with_suffix("")] == 1
            else one.relative.with_name(one.relative.name + ending)
        )
        for one in inputs
    ]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    read = {os.path.realpath(one.path) for one in inputs}
    for path in paths:
        if os.path.realpath(path) in read:
            raise InvalidRequestError(f"{path} would be overwritten by its own answer", hint="write to another folder")
    if twice:
        clashing = [one.path for one, path in zip(inputs, paths, strict=True) if path == twice[0]]
        raise InvalidRequestError(
            f"{' and '.join(clashing[:2])} would both be written to {twice[0]}",
            hint="name a folder that holds both, or write them to different folders",
        )
    return paths


def _inputs_of(word: str, unreadable: list[str], left_out: list[str]) -> Iterable[Input]:
    if word == STANDARD:
        return [Input(STANDARD, Path("stdin"))]
    path = Path(word)
    if not word:
        raise InvalidRequestError("an empty word names no image")
    # Path's own methods raise what keeps one from looking, such as missing rights.
    if os.path.isdir(path):
        files = list(_files_below(path, unreadable))
        left_out += [str(file) for file in files if file.suffix.lower() not in IMAGE_ENDINGS]
        return [Input(str(file), file.relative_to(path)) for file in files if file.suffix.lower() in IMAGE_ENDINGS]
    # A file may have a name that reads like a pattern.
    if os.path.lexists(path):
        return [Input(word, Path(path.name))]
    if glob.has_magic(word):
        return _inputs_of_pattern(word, left_out)
    raise InvalidRequestError(f"{word}: there is no such file or folder")


def _inputs_of_pattern(pattern: str, left_out: list[str]) -> Iterable[Input]:
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    below = str(Path(pattern).relative_to(fixed))
    # In pathlib `**` means folders, and does not follow links, which may lead in circles.
    below = f"{below}/*" if Path(below).name == "**" else below
    try:
        files = sorted(fixed.glob(below))
    except ValueError as error:
        raise InvalidRequestError(f"{pattern}: {error}") from error
    for file in files:
        relative = file.relative_to(fixed)
        if not _is_picture_or_missing(file) or (_is_hidden(relative) and not _is_hidden(Path(below))):
            continue
        if file.suffix.lower() in IMAGE_ENDINGS or Path(pattern).suffix == file.suffix:
            yield Input(str(file), relative)
        else:
            left_out.append(str(file))


def _is_answer(path: str, word: str, out: str | None) -> bool:
    """Returns whether a file that a word means lies in a folder of answers, and not the word itself."""
    if out is None or STANDARD in (word, out) or path == word:
        return False
    answers = os.path.realpath(out) + os.sep
    return os.path.realpath(path).startswith(answers) and not (os.path.realpath(word) + os.sep).startswith(answers)


def _is_hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)


def _files_below(folder: Path, unreadable: list[str]) -> Iterable[Path]:
    def report(error: OSError) -> None:
        unreadable.append(f"{error.filename}: {error.strerror}")

    for current, folders, names in os.walk(folder, onerror=report):
        folders.sort()
        for name in sorted(names):
            file = Path(current, name)
            if not name.startswith(".") and _is_picture_or_missing(file):
                yield file


def _is_picture_or_missing(file: Path) -> bool:
    """Returns whether to read a file: not a pipe, which would wait for ever; a link that leads nowhere is a failure."""
    return os.path.isfile(file) or not os.path.exists(file)
