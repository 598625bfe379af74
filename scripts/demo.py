"""The demo: exports a model, serves it, sends a photograph over gRPC and REST, and shows what comes back."""

import base64
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from maskport.export import ExportError, load_spec, pages
from maskport.serving import command_line, contract
from maskport.serving.client import MaskClient, MaskResult, MaskServingError
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
DESCRIPTION = """
Exports a segmentation model, serves it, and sends it a photograph over gRPC and REST.

  scripts/demo                                  the coins of a well-known photograph, by the model in models/coins
  scripts/demo --image=YOUR.jpg                 another picture: the model knows coins and other round objects
  scripts/demo --image=YOUR.jpg --source=YOUR.keras -- --scaling=unit --activation=sigmoid
                                                your model; what follows -- are mask-export's flags
  scripts/demo --serve                          leaves the server up until Ctrl-C

Writes demo_output/: photo.png, mask.png, masked_image.png, overlay.png, side_by_side.png (these four) and index.html.
"""

_IMAGE = flags.DEFINE_string("image", None, "A picture of yours. Default: scikit-image's photograph of coins.")
_SOURCE = flags.DEFINE_string("source", None, "A model of yours: what mask-export takes as --source.")
_SERVE = flags.DEFINE_boolean("serve", False, "Leave the server up, and print calls to try.")
_OUTPUT = flags.DEFINE_string("output_dir", "demo_output", "Where the pictures go.")

LARGE_AT = "longest=512"
"""The model size for photographs larger than the demo model takes; coins have about the size then that it knows."""

TITLES = {
    "photo": "The photograph",
    "mask": "The mask that the server answers",
    "masked_image": "The masked image that the server answers",
    "overlay": "The mask drawn over the photograph by the client",
}

console = Console(highlight=False)


def read_photo(path: str | None, output_dir: Path) -> Path:
    """Returns the file to send: the user's own bytes, or the coins."""
    if path is not None:
        with Image.open(path) as picture:
            ImageOps.exif_transpose(picture).convert("RGB").save(output_dir / "photo.png")
        return Path(path)
    from skimage import data

    Image.fromarray(data.coins()).save(output_dir / "photo.png")
    return output_dir / "photo.png"


def export(output_dir: Path, photo: Path, export_flags: Sequence[str]) -> tuple[Any, Path]:
    """Exports the model, for a photograph; returns the traced plan, to compare with, and the version directory."""
    overrides: dict[str, Any] = dict(flag.removeprefix("--").split("=", 1) for flag in export_flags)
    if _SOURCE.value is None:
        spec_file, name = str(ROOT / "configs/export/coins.yaml"), "coins"
        overrides |= {"source": str(ROOT / "models/coins/coins.keras")}
    else:
        spec_file, name = None, Path(_SOURCE.value).stem
        overrides |= {"source": _SOURCE.value}
    overrides |= {"output_dir": str(output_dir / "models" / name), "keep": 1}
    spec = load_spec(spec_file, overrides)
    with Image.open(photo) as picture:
        pixels = picture.width * picture.height
    if _SOURCE.value is None and pixels > spec.max_model_pixels and "model_size" not in overrides:
        spec = load_spec(spec_file, {**overrides, "model_size": LARGE_AT})
        console.print(f"A photograph of {pixels / 1e6:.0f} megapixels: the model sees it at {LARGE_AT}.\n")
    from maskport.export.exporter import Plan, publishing

    with publishing(spec) as publish:
        plan = Plan.make(spec)
        return plan, publish(plan)


def call(client: MaskClient, photo: Path) -> tuple[MaskResult, float]:
    """Returns what the server answers, and the time in seconds of one call for the mask once all is warm."""
    client.wait_until_ready(timeout=60)
    result = client.segment(photo, outputs=("mask", "masked_image"))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        client.segment(photo)
        times.append(time.perf_counter() - started)
    return result, float(np.median(times))


def check_equal(plan: Any, photo: Path, results: dict[str, MaskResult]) -> None:
    """Makes sure that both transports answer what the model gives in this process.

    Raises:
        ExportError: they do not.
    """
    import tensorflow as tf

    name = contract.signature_name(contract.MASK, encoded=True)
    answer = plan.functions[name](image_bytes=tf.constant([photo.read_bytes()]))
    expected = tf.io.decode_png(answer["mask_bytes"][0]).numpy()[..., 0] > 0
    for transport, result in results.items():
        if not np.array_equal(result.mask, expected):
            raise ExportError(f"the mask over {transport} is not the one that the model gives in this process")


def write_pictures(result: MaskResult, output_dir: Path) -> None:
    # Of 8 bits, so that whatever reads it finds 0 and 255.
    Image.fromarray(result.mask).convert("L").save(output_dir / "mask.png")
    result.save(output_dir / "masked_image.png", product="masked_image")
    result.save(output_dir / "overlay.png", product="overlay")


def kilobytes(count: int) -> str:
    return f"{count / 1000:,.1f} kB"


