"""What docs/sources.md shows for PyTorch, PaddlePaddle and JAX runs as printed, where these are installed.

They are too large for what scripts/install puts there.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from skimage import data

PAGE = (Path(__file__).parents[1] / "docs/sources.md").read_text(encoding="utf-8")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's

TORCH_MODEL = """
import numpy as np, torch
torch.manual_seed(5)
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
    torch.nn.Conv2d(8, 2, 3, padding=1), torch.nn.Upsample(scale_factor=2, mode="bilinear"))
{code}
picture = torch.from_numpy(np.load("picture.npy").transpose(2, 0, 1)[None])
np.save("wanted.npy", torch.softmax(model(picture), 1)[0, 1].detach().numpy())
"""
PADDLE_MODEL = """
import numpy as np, paddle
paddle.seed(5)
model = paddle.nn.Sequential(
    paddle.nn.Conv2D(3, 8, 3, padding=1), paddle.nn.BatchNorm2D(8), paddle.nn.ReLU(), paddle.nn.MaxPool2D(2),
    paddle.nn.Conv2DTranspose(8, 2, 2, stride=2))
model.eval()
form = paddle.static.InputSpec([None, 3, 512, 512], name="x")
paddle.jit.save(paddle.jit.to_static(model, input_spec=[form]), "saved/inference")
picture = paddle.to_tensor(np.load("picture.npy").transpose(2, 0, 1)[None])
np.save("wanted.npy", paddle.nn.functional.softmax(model(picture), 1)[0, 1].numpy())
"""
JAX_MODEL = """
import jax, numpy as np
kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 1)).astype(np.float32)
def predict(pictures):
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.nn.sigmoid(jax.lax.conv_general_dilated(pictures, kernel, (1, 1), "SAME", dimension_numbers=axes))
{code}
np.save("wanted.npy", np.asarray(predict(np.load("picture.npy")[None]))[0, :, :, 0])
"""


def code_of(word):
    """The one Python snippet of the page that has a word in it."""
    (code,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if word in text]
    return code


def run(folder, *command):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def check_export(folder, picture):
    """Compares the exported mask of a picture, uint8 [H, W, 3], with the framework's own probability."""
    signatures = tf.saved_model.load(str(folder / "served/mine/1")).signatures
    mask = signatures["mask"](tf.constant(picture[None]))["mask"].numpy()[0, :, :, 0]
    wanted = np.load(folder / "wanted.npy")
    decided = np.abs(wanted - 0.5) > 1e-4
    assert decided.mean() > 0.9  # black is halfway to a kernel without a bias
    assert 0.02 < (wanted > 0.5).mean() < 0.98
    np.testing.assert_array_equal(mask[decided] > 0, wanted[decided] > 0.5)


def write_scaled(folder, picture):
    """Writes a picture as a model takes it that is trained as ImageNet's are."""
    scaled = (picture / np.float32(255) - np.float32(MEAN)) / np.float32(DEVIATION)
    np.save(folder / "picture.npy", scaled.astype(np.float32))


def check_onnx(folder, picture):
    """Exports model.onnx as the page says, and compares it."""
    (command,) = re.findall(r"^mask-export --source=model.onnx --scaling.*$", PAGE, re.MULTILINE)
    run(folder, *shlex.split(command))
    check_export(folder, picture)


def test_a_model_of_pytorch(tmp_path):
    for name in ("torch", "onnx", "onnxscript"):
        pytest.importorskip(name)
    picture = data.astronaut()
    write_scaled(tmp_path, picture)
    run(tmp_path, sys.executable, "-c", TORCH_MODEL.format(code=code_of("torch.onnx.export(model")))
    check_onnx(tmp_path, picture)


def test_a_model_of_paddle(tmp_path):
    """Looked for by their modules, as importing PaddlePaddle beside TensorFlow is not what people do."""
    if not all(map(importlib.util.find_spec, ("paddle", "paddle2onnx"))):
        pytest.skip("PaddlePaddle or paddle2onnx is not installed")
    picture = data.astronaut()
    write_scaled(tmp_path, picture)
    run(tmp_path, sys.executable, "-c", PADDLE_MODEL)
    (command,) = re.findall(r"^paddle2onnx .*$", PAGE, re.MULTILINE)
    run(tmp_path, *shlex.split(command.replace("FOLDER", "saved").replace("NAME", "inference")))
    check_onnx(tmp_path, picture)


def test_a_function_of_jax(tmp_path):
    pytest.importorskip("jax")
    picture = data.astronaut()[:256, 128:384]
    np.save(tmp_path / "picture.npy", picture / np.float32(255))
    run(tmp_path, sys.executable, "-c", JAX_MODEL.format(code=code_of("jax2tf.convert")))
    run(
        tmp_path,
        "mask-export",
        "--source=saved_model",
        "--scaling=unit",
        "--activation=none",
        "--output_dir=served/mine",
    )
    check_export(tmp_path, picture)
