"""Which pictures a command line means, and where the answers to them go."""

import dataclasses
import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InvalidRequestError

STANDARD = "-"
"""In place of a path: standard input, or output."""

IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".webp", ".gif"),
    *(".tif", ".tiff", ".gtif", ".gtiff", ".btf", ".tf8", ".avif", ".avifs", ".heic", ".heif", ".hif"),
)
"""What names of pictures end with, in small letters; HEIC, which is not read, fails by name rather than unseen."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One picture of a command line."""

    path: str  # or `STANDARD`
    relative: Path  # below the folder or the fixed part of the pattern that it was found by


def find_inputs(words: Sequence[str], out: str | None = None) -> tuple[list[Input], list[str], list[str]]:
    """Returns the pictures that paths, folders and patterns mean, each once, in order.

    Of folders all files with an image's ending are taken, at any depth, but none that are hidden; patterns have `*`,
    `?`, `[…]`, and `**` for any depth. Where answers go, `out`, may be below one of the words: it holds those of an
    earlier run, and no pictures.

    Returns also what is wrong with words that mean none, and which files of folders and patterns were left out, as they
    have no image's ending. Raises `InvalidRequestError` where none of the words means any.
    """
    found: dict[str, Input] = {}
    problems = []
    left_out: dict[str, None] = {}
    for word in words:
        unreadable: list[str] = []
        try:
            files = [one for one in _files_of(word, unreadable) if not _is_answer(one.path, word, out)]
        except InvalidRequestError as error:
            problems.append(error.problem)
            continue
        problems += unreadable
        inputs = [one for one in files if one.path == word or _is_picture(one.path, word)]
        others = [one.path for one in files if one.path != word and not _is_picture(one.path, word)]
        if not inputs and not unreadable:
            what = f" among {len(others)} files, such as {others[0]}" if others else ""
            problems.append(f"{word}: there is no image{what}")
        left_out |= dict.fromkeys(others)
        for one in inputs:
            found.setdefault(one.path, one)
    if not found:
        raise InvalidRequestError("; ".join(problems) or "there is no image")
    return list(found.values()), problems, [path for path in left_out if path not in found]


def output_paths(inputs: Sequence[Input], folder: Path, ending: str) -> list[Path]:
    """Returns where each input's answer goes: `FOLDER/RELATIVE/NAME.png`, or `NAME.EXT.png` where several share NAME.

    Raises `InvalidRequestError` where two would go to one file, or one over an input.
    """
    stems = [one.relative.with_suffix("") for one in inputs]
    shared = Counter(stems)
    paths = []
    read = {os.path.realpath(one.path) for one in inputs}
    for one, stem in zip(inputs, stems, strict=True):
        alone = folder / stem.with_name(stem.name + ending)
        if shared[stem] > 1 and (real := os.path.realpath(alone)) in read and real != os.path.realpath(one.path):
            raise InvalidRequestError(
                f"{alone} is a picture, or the answer of an earlier run to {one.path}: which cannot be told",
                hint="write to another folder, or name the pictures by a pattern, such as '*.jpg'",
            )
        paths.append(folder / stem.with_name(one.relative.name + ending) if shared[stem] > 1 else alone)
    twice = [path for path, count in Counter(paths).items() if count > 1]
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


def _files_of(word: str, unreadable: list[str]) -> Iterable[Input]:
    """Returns what a word names, pictures or not; adds to `unreadable` the folders that cannot be looked into."""
    if word == STANDARD:
        return [Input(STANDARD, Path("stdin"))]
    path = Path(word)
    if not word:
        raise InvalidRequestError("an empty word names no image")
    # Path's own methods raise what keeps one from looking, such as missing rights.
    if os.path.isdir(path):
        return [Input(str(file), file.relative_to(path)) for file in _files_below(path, unreadable)]
    # A file may have a name that reads like a pattern.
    if os.path.lexists(path):
        return [Input(word, Path(path.name))]
    if glob.has_magic(word):
        return _files_of_pattern(word)
    raise InvalidRequestError(f"{word}: there is no such file or folder")


def _files_of_pattern(pattern: str) -> Iterable[Input]:
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
        if _is_picture_or_missing(file) and (not _is_hidden(relative) or _is_hidden(Path(below))):
            yield Input(str(file), relative)


def _is_picture(path: str, word: str) -> bool:
    """Returns whether a file that a folder or a pattern holds is a picture by its ending, or by the pattern's."""
    ending = Path(path).suffix
    return ending.lower() in IMAGE_ENDINGS or (glob.has_magic(word) and ending == Path(word).suffix)


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
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(current, name)
            if not name.startswith(".") and _is_picture_or_missing(file):
                yield file


def _is_picture_or_missing(file: Path) -> bool:
    """Returns whether to read a file: not a pipe, which would wait for ever; a link that leads nowhere is a failure."""
    return os.path.isfile(file) or not os.path.exists(file)


def read(path: str) -> bytes:
    """Returns what a file holds, or all of standard input."""
    if path != STANDARD:
        return Path(path).read_bytes()
    if sys.stdin is None:
        raise InvalidRequestError("standard input is closed")
    return sys.stdin.buffer.read()
