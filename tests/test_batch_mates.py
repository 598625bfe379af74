"""Strangers in one batch: with server-side batching on, a bad picture or another size fails nobody else."""

import io
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from maskport.serving.client import InvalidImageError, MaskClient
from PIL import Image
from processes import running
from skimage import data
from waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
CALLERS = 16
CALLS_EACH = 15


@pytest.fixture(scope="module")
def address(coins_export, tmp_path_factory):
    command = [
        sys.executable, "-m", "maskport.serving.server", "--port=0", "--model_name=coins",
        f"--model_base_path={coins_export}", "--enable_batching",
        f"--batching_parameters_file={ROOT / 'configs/serving/batching.config'}",
    ]  # fmt: skip
    socket_path = tmp_path_factory.mktemp("socket") / "grpc"
    command.append(f"--grpc_socket_path={socket_path}")
    with running(command, stderr=subprocess.DEVNULL):
        yield f"unix://{socket_path}"


def photograph(number):
    """The real photograph, turned, mirrored and cropped: a different size for each number."""
    pixels = np.rot90(data.coins(), number % 4)[:: 1 if number % 3 else -1]
    pixels = pixels[: 200 + 7 * (number % 11), : 210 + 5 * (number % 13)]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG" if number % 2 else "PNG")
    return file.getvalue(), pixels.shape


def test_no_good_request_fails_beside_bad_pictures_and_other_sizes(address):
    with MaskClient(address, model="coins") as client:
        client.wait_until_ready(timeout=PATIENCE_S)
        alone = {number: client.segment(photograph(number)[0]).mask for number in range(CALLERS)}

        def call_many(caller):
            outcomes = []
            for turn in range(CALLS_EACH):
                number = caller * CALLS_EACH + turn
                if number % 20 == 7:  # 5 % are bad
                    with pytest.raises(InvalidImageError, match="cannot be decoded"):
                        client.segment(photograph(number)[0][:200])
                    outcomes.append("bad")
                else:
                    file, shape = photograph(caller)
                    mask = client.segment(file).mask
                    assert mask.shape == shape
                    assert np.count_nonzero(mask != alone[caller]) <= 3  # a batch may round another way
                    outcomes.append("good")
            return outcomes

        with ThreadPoolExecutor(CALLERS) as pool:
            outcomes = list(itertools.chain.from_iterable(pool.map(call_many, range(CALLERS))))
    assert (outcomes.count("bad"), outcomes.count("good")) == (12, 228)
