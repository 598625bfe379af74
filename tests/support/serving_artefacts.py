"""What the Docker and Kubernetes files say, for the tests that hold them to it."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from processes import running
from waiting import wait_until

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "serving/docker"
KUBERNETES = ROOT / "serving/kubernetes"
CONFIGS = ROOT / "configs/serving"


def tool(name):
    """The path of a program that scripts/install_system_packages brings; skips the test where it is not."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (scripts/install_system_packages)")
    return path


def compose(*words, **variables):
    """Runs the Compose tool on the project's file."""
    command = [tool("docker-compose"), "-f", DOCKER / "compose.yaml", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **variables}
    )


def composed(*profiles, **variables):
    """The services of some profiles, as the Compose tool understands them."""
    done = compose(*(word for profile in profiles for word in ("--profile", profile)), "config", **variables)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def dockerfile_flags():
    """The flags of the Dockerfile's command."""
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", "")
    return json.loads(re.search(r"^CMD (\[.*?\])$", text, re.MULTILINE)[1])


def kustomized(folder):
    """The objects of an overlay, as kubectl builds them."""
    done = subprocess.run(
        [tool("kubectl"), "kustomize", KUBERNETES / folder], capture_output=True, text=True, check=False
    )
    if "invalid Kustomization" in done.stderr or "unknown field" in done.stderr:
        pytest.skip(f"kubectl is too old: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(objects, kind):
    """The one object of a kind."""
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


def container(objects, name):
    """A container of the one Deployment."""
    containers = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return next(one for one in containers if one["name"] == name)


class MaskServe:
    """`mask-serve`, run with the flags of a container, on this machine's paths and free ports."""

    def __init__(self, flags, folders, socket_path):
        """Args: flags as they stand; folders: path here by path in the container."""
        words = [word for word in flags if not re.match(r"--(port|rest_api_port)=", word)]
        for inside, here in folders.items():
            words = [word.replace(f"={inside}/", f"={here}/") for word in words]
        self.grpc_address = f"unix://{socket_path}"
        self._command = [
            sys.executable, "-m", "maskport.serving.server", *words, "--port=0", f"--grpc_socket_path={socket_path}",
            "--enable_model_warmup=false",  # to be quicker
        ]  # fmt: skip

    def __enter__(self):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.rest_port = one.getsockname()[1]
        self.rest_address = f"http://127.0.0.1:{self.rest_port}"
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = stack.enter_context(running([*self._command, f"--rest_api_port={self.rest_port}"], stderr=log))

            def serves():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.rest_port)) == 0:
                        return True
                if process.poll() is not None:
                    log.seek(0)
                    raise AssertionError(f"mask-serve ended: {log.read()[-1000:]}")
                return False

            wait_until(serves, "mask-serve's start")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()


def local_configs(target, models):
    """Copies the shipped configurations, with the folder of the models that is here in place of /models."""
    shutil.copytree(CONFIGS, target)
    for file in target.glob("*.config"):
        file.write_text(file.read_text().replace('"/models/', f'"{models}/'))
    return target
