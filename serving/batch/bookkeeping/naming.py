"""What pictures' files are called: as `mask-client segment` calls them, and never two alike."""

import functools
import os
from collections.abc import Sequence

from ...client.commands.inputs import IMAGE_ENDINGS
from . import files


class Naming:
    """How the pictures of some patterns, and the files made of them, are called.

    Args:
        patterns: of Beam's.
        output: the folder of the files that are made.
        ending: of these, such as `.png`.
    """

    def __init__(self, patterns: Sequence[str], output: str, ending: str):
        self._folder = folder_of(patterns)
        self._output, self._ending = output.rstrip("/"), ending
        # Below it lie answers, unless the pictures themselves do.
        answers = place(f"{self._output}/") if self._output else None
        self._answers = None if answers is None or place(self._folder).startswith(answers) else answers
        # What was asked for by its ending is a picture too.
        self._endings = {*IMAGE_ENDINGS, *(os.path.splitext(pattern)[1].lower() for pattern in patterns)} - {""}
        below = [_relative(pattern, self._folder) for pattern in patterns]
        self._takes_hidden = any("/." in f"/{pattern}".replace("/..", "") for pattern in below)

    def relative(self, uri: str) -> str:
        """Returns a picture's path below the folder of all; of one that lies elsewhere, its path without scheme."""
        return _relative(uri, self._folder)

    def is_picture(self, uri: str) -> bool:
        """Returns whether a file is a picture by its name; hidden files, and those of an earlier run, are none."""
        name = self.relative(uri)
        is_answer = self._answers is not None and place(uri).startswith(self._answers)
        is_hidden = not self._takes_hidden and f"/{name}".find("/.") >= 0
        return not is_answer and not is_hidden and self._has_ending(name)

    def stem(self, uri: str) -> str:
        """Returns a picture's path below the folder without its ending; pictures of one stem could want one name."""
        return os.path.splitext(self.relative(uri))[0]

    def stem_of_answer(self, path: str) -> str:
        """Returns the stem of the picture that a file was made of, however the folder of answers was written then."""
        stem = os.path.splitext(_relative(path, f"{self._output}/"))[0]
        return os.path.splitext(stem)[0] if self._has_ending(stem) else stem

    def answers(self, uris: Sequence[str]) -> dict[str, str]:
        """Returns the paths of the files of pictures of one stem: `STEM.png`, or `STEM.EXT.png` where several share it.

        Where the stem itself looks like a picture's name, the ending stays too: `x.jpg.jpg` is not taken for `x.jpg`.
        """
        keeps = len(uris) > 1 or any(self._has_ending(self.stem(uri)) for uri in uris)
        names = {uri: (self.relative(uri) if keeps else self.stem(uri)) + self._ending for uri in uris}
        return {uri: f"{self._output}/{name}" for uri, name in names.items()}

    def _has_ending(self, name: str) -> bool:
        return os.path.splitext(name)[1].lower() in self._endings


def place(path: str) -> str:
    """Returns where a path leads, however it is written; one with a slash at its end is a folder's, and has it then."""
    if "://" in path:
        return path
    folder, name = os.path.split(path)
    return f"{_real_folder(os.path.join(os.getcwd(), folder)).rstrip('/')}/{name}"


def as_utf_8(path: str) -> str:
    """Returns a path as text that every table can hold: bytes that are not UTF-8 become their hexadecimal numbers."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _relative(path: str, folder: str) -> str:
    """Returns a path below a folder, however both are written; of one that lies elsewhere, it without scheme."""
    if folder and path.startswith(folder):
        return path[len(folder) :]
    real, top = place(path), place(folder)
    return real[len(top) :] if folder and real.startswith(top) else (path.partition("://")[2] or path).lstrip("/")


# There are many pictures in a folder.
_real_folder = functools.lru_cache(maxsize=1 << 12)(os.path.realpath)


def folder_of(patterns: Sequence[str]) -> str:
    """Returns the folder, with a slash at its end, that all pictures of some patterns lie below; empty for none."""
    folders = [text[: text.rfind("/") + 1] for text in map(files.fixed_part, patterns)]
    shared = os.path.commonprefix(folders)  # noqa: RUF071
    shared = shared[: shared.rfind("/") + 1]
    is_plain = shared and not any("/../" in f"/{folder}" for folder in folders)
    if is_plain or not all(pattern and files.is_local(pattern) for pattern in patterns):
        return shared
    return os.path.join(os.path.commonpath([place(folder or "./") for folder in folders]), "")
