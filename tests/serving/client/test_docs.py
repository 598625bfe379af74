"""The examples of docs/client.md, run from top to bottom."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trustme
from maskport.serving.server import EmbeddedServer
from PIL import Image
from skimage import data

DOCS = (Path(__file__).parents[3] / "docs/client.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(coins_export, tmp_path_factory):
    """A folder with the files that the examples name, and the server's addresses in place of theirs."""
    folder = tmp_path_factory.mktemp("docs")
    Image.fromarray(data.coins()).save(folder / "photo.jpg", quality=92)
    (folder / "photos").mkdir()
    for index, corner in enumerate((0, 60)):
        crop = data.coins()[corner : corner + 120, corner : corner + 150]
        Image.fromarray(crop).save(folder / f"photos/coins{index}.jpg")
    (folder / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    authority = trustme.CA()
    own = authority.issue_cert("client@mask.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    own.cert_chain_pems[0].write_to_path(folder / "client.pem")
    own.private_key_pem.write_to_path(folder / "client.key")
    with EmbeddedServer(coins_export) as server:

        def localised(text):
            port = server.rest_address.rpartition(":")[2]
            text = text.replace("grpc://localhost:8500", server.grpc_address)
            return text.replace("localhost:8501", f"localhost:{port}").replace("127.0.0.1:8501", f"127.0.0.1:{port}")

        yield folder, localised


def test_the_python_examples_run(place, monkeypatch, capsys):
    folder, localised = place
    monkeypatch.chdir(folder)
    namespace = {"__name__": "docs"}
    blocks = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    assert len(blocks) >= 10
    for block in blocks:
        exec(compile(localised(block), "docs/client.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "(303, 384) bool" in printed
    assert "['AVAILABLE']" in printed
    assert "photos/broken.jpg: " in printed
    assert "unknown format" in printed
    assert re.search(r"SignatureNotFoundError FAILED_PRECONDITION it has: ", printed)
    assert re.search(r"Predict 1 \d+ ms \d+ None", printed)
    with Image.open(folder / "mask.png") as mask:
        assert mask.mode == "1"
        assert set(np.unique(np.array(mask.convert("L")))) == {0, 255}
    assert sorted(path.name for path in folder.glob("coins?.png")) == ["coins0.png", "coins1.png"]
    with Image.open(folder / "cutout.png") as cutout:
        assert cutout.mode == "RGBA"


def test_the_commands_run(place):
    folder, localised = place
    (block,) = re.findall(r"```console\n(.*?)```", DOCS, re.DOTALL)
    commands = [line.removeprefix("$ ") for line in block.splitlines()]
    assert len(commands) >= 7
    for command in commands:
        done = subprocess.run(
            localised(command).replace("mask-client", f"{Path(sys.executable).parent}/mask-client"),
            shell=True, executable="/bin/bash", cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        # The folder of photographs holds a broken one on purpose.
        assert done.returncode == (1 if "photos" in command else 0), (command, done.stderr)
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (folder / "cutouts").iterdir()) == ["coins0.png", "coins1.png"]
    assert sorted(path.name for path in (folder / "masks").iterdir()) == ["coins0.png", "coins1.png"]
