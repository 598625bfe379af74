"""The package loads TensorFlow only when it is used."""

import subprocess
import sys


def test_importing_the_package_loads_no_tensorflow():
    code = "import sys, maskport.serving.server; print('tensorflow' in sys.modules, 'grpc' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
