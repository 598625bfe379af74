"""Batching parameters: what is made of what was measured, in the form that TensorFlow Serving reads."""

import re

from maskport.export.publish.batching_parameters import format_parameters
from maskport.serving.server.models.text_configs import read_batching


def parse(text):
    """The values by name, by the plainest reading of the text."""
    return {name: int(value) for name, value in re.findall(r"^(\w+) { value: (\d+) }$", text, re.MULTILINE)}


def test_a_model_that_gains_waits_for_company():
    parameters = parse(format_parameters({1: 0.1, 2: 0.08, 4: 0.05, 8: 0.06}))
    assert parameters["max_batch_size"] == 16
    assert parameters["batch_timeout_micros"] == 10_000


def test_a_model_that_gains_from_large_batches_gets_them():
    assert parse(format_parameters({1: 0.1, 16: 0.05, 32: 0.01}))["max_batch_size"] == 32


def test_a_model_that_gains_nothing_does_not_wait():
    parameters = parse(format_parameters({1: 0.1, 2: 0.099, 4: 0.12}))
    assert parameters["batch_timeout_micros"] == 0
    assert parameters["max_batch_size"] == 16
    assert parameters["num_batch_threads"] >= 1


def test_an_export_without_image_signatures_gets_defaults():
    assert parse(format_parameters({}))["max_batch_size"] == 16


def test_the_embedded_server_reads_the_file(tmp_path):
    file = tmp_path / "batching_params.pbtxt"
    file.write_text(format_parameters({1: 0.1, 2: 0.05}))
    settings, _ = read_batching(str(file))
    assert (settings.max_batch_size, settings.timeout_s, settings.max_enqueued_batches) == (16, 0.01, 64)
