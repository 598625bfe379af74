"""Facts about the machine and the software, with no name of host or path."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

_PACKAGES = ("tensorflow", "keras", "numpy", "grpcio", "protobuf", "openvino", "onnxruntime")
_ROOT = Path(__file__).resolve().parents[2]


def describe_machine() -> dict[str, str]:
    """Returns the facts by heading."""
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    facts["maskport"] = _commit()
    return facts


def load_average() -> str:
    """Returns the load of the last minute: processes that run or wait to."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

    version = importlib.metadata.version("maskport")
    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "export", "serving")
        return f"{version}, commit {git('rev-parse', '--short=12', 'HEAD')}" + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return f"{version}, no git"
