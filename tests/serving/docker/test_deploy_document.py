"""docs/deploy.md, run from top to bottom on the embedded server; what needs an engine or a cluster is passed over."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from exporting import export_unchecked
from maskport.export.spec import read_spec_fields
from serving_artefacts import ROOT

TEXT = (ROOT / "docs/deploy.md").read_text()
NEEDS_ENGINE = ("docker ", "kubectl ", "scripts/serve_docker ")


def blocks():
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        if not block.startswith(NEEDS_ENGINE):
            yield block


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_the_commands_work_from_export_to_rollback_and_promotion(tmp_path):
    for name in ("configs", "scripts", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    export, *others = blocks()
    assert export.startswith("mask-export --spec=configs/export/coins.yaml")
    # As that does, but quicker; so is all that follows, with few signatures.
    fields = read_spec_fields(str(ROOT / "configs/export/coins.yaml"))
    signatures = ["serving_default", "mask_png", "export_info"]
    fields |= {"source": str(ROOT / "models/coins/coins.keras"), "signatures": signatures}
    export_unchecked(fields.pop("source"), tmp_path / fields.pop("output_dir"), **fields)
    script = "\n".join(["set -ex", "trap 'kill $(jobs -p) && wait' EXIT", *others])
    script = script.replace(":8500", f":{free_port()}").replace(":8501", f":{free_port()}")
    ports = re.search(r"grpc://localhost:(\d+).*?http://localhost:(\d+)", script).groups()
    script = script.replace("--port=8500", f"--port={ports[0]}").replace(
        "--rest_api_port=8501", f"--rest_api_port={ports[1]}"
    )
    script = script.replace("--threshold=0.9", f"--threshold=0.9 --signatures={','.join(signatures)}")
    # A line of a script that begins with ! never ends it.
    script = re.sub(r"^! (.*)$", r"if \1; then exit 77; fi", script, flags=re.MULTILINE)
    assert script.count("if mask-verify") == 1
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    verdicts = re.findall(
        r"^coins at \w+://\S+, version (\d): (agrees|DOES NOT AGREE) with served/coins/(\d)", done.stdout, re.MULTILINE
    )
    # stable over both transports; the canary as version 2; not as version 1; rolled back; promoted
    assert verdicts[:3] == [("1", "agrees", "1"), ("1", "agrees", "1"), ("2", "agrees", "2")]
    assert verdicts[3] == ("2", "DOES NOT AGREE", "1")
    agreed = [verdict for verdict in verdicts[4:] if verdict[1] == "agrees"]
    assert agreed == [("1", "agrees", "1"), ("2", "agrees", "2")]


def test_every_configuration_is_told_of():
    told = set(re.findall(r"^\| `([\w.]+)` \|", TEXT, re.MULTILINE))
    there = {path.name for path in (ROOT / "configs/serving").iterdir()}
    assert told == there - {"kustomization.yaml", "model_is_available"}
