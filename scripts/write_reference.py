"""Writes docs/reference/ from the code: flags, the spec, signatures, errors, metrics and the Python API.

    .venv/bin/python scripts/write_reference.py

The pages are in the repository, so that they can be read anywhere, and a test tells when they are out of date. Nothing
of maskport that needs TensorFlow is imported: what has docstrings is read as text.
"""

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

from maskport.export.spec import ExportSpec
from maskport.serving import contract
from maskport.serving.client import MaskServingError, errors

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/reference"
PACKAGES = (
    "maskport.serving.client", "maskport.export", "maskport.serving.server", "maskport.serving.verify",
    "maskport.serving.batch", "maskport.export.calibrate", "maskport.export.evaluate", "maskport.export.inspect",
)  # fmt: skip
LIST_FLAGS = """
import importlib, json, sys
from absl import flags
flags.FLAGS.mark_as_parsed()
module = importlib.import_module(sys.argv[1])
keys = flags.FLAGS.get_key_flags_for_module(module.__name__)
shown = lambda one: "" if one.default in (None, False, [], "") else f"`{one.default_as_str[1:-1]}`"
print(json.dumps([[one.name, one.boolean, one.help, shown(one)] for one in sorted(keys, key=lambda one: one.name)]))
"""
SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Returns each page's text, by the name of its file."""
    writers = {
        "flags.md": flags_page, "spec.md": spec_page, "signatures.md": signatures_page, "errors.md": errors_page,
        "metrics.md": metrics_page, "python.md": python_page,
    }  # fmt: skip
    generated = "<!-- Written by scripts/write_reference.py: change the code, not this page. -->"
    written = {name: f"{generated}\n\n" + "\n".join(write()).rstrip() + "\n" for name, write in writers.items()}
    return {name: re.sub(r"\n{3,}", "\n\n", text) for name, text in written.items()}


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    yield from ("", "| " + " | ".join(head) + " |", "|" + "---|" * len(list(head)))
    for row in rows:
        yield "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in row) + " |"
    yield ""


# ---- command lines ----


def console_scripts() -> dict[str, str]:
    """Returns the module of each command."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    modules = dict(
        re.findall(r'^(\w+) = _command\("([\w.]+)"\)', (ROOT / "serving/entry.py").read_text(), re.MULTILINE)
    )
    return {name: modules[target.partition(":")[2]] for name, target in scripts.items()}


def flags_of(module: str) -> list[tuple[str, bool, str, str]]:
    """Returns of each flag of a command its name, whether it is boolean, its help and its default."""
    done = subprocess.run([sys.executable, "-c", LIST_FLAGS, module], capture_output=True, text=True, check=True)
    return [tuple(one) for one in json.loads(done.stdout)]


def as_prose(text: str) -> str:
    """Returns a flag's help as Markdown."""
    if choices := re.match(r"<([\w|]+)>: ", text):
        text = f"{text[choices.end() :]} One of: {', '.join(choices[1].split('|'))}."
    text = re.sub(r"\b(\w+://[\w:/.]*)", r"`\1`", text)
    return re.sub(r"([*<])", r"\\\1", text.replace(";\n    repeat this option to specify a list of values", ""))


def flags_page() -> Iterator[str]:
    yield "# Flags\n\nEach command also has `--help`, `--helpfull` (absl's own flags too) and `--debug` (tracebacks)."
    for command, module in console_scripts().items():
        yield f"\n## {command}"
        flags = flags_of(module)
        fields = (
            [name for name, *_ in flags if name in ExportSpec.model_fields]
            if "spec" in dict.fromkeys(name for name, *_ in flags)
            else []
        )
        others = [flag for flag in flags if flag[0] not in fields]
        own = [(f"`--{'[no]' * boolean}{name}`", as_prose(text), default) for name, boolean, text, default in others]
        yield from table(("flag", "meaning", "default"), own)
        if fields:
            every = len(fields) == len(ExportSpec.model_fields)
            which = "every field" if every else ", ".join(f"`--{name}`" for name in fields)
            yield f"And one for {which} of [the spec](spec.md), with the same meaning, which overrides the spec's."


# ---- what an export is made by, and what it answers ----


def spec_page() -> Iterator[str]:
    yield "# The export spec"
    yield "\nFields of the YAML file of `--spec`, flags of `mask-export`, and keyword arguments of `export_model`."
    yield "What they do, step by step: [Exporting a model](../export.md)."

    def rows() -> Iterator[tuple[str, str, str]]:
        for name, field in ExportSpec.model_fields.items():
            default = "needed" if field.is_required() else json.dumps(field.default, default=lambda _: "off")
            choices = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
            said = f" One of: {', '.join(f'`{one}`' for one in choices)}." if choices else ""
            default = "" if default == "null" else default if field.is_required() else f"`{default}`"
            yield f"`{name}`", (field.description or "") + said, default

    yield from table(("field", "meaning", "default"), rows())


