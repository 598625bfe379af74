"""Labels in a model configuration file of TensorFlow Serving: moved once a version has been verified."""

import itertools
import os
import secrets
from pathlib import Path

from google.protobuf import text_format

from ..wire.messages import ModelConfig, ModelServerConfig
from .errors import LabelError


def move_labels(text: str, model: str, labels: dict[str, int | None]) -> str:
    """Returns a model configuration with some labels moved; comments at its head are kept.

    Args:
        text: of a ModelServerConfig.
        model: whose labels they are.
        labels: version by label; None takes the label away.

    Raises:
        LabelError: the text is no configuration, or has no such model or version.
    """
    config, entry = _parse(text, model)
    for label, version in labels.items():
        _move(entry, label, version)
    return _format(text, config)


def serve_version(text: str, model: str, version: int) -> str:
    """Returns a model configuration that serves one version more; the same where its policy names no versions."""
    config, entry = _parse(text, model)
    if not entry.model_version_policy.HasField("specific") or version in entry.model_version_policy.specific.versions:
        return text
    entry.model_version_policy.specific.versions.append(version)
    return _format(text, config)


def replace_file(path: Path, text: str) -> None:
    """Writes a file in one step, so that readers see the old text or the new one; a link stays a link."""
    path = path.resolve()
    written = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            written.chmod(path.stat().st_mode)
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


def _parse(text: str, model: str) -> tuple[ModelServerConfig, ModelConfig]:
    try:
        config = text_format.Parse(text, ModelServerConfig())
    except text_format.ParseError as error:
        raise LabelError(f"no ModelServerConfig: {error}") from error
    names = [one.name for one in config.model_config_list.config]
    if model not in names:
        raise LabelError(f"no model {model!r}; there are: {', '.join(names) or 'none'}")
    return config, config.model_config_list.config[names.index(model)]


def _format(text: str, config: ModelServerConfig) -> str:
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
