"""The examples of docs/batch.md run, against the fake server."""

import re
from pathlib import Path

TEXT = (Path(__file__).parents[3] / "docs/batch.md").read_text()


def test_every_example_runs(run, photos, serving, monkeypatch, capsys):
    photos.write_many(12)
    monkeypatch.chdir(photos.folder.parent)
    run()
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace("grpc://localhost:8500", serving.grpc_address).replace('"coins"', '"model"')
        exec(compile(code, "docs/batch.md", "exec"), {"__name__": "example"})
    assert len(capsys.readouterr().out.splitlines()) == 12
