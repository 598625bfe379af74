"""README and docs: links lead somewhere, and commands have the flags that they are shown with."""

import functools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("models/*/*.md")]
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
PASSED_ON = {
    "mask-batch": ("--runner", "--direct_num_workers", "--direct_running_mode"),  # Beam's own
}


@functools.cache
def help_of(command):
    module, _, function = COMMANDS[command].partition(":")
    program = f"import sys; sys.argv = ['{command}', '--help']; from {module} import {function} as run; run()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def shell_lines(text):
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_shown_with_flags_that_they_have(document):
    for line in shell_lines(document.read_text()):
        words = line.split("#")[0].split()
        names = [Path(word).name for word in words]
        command = next((name for name in names if name in COMMANDS), None)
        if command is None:
            continue
        for word in words[names.index(command) :]:
            flag = word.split("=")[0]
            if flag.startswith("--") and flag not in ("--help", "--", *PASSED_ON.get(command, ())):
                name = flag.removeprefix("--")
                known = help_of(command)
                assert f"--{name}:" in known or f"--[no]{name.removeprefix('no')}:" in known, f"{flag} in: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(document):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_that_are_named_are_there(document):
    for name in re.findall(r"`(?:\.venv/bin/python |python )?(scripts/[\w./]+)", document.read_text()):
        assert (ROOT / name.rstrip(".")).exists(), name
