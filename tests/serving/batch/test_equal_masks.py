"""Masks of the job are those of `mask-client segment`: of every kind of picture, by a server and by the SavedModel."""

import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tifffile
from apache_beam.io.fileio import MatchFiles
from batch_photos import rows_of
from exporting import export_unchecked
from maskport.serving.batch import BatchJob, LocalModel, MaskImages, ServedModel, run_job
from maskport.serving.client import InvalidRequestError, MaskClient
from maskport.serving.server import EmbeddedServer
from PIL import Image

MASK_CLIENT = Path(sys.executable).with_name("mask-client")
ORIENTATION = 0x112


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    import keras

    keras.utils.set_random_seed(4)
    image = keras.Input((None, None, 3), name="picture")
    x = keras.layers.Conv2D(4, 5, padding="same", activation="relu")(image)
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x), name="toy")
    base = tmp_path_factory.mktemp("models") / "toy"
    export_unchecked(model, base, scaling="unit", threshold=0.48, signatures="all")
    return base


@pytest.fixture(scope="module")
def server(exported):
    with EmbeddedServer(exported) as server:
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Every kind of picture, and three that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (9, 12, 3), np.uint8)
    photo = np.asarray(Image.fromarray(small).resize((96, 70), Image.Resampling.BICUBIC))
    (folder / "deep/er").mkdir(parents=True)
    Image.fromarray(photo).save(folder / "plain.jpg", quality=85)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(photo).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(photo).save(folder / "deep/plain.png")
    Image.fromarray(photo[..., 0]).save(folder / "deep/gray.png")
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(folder / "deep/er/gray16.png")
    Image.fromarray(np.dstack([photo, photo[..., 0]])).save(folder / "alpha.webp")
    tifffile.imwrite(folder / "rgb16.tif", photo.astype(np.uint16) * 257, photometric="rgb")
    tifffile.imwrite(folder / "rgb8.tif", photo, photometric="rgb")
    large = Image.fromarray(small).resize((2200, 1500), Image.Resampling.BICUBIC)
    large.save(folder / "large.jpg")
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "deep/plain.png").read_bytes()[:900])
    return folder


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.suffix != ".parquet"
            and path.is_file()}  # fmt: skip


def _segment(server, pictures, out, *words):
    """What `mask-client segment` writes, and how many pictures it says failed."""
    words = (*words, f"--address={server.grpc_address}", "--model=toy", f"--out={out}")
    done = subprocess.run([MASK_CLIENT, "segment", pictures, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return _files(out), len(done.stderr.splitlines())


OPTIONS = {
    "mask": {},
    "threshold": {"threshold": 0.45},
    "probability": {"product": "probability"},
    "tif": {"format": "tif"},
    "overlay": {"product": "overlay"},
    "masked image as jpeg": {"product": "masked_image", "format": "jpg"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_files_are_the_clients_byte_for_byte(exported, server, pictures, tmp_path, name):
    options = OPTIONS[name]
    wanted, failed = _segment(server, pictures, tmp_path / "client", *(f"--{k}={v}" for k, v in options.items()))
    assert len(wanted) == 9
    models = {"served": ServedModel(server.grpc_address, "toy"), "loaded": LocalModel(str(exported))}
    if name == "mask":
        models["rest"] = ServedModel(server.rest_address, "toy", 1)
    rows = {}
    for way, model in models.items():
        summary = run_job(BatchJob([str(pictures)], str(tmp_path / way), model, options))
        assert _files(tmp_path / way) == wanted
        assert (summary.masked, summary.failed) == (9, failed)
        rows[way] = rows_of(tmp_path / way / "manifest.parquet")
    for one in rows["served"]:
        row, other = ({**rows[way][one], "milliseconds": 0, "mask": 0, "error": 0} for way in ("served", "loaded"))
        assert row == other


def test_a_job_goes_on_by_the_saved_model_where_one_by_a_server_was(exported, server, pictures, tmp_path):
    run_job(BatchJob([f"{pictures}/*.jpg"], str(tmp_path), ServedModel(server.grpc_address, "toy")))
    summary = run_job(BatchJob([f"{pictures}/*.jpg"], str(tmp_path), LocalModel(str(exported / "1"))))
    assert (summary.masked, summary.skipped, summary.failed) == (0, 3, 2)


def test_the_transform_fits_into_another_pipeline(exported, server, pictures):
    class Sizes(beam.DoFn):
        def process(self, record, window=beam.DoFn.WindowParam):
            yield record.uri, record.height, record.width, record.area, len(record.content), window.end

    with beam.Pipeline("FnApiRunner") as pipeline:
        masked = (
            pipeline
            | MatchFiles(f"{pictures}/*.jpg")
            | "times" >> beam.Map(lambda one: beam.window.TimestampedValue(one.path, 25))
            | beam.WindowInto(beam.window.FixedWindows(10))
            | MaskImages(LocalModel(str(exported)), batch_size=2)
        )
        sizes = masked.masks | beam.ParDo(Sizes())
        bad = masked.failed | beam.Map(lambda record: (record.uri, record.error, record.content))
        whole = (sizes, bad) | beam.Flatten() | "one window" >> beam.WindowInto(beam.window.GlobalWindows())
        _ = whole | beam.combiners.ToList() | beam.Map(_expect_photos(pictures, server.grpc_address))


def _expect_photos(pictures, address):
    """A function that compares what came out with the client's own answers; in the pipeline, which may copy it."""

    def check(rows):
        masked = {Path(row[0]).name: row[1:] for row in rows if len(row) == 6}
        assert set(masked) == {"plain.jpg", "turned.jpg", "large.jpg"}
        with MaskClient(address, "toy") as client:
            for name, (height, width, area, length, end) in masked.items():
                result = client.segment(pictures / name)
                assert ((height, width), area) == (result.size, result.area)
                assert length == len(result.encode(".png"))
                assert end == 30
        assert {Path(row[0]).name for row in rows if len(row) == 3} == {"empty.jpg", "text.jpg"}

    return check


def test_arguments_that_make_no_sense_are_found_when_the_pipeline_is_made():
    model = ServedModel("grpc://127.0.0.1:1", "m")
    for options in ({"threshold": 2}, {"bands": (0,)}, {"format": "bmp"}, {"product": "class_map", "threshold": 0.5}):
        with pytest.raises(InvalidRequestError):
            MaskImages(model, **options)
