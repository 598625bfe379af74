"""Masks a folder of photographs, and writes a table of what was found.

    python examples/folder.py photos masks --address=grpc://localhost:8500 --model=coins

What is there already is left as it is: run it again after a failure, or when photographs have come.
`mask-client segment` does the same without code, `mask-batch` with millions; this is for changing.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from maskport.serving.client import MaskClient, SegmentItem

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def todo(photos: Path, masks: Path) -> Iterator[Path]:
    """Yields the photographs that have no mask yet, as they are wanted: there may be any number."""
    for path in sorted(photos.rglob("*")):
        is_photo = path.suffix.lower() in ENDINGS and masks.resolve() not in path.resolve().parents
        if is_photo and not target(path, photos, masks).exists():
            yield path


def target(photo: Path, photos: Path, masks: Path) -> Path:
    """Returns where a photograph's mask goes: `photos/a/1.jpg` to `masks/a/1.jpg.png`."""
    return masks / photo.relative_to(photos).with_name(f"{photo.name}.png")


def save(item: SegmentItem, path: Path) -> None:
    """Saves a mask under another name first, so that what has its own is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.png")
    item.result.save(partial)
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 1 where a photograph failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--address", default="grpc://localhost:8500")
    parser.add_argument("--model", default="coins")
    parser.add_argument("--threshold", type=float, help="0 to 1; the export's own unless it is given")
    options = parser.parse_args(arguments)
    if options.masks.resolve() in (options.photos.resolve(), *options.photos.resolve().parents):
        parser.error("the masks need a folder that does not hold the photographs")
    options.masks.mkdir(parents=True, exist_ok=True)

    failed = 0
    with (
        MaskClient(options.address, model=options.model, timeout=60) as client,
        open(options.masks / "masks.csv", "a", newline="") as file,
    ):
        client.wait_until_ready(timeout=60)
        table = csv.writer(file)
        photos = todo(options.photos, options.masks)
        for item in client.segment_many(photos, options.threshold, concurrency=8):
            if item.error is not None:
                failed += 1
                print(f"{item.source}: {item.error}", file=sys.stderr)
                continue
            save(item, target(item.source, options.photos, options.masks))
            table.writerow(
                [item.source.relative_to(options.photos), item.result.area, f"{item.result.mask.mean():.4f}"]
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
