import pytest
from batch_photos import Photos
from maskport.serving.batch import BatchJob, ServedModel, run_job


@pytest.fixture
def photos(tmp_path):
    return Photos(tmp_path)


@pytest.fixture
def run(photos, serving):
    """Runs the job on the photos by the fake server."""

    def run(patterns=None, words=(), options=None, transport="grpc", **fields):
        model = ServedModel(serving.address(transport), "model")
        patterns = [photos.pattern] if patterns is None else patterns
        return run_job(BatchJob(patterns, str(photos.masks), model, options or {}, **fields), words)

    return run


@pytest.fixture
def asked(serving):
    """How many pictures the fake server was asked for since the last look."""

    def asked():
        count = sum(len(inputs["image_bytes"]) for _, inputs in serving.requests if "image_bytes" in inputs)
        serving.requests.clear()
        return count

    return asked
