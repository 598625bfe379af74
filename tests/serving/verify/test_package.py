import subprocess
import sys


def test_verifying_loads_no_tensorflow(true_export):
    script = f"""
import sys
from pathlib import Path
from maskport.serving.verify import read_export, verify
report = verify(["grpc://127.0.0.1:1", "http://127.0.0.1:1"], "toy", read_export(Path({str(true_export)!r})))
assert not report.holds
heavy = ("tensorflow", "keras", "tensorflow_serving", "maskport.export", "maskport.serving.server", "absl.flags")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
