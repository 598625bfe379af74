import io

import numpy as np
import pytest
from maskport.serving.batch.inference import count_foreground
from PIL import Image


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (4200, 4100)])  # the last is more than Pillow keeps in one block
@pytest.mark.parametrize("mode", ["1", "L"])
def test_foreground_is_counted_as_numpy_counts_it(shape, mode):
    mask = np.random.default_rng(0).random(shape) > 0.7
    file = io.BytesIO()
    Image.fromarray(mask).convert(mode).save(file, "PNG", compress_level=0)
    assert count_foreground(file.getvalue()) == mask.sum()