def signatures_page() -> Iterator[str]:
    yield "# Signatures\n"
    tensors = (contract.__doc__ or "").partition("Shapes, with")[2]
    yield "Which of them an export has is said by its spec and its model; `mask-inspect` and `metadata()` list them."
    names = contract.SIGNATURES.values()
    listed = (
        (f"`{one.name}`", *(", ".join(f"`{name}`" for name in names) for names in (one.inputs, one.outputs)))
        for one in names
    )
    yield from table(("signature", "inputs", "outputs"), listed)
    yield inspect.getsource(contract).partition("SIGNATURES: Mapping")[2].split('"""')[1].partition("\n\n")[2].strip()
    yield f"\nShapes, with{tensors}"
    yield "The text of `error` begins with one of: " + ", ".join(f"`{text}`" for text in contract.IMAGE_ERRORS) + "."


# ---- what can go wrong, and what is counted ----


def errors_page() -> Iterator[str]:
    yield "# Errors in Python\n\nReal messages, with cause and cure: [Errors](../errors.md).\n\n## Of the client\n"
    yield f"```text\n{(errors.__doc__ or '').partition(chr(10))[2].strip()}\n```"
    family = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, MaskServingError)]

    def rows() -> Iterator[tuple[str, str, str, str]]:
        for one in family:
            meaning = (one.__doc__ or "").partition("\n")[0]
            yield (
                f"`{one.__name__}`",
                meaning,
                f"`{one.default_code.name}`" if one.default_code else "",
                one.default_hint,
            )

    yield from table(("error", "means", "gRPC's status, unless the server names another", "what to do"), rows())
    for of, path in (
        ("an export", "export/errors.py"),
        ("the embedded server", "serving/server/errors.py"),
        ("a verification", "serving/verify/errors.py"),
    ):
        tree = ast.parse((ROOT / path).read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        yield f"\n## Of {of}"
        yield from table(
            ("error", "means"),
            ((f"`{one.name}`", (ast.get_docstring(one) or "").partition("\n\n")[0]) for one in classes),
        )


def metrics_page() -> Iterator[str]:
    yield "# Metrics\n\n## Of the embedded server\n"
    yield "Under TensorFlow Serving's names, at the path of its `monitoring_config_file`."
    yield "Durations are in microseconds. TensorFlow Serving itself has these and more."
    from maskport.serving.server.metrics import Metrics

    registry = Metrics()._registry
    kinds = [(one, next(iter(one.collect()))) for one in registry._collector_to_names]
    rows = (
        (f"`{kind.documentation}`", kind.type, ", ".join(f"`{name}`" for name in one._labelnames))
        for one, kind in kinds
    )
    yield from table(("metric", "kind", "labels"), sorted(rows))
    yield "## Of the client\n\nBy `OpenTelemetryObserver` (extra `otel`), by method, model, signature and status code."
    made = re.findall(
        r'meter.create_(\w+)\("([^"]+)", "([^"]+)", "([^"]+)"\)', (ROOT / "serving/client/telemetry.py").read_text()
    )
    yield from table(
        ("metric", "kind", "unit", "meaning"), ((f"`{name}`", kind, unit, text) for kind, name, unit, text in made)
    )
    yield "What the batch job counts: [Millions of pictures](../batch.md#what-beam-counts)."


# ---- the Python API ----


def python_page() -> Iterator[str]:
    yield "# The Python API\n\nWhat the packages export, by their docstrings."
    yield "Their errors have [a page of their own](errors.md)."
    for package in PACKAGES:
        yield f"\n## {package}"
        folder = ROOT.joinpath(*package.split(".")[1:])
        for node in ast.parse((folder / "__init__.pyi").read_text()).body:
            if isinstance(node, ast.ImportFrom):
                for alias in (one for one in node.names if not one.name.endswith("Error")):
                    yield from described(module_file(folder, node.module or "", node.level), alias.name, "###")


def module_file(folder: Path, module: str, level: int) -> Path:
    base = Path(*folder.parts[: len(folder.parts) - (level - 1)]).joinpath(*module.split("."))
    return base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"


def described(file: Path, name: str, heading: str) -> Iterator[str]:
    """Yields what there is to say of a name of a module, wherever that module has it from."""
    body = ast.parse(file.read_text()).body
    for at, node in enumerate(body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            yield from (of_class if isinstance(node, ast.ClassDef) else of_function)(file, node, heading)
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level
            and any((one.asname or one.name) == name for one in node.names)
        ):
            yield from described(module_file(file.parent, node.module or "", node.level), name, heading)
        elif isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            yield f"\n{heading} {name}\n"
            text = body[at + 1].value if at + 1 < len(body) and isinstance(body[at + 1], ast.Expr) else None
            yield f"`{name} = {ast.unparse(node.value)}`" + (
                f"\n\n{text.value}" if isinstance(text, ast.Constant) else ""
            )


def of_function(file: Path, node: ast.FunctionDef, heading: str, name: str = "") -> Iterator[str]:
    yield f"\n{heading} {name or node.name}\n\n```python\n{signature(node, name or node.name)}\n```\n"
    yield from prose(ast.get_docstring(node))


def of_class(file: Path, node: ast.ClassDef, heading: str) -> Iterator[str]:
    yield f"\n{heading} {node.name}\n"
    families = [node, *bases(file, node)]
    inits = [
        one for owner in families for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"
    ]
    if inits:
        yield f"```python\n{signature(inits[0], node.name)}\n```\n"
    yield from prose(ast.get_docstring(node))
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and not one.target.id.startswith("_")]
    if fields and "Attributes:" not in (ast.get_docstring(node) or "") and node.name != "ExportSpec":
        yield from ("", *(f"- `{ast.unparse(one)}`" for one in fields))
    if node.name == "ExportSpec":
        yield "\nIts fields: [the export spec](spec.md)."
    for owner in families:
        if owner is not node:
            yield f"\nAs any `{owner.name}`: " + " ".join((ast.get_docstring(owner) or "").partition("\n\n")[0].split())
            yield from prose((ast.get_docstring(owner) or "").partition("\n\n")[2])
        for one in owner.body:
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_"):
                yield from of_function(file, one, f"{heading}#", "")
            elif isinstance(one, ast.Assign) and (made := ast.unparse(one.value)).startswith("_waiting(procedures."):
                procedure = made.partition("procedures.")[2].rstrip(")")
                yield from described(file.parent / "procedures.py", procedure, f"{heading}#")