def account(
    photo: Path, result: MaskResult, times: dict[str, float], plan: Any, version_dir: Path, output_dir: Path
) -> dict[str, str]:
    """Returns what there is to tell, by heading."""
    height, width = result.mask.shape
    channels = plan.model.channels
    naive = 4 * height * width * (channels + 1)
    sent = photo.stat().st_size + len(result.encode(".png", "mask"))
    return {
        "model": plan.model.description,
        "version": str(version_dir),
        "signatures": ", ".join(plan.signatures),
        "photograph": f"{photo.name}, {height} × {width} pixels",
        "mask": f"{result.area:,} pixels, {100 * result.mask.mean():.1f} % of the picture; the same over gRPC, "
        "over REST and in this process",
        "one call": ", ".join(f"{1000 * seconds:.0f} ms over {name}" for name, seconds in times.items()),
        "on the wire": f"{kilobytes(sent)}, where float tensors would take {kilobytes(naive)}: "
        f"{naive / sent:.0f} times as much",
    }


def write_side_by_side(output_dir: Path) -> None:
    """Writes the four pictures in a row, small: docs/demo.png is such a one."""
    small = []
    for name in TITLES:
        with Image.open(output_dir / f"{name}.png") as picture:
            small.append(ImageOps.contain(picture.convert("RGB"), (256, 256)))
    row = Image.new("RGB", (len(small) * (small[0].width + 8) - 8, small[0].height), "white")
    for index, picture in enumerate(small):
        row.paste(picture, (index * (picture.width + 8), 0))
    row.quantize(128).save(output_dir / "side_by_side.png", optimize=True)


def write_page(facts: dict[str, str], output_dir: Path) -> None:
    shown = []
    for name, title in TITLES.items():
        with Image.open(output_dir / f"{name}.png") as picture:
            shown.append(pages.Shown.of(title, picture))
    page = pages.render("demo", title="A served mask", shown=shown, facts=facts)
    (output_dir / "index.html").write_text(page, encoding="utf-8")


def calls_to_try(server: Any, name: str, photo: Path, output_dir: Path) -> str:
    """Returns snippets that work as they are printed, while the server runs."""
    request = output_dir / "request.json"
    encoded = base64.b64encode(photo.read_bytes()).decode()
    request.write_text(f'{{"signature_name": "mask_png", "inputs": {{"image_bytes": [{{"b64": "{encoded}"}}]}}}}')
    return f"""curl -s {server.rest_address}/v1/models/{name}
curl -s -d @{request} {server.rest_address}/v1/models/{name}:predict
.venv/bin/mask-client segment {photo} --address={server.grpc_address} --model={name} --threshold=0.6 --out={output_dir}/again.png

# .venv/bin/python
from maskport.serving.client import MaskClient
with MaskClient("{server.grpc_address}", model="{name}") as client:
    result = client.segment("{photo}", threshold=0.6)
    print(result.mask.shape, result.area)
"""  # noqa: E501


def main(arguments: Sequence[str]) -> int:
    """Runs the demo."""
    strange = [word for word in arguments if not word.startswith("--") or "=" not in word]
    if strange:
        raise command_line.UsageError(f"unexpected argument {strange[0]!r}")
    output_dir = Path(_OUTPUT.value)
    output_dir.mkdir(parents=True, exist_ok=True)
    photo = read_photo(_IMAGE.value, output_dir)
    if _IMAGE.value and not _SOURCE.value:
        console.print("The demo model knows coins and other round objects in gray; see models/coins/README.md.\n")
    with console.status("Starting TensorFlow …") as status:
        command_line.import_quietly("tensorflow")
        from maskport.serving.server import EmbeddedServer

        status.update("Exporting the model …")
        started = time.perf_counter()
        plan, version_dir = export(output_dir, photo, arguments)
        console.print(f"[green]✓[/green] exported in {time.perf_counter() - started:.1f} s")
        status.update("Starting the server …")
        with EmbeddedServer(version_dir.parent) as server:
            status.update("Sending the photograph …")
            results, times = {}, {}
            name = version_dir.parent.name
            for transport, address in {"gRPC": server.grpc_address, "REST": server.rest_address}.items():
                with MaskClient(address, model=name) as client:
                    results[transport], times[transport] = call(client, photo)
            console.print(f"[green]✓[/green] served on {server.grpc_address} and {server.rest_address}")
            check_equal(plan, photo, results)
            write_pictures(results["gRPC"], output_dir)
            write_side_by_side(output_dir)
            facts = account(photo, results["gRPC"], times, plan, version_dir, output_dir)
            write_page(facts, output_dir)
            status.stop()
            show(facts, output_dir)
            if _SERVE.value:
                console.print(f"\n[bold]In a browser:[/bold] {server.rest_address}/ takes photographs of yours")
                console.print("\n[bold]To try, until Ctrl-C:[/bold]\n")
                print(calls_to_try(server, name, photo, output_dir), flush=True)
                wait_for_interrupt()
    return command_line.EXIT_OK


def show(facts: dict[str, str], output_dir: Path) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for heading, text in facts.items():
        table.add_row(f"[bold]{heading}[/bold]", text)
    console.print()
    console.print(table)
    console.print(f"\nLook at [bold]{output_dir / 'index.html'}[/bold] (photo, mask, masked_image and overlay.png)")
    if not _SERVE.value:
        console.print(
            "Next: scripts/demo --serve (and a page to drop photographs on), scripts/demo --image=YOUR.jpg, "
            ".venv/bin/mask-export --help"
        )


def wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("\nStopping the server.")


if __name__ == "__main__":
    command_line.run_app(
        main,
        program="scripts/demo",
        description=DESCRIPTION,
        user_errors=(ExportError, MaskServingError),
    )
