"""Builds the site: the pages with what they link to, in the folders that they have here, so that all links stay true.

    scripts/docs                  into site/
    scripts/docs --output=FOLDER  there instead; what is there is replaced

What the generator would load from elsewhere, the search's shim for pages opened as files, is put beside the pages.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "docs/assets"
OUTSIDE = re.compile(r'(src|href)="?https://unpkg\.com/iframe-worker/shim"?')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "site")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:  # the generator writes beside its settings
        place = Path(folder)
        shutil.copy(ROOT / "zensical.toml", place)
        gather(place / "source")
        zensical = Path(sys.executable).parent / "zensical"
        done = subprocess.run([zensical, "build", "--strict"], cwd=place, check=False)
        if done.returncode:
            return done.returncode
        site = place / "site"
        for page in site.rglob("*.html"):
            to_root = "../" * (len(page.relative_to(site).parts) - 1)
            page.write_text(OUTSIDE.sub(rf'\1="{to_root}docs/assets/iframe_worker.js"', page.read_text()))
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(site, output)
    print(f"built {output / 'index.html'}")
    return 0


def gather(source: Path) -> None:
    """Copies the pages, and the files that they link to."""
    for page in pages():
        for path in {page, *linked(page), *ASSETS.iterdir()}:
            target = source / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def pages() -> Iterator[Path]:
    """Yields what is read as a page: all Markdown at the top, in docs/, and the models' cards."""
    for pattern in ("*.md", "docs/**/*.md", "models/*/README.md"):
        yield from sorted(ROOT.glob(pattern))


def linked(page: Path) -> Iterator[Path]:
    """Yields the files of this repository that a page links to, or shows."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        if "://" not in target and path.is_file():
            yield path


if __name__ == "__main__":
    sys.exit(main())
