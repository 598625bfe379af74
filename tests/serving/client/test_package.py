import subprocess
import sys

_HEAVY = ("tensorflow", "keras", "tensorflow_serving", "maskport.export", "maskport.serving.server")


def _loaded(script: str, prefixes: tuple[str, ...]) -> list[str]:
    """The modules under some prefixes that a fresh interpreter has after a script."""
    check = f"""
import sys
try:
{chr(10).join("    " + line for line in script.splitlines())}
except SystemExit:
    pass
prefixes = {prefixes!r}
names = [n for n in sys.modules if any(n == p or n.startswith(p + ".") for p in prefixes)]
print("\\nLOADED", *names)
"""
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()[-1].split()[1:]


def test_importing_the_client_loads_no_tensorflow_no_exporter_and_no_server():
    assert _loaded("from maskport.serving.client import *", _HEAVY) == []


def test_help_loads_no_tensorflow_no_exporter_no_server_and_no_transport():
    script = (
        "import sys\nsys.argv = ['mask-client', '--help']\nfrom maskport.serving.client.commands import cli\ncli.run()"
    )
    assert _loaded(script, (*_HEAVY, "httpx", "rich")) == []


def test_a_grpc_client_loads_no_http_library_and_only_the_command_line_absl():
    script = "from maskport.serving.client import MaskClient\nMaskClient('grpc://localhost:1', 'm').close()"
    assert _loaded(script, ("httpx", "absl", "rich", "PIL")) == []


def test_an_http_client_loads_httpx_when_it_connects():
    script = (
        "from maskport.serving.client import MaskClient, NO_RETRIES\n"
        "client = MaskClient('http://127.0.0.1:1', 'm', retries=NO_RETRIES)\n"
        "try:\n    client.status(timeout=5)\nexcept Exception:\n    pass\nclient.close()"
    )
    assert "httpx" in _loaded(script, ("httpx",))
