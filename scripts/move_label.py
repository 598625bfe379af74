"""Moves labels in a model configuration file of TensorFlow Serving: the step of every canary and rollback.

    .venv/bin/python scripts/move_label.py FILE --model=coins stable=2 canary=2

FILE is replaced in one step, so that a server that polls it (--model_config_file_poll_wait_seconds) never reads half
of it. A label that FILE does not have yet is added; LABEL= takes one away. A version must be one of those that the
model's policy names, as a label of a version that is not served stands for nothing.
"""

import argparse
import itertools
import os
import sys
import tempfile
from pathlib import Path

from google.protobuf import text_format
from maskport.serving.wire.messages import ModelConfig, ModelServerConfig


class LabelError(Exception):
    """The labels cannot be moved so."""


def move_labels(text: str, model: str, labels: dict[str, int | None]) -> str:
    """Returns a model configuration with some labels moved; comments at its head are kept.

    Args:
        text: of a ModelServerConfig.
        model: whose labels they are.
        labels: version by label; None takes the label away.

    Raises:
        LabelError: the text is no configuration, or has no such model or version.
    """
    try:
        config = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise LabelError(f"no ModelServerConfig: {error}") from error
    names = [one.name for one in config.model_config_list.config]
    if model not in names:
        raise LabelError(f"no model {model!r}; there are: {', '.join(names) or 'none'}")
    entry = config.model_config_list.config[names.index(model)]
    for label, version in labels.items():
        _move(entry, label, version)
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True))
    return "".join(head) + text_format.MessageToString(config)


def _move(entry: ModelConfig, label: str, version: int | None) -> None:
    if version is None:
        if label not in entry.version_labels:
            raise LabelError(f"model {entry.name!r} has no label {label!r} to take away")
        del entry.version_labels[label]
        return
    policy = entry.model_version_policy
    served = list(policy.specific.versions) if policy.HasField("specific") else []
    if version not in served:
        there = ", ".join(map(str, served)) or "none: its policy is not `specific`"
        raise LabelError(f"version {version} is not one that model {entry.name!r} is to serve; those are: {there}")
    entry.version_labels[label] = version


def replace_file(path: Path, text: str) -> None:
    """Writes a file in one step, so that readers see the old text or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        os.chmod(file.name, path.stat().st_mode)
    os.replace(file.name, path)


def _label(word: str) -> tuple[str, int | None]:
    name, separator, version = word.partition("=")
    if not name or not separator or not (version == "" or version.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is not LABEL=VERSION, nor LABEL= to take one away")
    return name, int(version) if version else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the model configuration file")
    parser.add_argument("labels", nargs="+", type=_label, metavar="LABEL=VERSION")
    parser.add_argument("--model", required=True)
    words = parser.parse_args()
    try:
        replace_file(words.file, move_labels(words.file.read_text(), words.model, dict(words.labels)))
    except (LabelError, OSError) as error:
        print(f"move_label: {words.file}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
