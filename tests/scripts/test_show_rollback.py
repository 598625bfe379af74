"""The rollback story, as the documentation tells it."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_worse_canary_is_found_and_rolled_back_unnoticed_by_callers_of_stable(tmp_path):
    done = subprocess.run(
        [ROOT / "scripts/show_rollback", f"--work_dir={tmp_path}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert [line[0] for line in lines if line[0].isdigit()] == list("1234567")
    assert "  mask-verify --label=canary --export_dir=2 → exit 0" in lines
    assert "  mask-verify --label=canary --export_dir=1 → exit 1" in lines
    assert "  mask-verify --label=canary --export_dir=1 → exit 0" in lines
    calls = re.search(r"Meanwhile (\d+) calls of label='stable' over gRPC and REST: none failed", lines[-1])
    assert int(calls[1]) >= 20
    assert (tmp_path / "models/coins/2/saved_model.pb").exists()