def bases(file: Path, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """Yields those bases of a class that are no errors, of its own module or of one that this imports of the house."""
    body = ast.parse(file.read_text()).body
    for name in (ast.unparse(one) for one in node.bases):
        if name.endswith(("Error", "Exception")):
            continue
        for one in body:
            if isinstance(one, ast.ClassDef) and one.name == name:
                yield one
            elif isinstance(one, ast.ImportFrom) and one.level and any(alias.name == name for alias in one.names):
                found = ast.parse(module_file(file.parent, one.module or "", one.level).read_text()).body
                yield from (other for other in found if isinstance(other, ast.ClassDef) and other.name == name)


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    """Returns a call's form, as it is written: without `self`, on several lines where it is long."""
    own = ast.unparse(node.args)
    own = re.sub(r"^(self|cls)(: \w+)?(, |$)", "", own)
    answer = ast.unparse(node.returns) if node.returns and node.name != "__init__" else ""
    answer = re.sub(r"^Script\[(.*)\]$", r"\1", answer)
    text = f"{name}({own})" + (f" -> {answer}" if answer else "")
    if len(text) > 100:
        depth, out = 0, ""
        for letter in own:  # commas of the arguments, not of their types
            depth += (letter in "[({") - (letter in "])}")
            out += ",\n    " if letter == "," and not depth else letter
        text = f"{name}(\n    {re.sub(r'    +', '    ', out)},\n)" + (f" -> {answer}" if answer else "")
    if any(ast.unparse(one).endswith(("property", "cached_property")) for one in node.decorator_list):
        return f"{name}: {answer}"
    return ("async " if isinstance(node, ast.AsyncFunctionDef) else "") + text


def prose(docstring: str | None) -> Iterator[str]:
    """Yields a docstring in Google's form as Markdown: its sections as lists."""
    section = ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line.strip() in SECTIONS:
            section = line.strip()
            yield f"\n**{section.rstrip(':')}**\n"
        elif section and line.startswith("    ") and not line.startswith("     ") and section != "Returns:":
            name, colon, rest = line.strip().partition(": ")
            yield f"- `{name}`: {rest}" if colon else f"- {line.strip()}"
        elif section and line.startswith("    "):
            yield "  " * (section != "Returns:") + line.strip()
        else:
            section = section if not line else ""
            yield line


if __name__ == "__main__":
    main()
