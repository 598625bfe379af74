"""Where TFX is not installed: nothing else needs it, and what does says so in one line."""

import subprocess
import sys


def test_what_is_missing_is_said_in_one_line_with_how_to_get_it():
    program = (
        "import sys; sys.modules['tfx'] = None\n"
        "try:\n    import maskport.export.tfx\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("maskport.export.tfx needs tfx, which is not installed: pip install 'maskport[tfx]', and")
    assert line.endswith("pip install --no-deps tfx==1.21.0 ml-pipelines-sdk==1.21.0 ml-metadata==1.17.1")


def test_nothing_else_of_the_export_imports_tfx():
    program = (
        "import sys; sys.modules['tfx'] = None\n"
        "import maskport.export, maskport.export.evaluate, maskport.export.exporter\n"
        "maskport.export.evaluate.evaluate, maskport.export.export_model\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
