"""Small exports to be served, true and faulty, and servers for them."""

import contextlib
import shutil

import pytest
from maskport.export.exporter import Plan
from maskport.export.spec import make_spec
from maskport.serving.server import EmbeddedServer
from maskport.serving.verify import VerifyOptions, read_export, verify
from reference import Toy
from toy_models import keras_model

SIGNATURES = ("serving_default", "mask", "mask_png", "probability", "probability_png", "export_info")


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """Gives a version directory of a toy model, made when its like is first asked for. Never change it: copy it."""
    folder = tmp_path_factory.mktemp("toys")
    made = {}

    def export(seed=1, **fields):
        fields = {"activation": "sigmoid", "scaling": "unit", "signatures": SIGNATURES, "warmup": False, **fields}
        key = (seed, *sorted(fields.items()))
        if key not in made:
            source = folder / f"toy{seed}.keras"
            if not source.exists():
                # The gain makes probabilities that go up and down enough for masks to have both values.
                keras_model(Toy.make(3, 1, seed=seed, gain=6.0)).save(source)
            made[key] = folder / str(len(made)) / "1"
            made[key].mkdir(parents=True)
            Plan.make(
                make_spec(
                    {"source": str(source), "output_dir": str(folder), **fields, "signatures": [*fields["signatures"]]}
                )
            ).write(made[key])
        return made[key]

    return export


@pytest.fixture(scope="session")
def true_export(export):
    """The version directory that every server here ought to serve."""
    return export()


@pytest.fixture
def publish(tmp_path):
    """Copies version directories to where they are served, whole, as a publisher does; gives the base path."""
    base_path = tmp_path / "served" / "toy"

    def publish(**versions):
        for name, directory in versions.items():
            number = name.removeprefix("v")
            shutil.copytree(directory, base_path / f".{number}")
            (base_path / f".{number}").rename(base_path / number)
        return base_path

    return publish


@pytest.fixture
def serve():
    """Starts embedded servers, and stops them."""
    with contextlib.ExitStack() as stack:
        yield lambda base_path, settings=None: stack.enter_context(EmbeddedServer(base_path, "toy", settings=settings))


@pytest.fixture
def check():
    """Verifies a server over both transports; gives the two reports."""

    def check(server, export_dir, **options):
        options = {"repeats": 1, "concurrency": 2, **options}
        report = verify(
            [server.grpc_address, server.rest_address], "toy", read_export(export_dir), VerifyOptions(**options)
        )
        assert len(report.addresses) == 2
        assert report.holds == all(one.holds for one in report.addresses)
        return report.addresses

    return check
