"""README, docs and the rest: links lead somewhere, commands parse, snippets know their names, the reference is true."""

import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import write_reference
import yaml
from maskport.export.spec import make_spec

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*/*.md")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PASSED_ON = {"mask-batch": ("--runner", "--direct_num_workers", "--direct_running_mode")}  # Beam's own
GIVEN = {"docs/sources.md": {"model", "predict"}, "docs/tfx.md": {"build_and_fit"}}
"""Names that a page's snippets take for granted."""
PARSE = """
import importlib, json, sys
from absl import flags
importlib.import_module(sys.argv[1])
def parsed(words):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        flags.FLAGS(["command", *words])
    except flags.Error as error:
        return str(error)
print(json.dumps([parsed(words) for words in json.load(sys.stdin)]))
"""


def name_of(document):
    return str(document.relative_to(ROOT))


def each_document(function):
    return pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)(function)


def blocks(document, language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", document.read_text(), re.DOTALL | re.MULTILINE)


def commands(text):
    """The simple commands of a shell's text, as lists of words, without comments and variables that are set before."""
    text = re.sub(r"(^|\s)#.*$", r"\1", text.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words, ends = [], "();|&\n"
    for token in [*lexer, "\n"]:
        if not set(token) <= set(ends):
            words.append(token)
            continue
        while words and (words[0] in ("$", "!", "until", "if", "do", "then") or re.match(r"\w+=", words[0])):
            words.pop(0)
        if words:
            yield words
        words = []


def of_the_house(document):
    """The command lines of this project's commands: the command, and its words up to a redirection."""
    for text in blocks(document, "(?:sh|bash|console)"):
        for words in commands(text):
            command = Path(words[0]).name
            if command in PROJECT["scripts"]:
                end = next((at for at, word in enumerate(words) if word in ("<", ">", ">>", "--")), len(words))
                yield command, words[1:end]


@functools.cache
def problems_of(command):
    """Each way that the documents call a command: document, words, and what the command's own parser says of them."""
    passed_on = PASSED_ON.get(command, ())
    calls = [
        (name_of(document), [word for word in words if word.partition("=")[0] not in passed_on and word[:1] != "$"])
        for document in DOCUMENTS
        for one, words in of_the_house(document)
        if one == command
    ]
    done = subprocess.run(
        [sys.executable, "-c", PARSE, write_reference.console_scripts()[command]],
        input=json.dumps([words for _, words in calls]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [(*call, problem) for call, problem in zip(calls, json.loads(done.stdout), strict=True)]


@functools.cache
def help_of(command):
    module = write_reference.console_scripts()[command]
    program = f"import sys; sys.argv = ['{command}', '--help']; from {module} import run; run()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_commands_are_shown_as_they_can_be_typed(command):
    calls = problems_of(command)
    assert calls, f"no document shows {command}"
    assert [(document, words, problem) for document, words, problem in calls if problem] == []
    if command == "mask-client":
        for document, words, _ in calls:
            assert f"mask-client {words[0]}" in help_of(command), (document, words)


@each_document
def test_flags_that_are_named_are_there(document):
    for text in re.findall(r"`([^`\n]+)`", document.read_text()):
        command = next((word for word in text.split() if word in PROJECT["scripts"]), None)
        for flag in re.findall(r"(?<!\S)--([a-z_]+)", text.partition(command)[2]) if command else ():
            known = help_of(command)
            assert f"--{flag}:" in known or f"--[no]{flag.removeprefix('no')}:" in known or flag == "help", (text, flag)


def anchors(document):
    """The anchors of a page's headings, as forges and the site's generator make them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        yield re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", words))


@each_document
def test_links_lead_to_files_and_headings_that_are_there(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        if "://" in target:
            continue
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), target
        if anchor:
            assert anchor in set(anchors(path)), f"{target}#{anchor}"


@each_document
def test_scripts_and_extras_that_are_named_are_there(document):
    text = document.read_text()
    for name in re.findall(r"`(?:\.venv/bin/python |python )?((?:scripts|examples)/[\w./]+)", text):
        assert (ROOT / name.rstrip(".")).exists(), name
    for extras in re.findall(r"pip install '(?:maskport|\.|/src)\[([\w,]+)\]'", text):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), extras


def test_snippets_know_their_names(tmp_path):
    """By pyflakes: all snippets of a page are one module, which imports or makes what it uses."""
    for document in DOCUMENTS:
        given = "".join(f"{name} = None\n" for name in sorted(GIVEN.get(name_of(document), ())))
        code = given + "\n".join(blocks(document, "python"))
        if "docs/reference" not in str(document):
            (tmp_path / name_of(document).replace("/", "-")).with_suffix(".py").write_text(code)
    checks = ["--isolated", "--select=F", "--ignore=F401,F811", "--output-format=concise"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *checks, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@each_document
def test_snippets_import_what_there_is(document):
    for package, names in re.findall(r"from (maskport[\w.]*) import ([\w, ]+)", "\n".join(blocks(document, "python"))):
        path = Path(importlib.util.find_spec(package).origin)
        listed = path.with_suffix(".pyi") if path.with_suffix(".pyi").exists() else path
        for name in names.split(", "):
            is_module = importlib.util.find_spec(package) and (path.parent / name.strip()).exists()
            assert is_module or re.search(rf"\b{name.strip()}\b", listed.read_text()), f"{package}: {name}"


@each_document
def test_specs_that_are_shown_are_valid(document):
    for text in blocks(document, "yaml"):
        make_spec({"source": "model.keras", "output_dir": "served"} | yaml.safe_load(text))


def test_the_reference_is_what_the_code_says():
    for name, text in write_reference.pages().items():
        stale = "run .venv/bin/python scripts/write_reference.py"
        assert (ROOT / "docs/reference" / name).read_text() == text, f"docs/reference/{name} is out of date: {stale}"
