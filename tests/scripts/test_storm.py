"""A short storm, in which nothing may break, and the corpus of bad pictures; and that a storm sees what is wrong."""

from pathlib import Path

import keras
import numpy as np
import pytest
from exporting import export_unchecked
from maskport.serving.server import EmbeddedServer, ServerSettings
from maskport.serving.server.fronts.grpc_front import GrpcSettings
from maskport.serving.server.models.loading import LoadSettings
from maskport.serving.server.models.text_configs import BatchingSettings
from maskport.serving.server.server import ANY_PORT
from storms import pictures
from storms.requests import MODEL, DefectError
from storms.storm import Storm

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(path for path in CORPUS.iterdir() if path.suffix != ".md")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server, with batching, of a model that answers its picture's own brightness."""
    shown = keras.layers.Conv2D(1, 1, use_bias=False, name="brightness")
    model = keras.Sequential([keras.layers.Input((None, None, 3)), shown])
    shown.set_weights([pictures.WEIGHTS.reshape(1, 1, 3, 1)])
    signatures = ["mask_png", "mask", "probability_png"]
    base_path = tmp_path_factory.mktemp("storm") / MODEL
    export_unchecked(model, base_path, scaling="unit", signatures=signatures, decode="exact")
    settings = ServerSettings(
        grpc_port=ANY_PORT,
        load=LoadSettings(batching=BatchingSettings(), warms_up=False),
        drain_timeout_s=2,
        grpc=GrpcSettings(8),
    )
    with EmbeddedServer(base_path, settings=settings) as server:
        yield server


@pytest.fixture
def storm(server):
    ports = (int(address.rpartition(":")[2]) for address in (server.grpc_address, server.rest_address))
    storm = Storm("127.0.0.1", *ports, threads=4)
    yield storm
    storm.close()


def test_a_short_storm_breaks_nothing_and_nobody_else_notices(storm):
    storm.run(range(1_000_000, 1_000_400), calm_callers=1)
    outcome = storm.outcome
    assert outcome.defects == []
    assert outcome.requests == 400
    assert len(outcome.kinds) == 8
    assert min(outcome.compared, outcome.refused) > 20
    assert outcome.calm > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_bad_picture_is_refused_or_masked_as_pillow_decodes_it_and_its_neighbours_are_well(storm, path):
    storm.send_picture(pictures.Sample(path.name, path.read_bytes()))
    assert storm.outcome.alone in ([], [path.name])


def test_the_corpus_is_small_and_holds_pictures_of_both_kinds():
    assert sum(path.stat().st_size for path in FILES) < 300_000
    read = [pictures.decode(path.read_bytes()) is not None for path in FILES]
    assert 10 < sum(read) < len(FILES) - 10


def test_a_storm_sees_another_picture_in_the_place_of_one(storm, monkeypatch):
    sample = pictures.Sample("rgb.png", pictures.bases()["rgb.png"])
    storm.send_picture(sample)
    assert storm.outcome.compared == 1
    real = pictures.decode
    wrong = real(sample.data)._replace(answer=np.fliplr(real(sample.data).answer))
    monkeypatch.setattr(pictures, "decode", lambda data: wrong if data == sample.data else real(data))
    with pytest.raises(DefectError, match="not of the pixels that Pillow decodes"):
        storm.send_picture(sample)
