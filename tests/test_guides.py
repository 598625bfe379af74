"""What the guides and the examples show runs, from top to bottom, on servers at other addresses."""

import base64
import contextlib
import functools
import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import prometheus_client
import pytest
import trustme
import uvicorn
from conformance.cases import Setup
from conformance.servers import in_process
from exporting import export_unchecked
from maskport.export.spec import read_spec_fields
from maskport.serving.client import MaskClient, MaskServingError
from maskport.serving.server import EmbeddedServer
from PIL import Image
from reference import Toy
from skimage import data
from toy_models import keras_model
from waiting import wait_until

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
OF_OTHER_MODELS = {"docs/how_to/classes.md": "street", "docs/how_to/medical.md": "scan"}
PAGES = [
    "README.md", "docs/client.md", "docs/how_to/signatures.md", "docs/how_to/camera_pictures.md",
    "docs/how_to/large_pictures.md", "docs/how_to/tls.md", "docs/how_to/training.md", *OF_OTHER_MODELS,
]  # fmt: skip


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def localised(text, server):
    """A text with a server's addresses, and its model's name, in place of those of the guides."""
    port = server.rest_address.rpartition(":")[2]
    text = text.replace("grpc://localhost:8500", server.grpc_address).replace("/models/mine:", "/models/coins:")
    text = re.sub(r"(localhost|127\.0\.0\.1):8501", rf"\1:{port}", text)
    return text.replace('model="mine"', 'model="coins"')


@pytest.fixture(scope="module")
def server(coins_server):
    return coins_server


def write_ssl_config(path, authority):
    """The file that the page of TLS shows, with keys in it."""
    (shown,) = blocks("docs/how_to/tls.md", "text")
    own = authority.issue_cert("127.0.0.1")
    pems = {"server_key": own.private_key_pem, "server_cert": own.cert_chain_pems[0], "custom_ca": authority.cert_pem}
    for field, pem in pems.items():
        quoted = pem.bytes().decode().replace("\n", "\\n")
        shown, replaced = re.subn(f'{field}: ".*"', lambda _, text=f'{field}: "{quoted}"': text, shown)
        assert replaced == 1
    path.write_text(shown)


@pytest.fixture(scope="module")
def place(tmp_path_factory, coins_export):
    """A folder with the files that the guides name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "served").mkdir()
    (folder / "served/coins").symlink_to(coins_export)
    (folder / "configs").symlink_to(ROOT / "configs")
    Image.fromarray(data.coins()).save(folder / "photo.jpg", quality=92)
    Image.fromarray(data.coins()).save(folder / "scene.tif")
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
    (folder / "token").write_text("abc")
    write_ssl_config(folder / "ssl.config", authority)
    return folder


@contextlib.contextmanager
def server_of(page, server, folder):
    """The server that a page's snippets call: that of the coins, or of a toy exported by the page's own spec."""
    if page not in OF_OTHER_MODELS:
        yield server
        return
    (spec,) = blocks(page, "yaml")
    (folder / "spec.yaml").write_text(spec)
    fields = read_spec_fields(str(folder / "spec.yaml"))
    toy = keras_model(Toy.make(1, 1) if "input_max" in fields else Toy.make(3, len(fields["classes"])))
    export_unchecked(toy, folder / OF_OTHER_MODELS[page], warmup=False, **fields)
    with EmbeddedServer(folder / OF_OTHER_MODELS[page]) as other:
        yield other


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page, server, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(place)
    with server_of(page, server, tmp_path) as called:
        namespace = {"__name__": "guide"}
        for block in blocks(page, "python"):
            exec(compile(localised(block, called), page, "exec"), namespace)
    printed = capsys.readouterr().out
    for text in SEEN.get(page, ()):
        assert re.search(text, printed), (text, printed)


SEEN = {
    "docs/client.md": [
        r"\(303, 384\) bool", r"\['AVAILABLE'\]", "photos/broken.jpg: ", "unknown format",
        "SignatureNotFoundError FAILED_PRECONDITION it has: ", r"Predict 1 \d+ ms \d+ None",
    ],
    "docs/how_to/camera_pictures.md": ["photos/broken.jpg: "],
    "docs/how_to/signatures.md": ["bool uint8 float32", r"\(1, 64, 96, 1\) float32"],
    "docs/how_to/classes.md": [r"\{'road': \d+, 'building': \d+, "],
    "docs/how_to/medical.md": [r"\(96, 128\)"],
}  # fmt: skip


def test_what_the_guides_save_is_what_they_say(place):
    """After `test_python_runs`, in the same folder."""
    with Image.open(place / "mask.png") as mask:
        assert mask.mode == "1"
        assert set(np.unique(np.array(mask.convert("L")))) == {0, 255}
    assert sorted(path.name for path in place.glob("coins?.png")) == ["coins0.png", "coins1.png"]
    with Image.open(place / "cutout.png") as cutout:
        assert cutout.mode == "RGBA"


@pytest.mark.parametrize("page", ["docs/client.md", "docs/how_to/signatures.md", "docs/how_to/large_pictures.md"])
def test_commands_run(page, server, place):
    shown = "\n".join(blocks(page, "(?:sh|console)")).replace("$ mask-client", "mask-client").replace(" |\n", " | ")
    commands = [line for line in shown.splitlines() if line.startswith(("mask-client", "(printf", "curl", "python"))]
    commands = [line for line in commands if "model=fields" not in line]
    assert commands
    for command in commands:
        done = run_shown(localised(command, server), place)
        # The folder of photographs holds a broken one on purpose.
        assert done.returncode == (1 if " photos" in command or "'photos" in command else 0), (command, done.stderr)
        assert "Traceback" not in done.stderr
        if command.startswith("curl"):
            (info,) = json.loads(done.stdout)["outputs"]
            assert json.loads(info)["classes"] == ["coin"]


def test_what_the_commands_write_is_there(place):
    """After `test_commands_run`, in the same folder."""
    assert sorted(path.name for path in (place / "cutouts").iterdir()) == ["coins0.png", "coins1.png"]
    assert sorted(path.name for path in (place / "masks").iterdir()) == ["coins0.png", "coins1.png"]
    answer = json.loads((place / "answer.json").read_text())["outputs"]
    assert answer["error"] == [""]
    with Image.open(io.BytesIO(base64.b64decode(answer["mask_bytes"][0]["b64"]))) as mask:
        assert mask.size == (384, 303)


@contextlib.contextmanager
def served_by(page, coins_export, place):
    """A server with the flags of a page's `mask-serve`, on other ports: its address for gRPC, and for REST."""
    (command,) = [line for text in blocks(page, "sh") for line in text.splitlines() if line.startswith("mask-serve ")]
    words = shlex.split(command.partition(" #")[0])[1:]
    kept = [word for word in words if not re.match("--(port|rest_api_port|model_base_path)=", word)]
    assert any(re.match(r"--model_base_path=\$PWD/served/coins$", word) for word in words)
    setup = Setup(
        page, (*kept, f"--model_base_path={coins_export}", "--port={GRPC}", "--rest_api_port={REST}"), {}, False
    )
    with in_process(setup, coins_export, place) as target:
        yield f"grpc://{target.grpc}", f"http://{target.rest}"


def test_the_page_of_batching_works(coins_export, place, monkeypatch):
    monkeypatch.chdir(place)
    (command,) = [text for text in blocks("docs/how_to/batching.md", "sh") if text.startswith("mask-client")]
    with served_by("docs/how_to/batching.md", coins_export, place) as (grpc, _):
        done = run_shown(command.replace("grpc://localhost:8500", grpc).replace("--out=masks", "--out=batched"), place)
    assert done.returncode == 1  # for the broken photograph
    assert sorted(path.name for path in (place / "batched").iterdir()) == ["coins0.png", "coins1.png"]


def test_the_page_of_tls_works(coins_export, place, monkeypatch):
    page = "docs/how_to/tls.md"
    monkeypatch.chdir(place)
    (python,) = blocks(page, "python")
    (command,) = [text.strip() for text in blocks(page, "sh") if text.startswith("mask-client")]
    with served_by(page, coins_export, place) as (grpc, _):
        address = grpc.replace("grpc://", "grpcs://")
        python = python.replace("grpcs://models.example:443", address).replace("client.close()", "")
        namespace = {"__name__": "guide"}
        exec(compile(python, page, "exec"), namespace)
        with namespace["client"] as client:
            assert client.segment("photo.jpg").mask.shape == (303, 384)
        command = command.replace("grpcs://models.example:443", address)
        stranger = run_shown(command.replace(" --cert_file=client.pem --key_file=client.key", ""), place)
        assert stranger.returncode == 1  # client_verify: it has no certificate
        known = run_shown(command, place)
        assert (known.returncode, known.stderr) == (0, "")


def test_the_pages_of_the_embedded_server_and_its_playground_work(coins_export, place, monkeypatch):
    monkeypatch.chdir(place)
    with served_by("docs/playground.md", coins_export, place) as (_, rest):
        assert "<title>" in httpx.get(f"{rest}/", headers={"Accept": "text/html"}).text
    (python,) = blocks("docs/embedded_server.md", "python")
    python += "    mask = client.segment('photo.jpg').mask\n"
    namespace = {}
    exec(python, namespace)
    with served_by("docs/embedded_server.md", coins_export, place) as (grpc, _), MaskClient(grpc, "coins") as client:
        np.testing.assert_array_equal(client.segment("photo.jpg").mask, namespace["mask"])


def test_the_page_of_inspection_works(place):
    texts = [run_shown(command, place) for command in blocks("docs/inspect.md", "sh")[0].splitlines()]
    assert [done.returncode for done in texts] == [0, 0, 0], [done.stderr for done in texts]
    assert json.loads(texts[1].stdout)
    assert "coin" in texts[0].stdout
    assert "<html" in (place / "coins.html").read_text()


def test_the_page_of_calibration_works(server, tmp_path, monkeypatch):
    for name in ("configs", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    with MaskClient(server.grpc_address, "coins") as client:
        for index, corner in enumerate((0, 60)):
            crop = data.coins()[corner : corner + 96, corner : corner + 128]
            Image.fromarray(crop).save(tmp_path / f"photos/{index}.png")
            client.segment(crop[..., None], threshold=0.4).save(tmp_path / f"masks/{index}.png")
    done = run_shown(blocks("docs/calibrate.md", "sh")[0], tmp_path)
    assert done.returncode == 0, done.stderr
    recommended = re.search(r"^recommended threshold: (.*)$", done.stdout, re.MULTILINE)[1]
    assert float(recommended) == pytest.approx(0.4, abs=0.01)
    assert re.search(r"^recommended +0\.4\S* +1\.0000", done.stdout, re.MULTILINE)
    assert {path.suffix for path in (tmp_path / "calibration").iterdir()} == {".svg", ".csv", ".html"}
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec("".join(blocks("docs/calibrate.md", "python")), namespace)
    assert namespace["found"].threshold == float(recommended)


def test_an_onnx_file_that_names_a_size_becomes_one_that_takes_any(tmp_path, monkeypatch):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 32, 48]) for name in ("x", "inner", "y")
    ]
    nodes = [onnx.helper.make_node("Relu", ["x"], ["inner"]), onnx.helper.make_node("Neg", ["inner"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "fixed", values[:1], values[2:], value_info=values[1:2])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), "model.onnx")
    (code,) = [text for text in blocks("docs/sources.md", "python") if "free.onnx" in text]
    exec(compile(code, "docs/sources.md", "exec"), {})
    picture = np.random.default_rng(0).standard_normal((2, 3, 20, 30), np.float32)
    (answer,) = onnxruntime.InferenceSession("free.onnx").run(None, {"x": picture})
    np.testing.assert_array_equal(answer, -np.maximum(picture, 0))


def test_the_page_of_batch_jobs_works(server, place, monkeypatch, capsys):
    page = "docs/batch.md"
    monkeypatch.chdir(place)
    served, local = [line.replace("--output=masks/", "--output=batch/") for line in blocks(page, "sh")[0].splitlines()]
    contents = []
    for command in (served, local):
        done = run_shown(localised(command, server), place)
        assert done.returncode == 1, done.stderr  # for the broken photograph
        contents.append({path.name: path.read_bytes() for path in (place / "batch").glob("*.png")})
    assert sorted(contents[0]) == ["coins0.png", "coins1.png"]
    assert contents[0] == contents[1]
    for block in blocks(page, "python"):
        exec(compile(localised(block, server).replace("masks/", "batch/"), page, "exec"), {})
    assert re.search(r"photos/coins0.jpg 0\.\d+ None", capsys.readouterr().out)


def run_shown(command, place):
    """Runs a line of a page in a shell, in the folder."""
    return subprocess.run(
        command, shell=True, executable="/bin/bash", cwd=place, env=ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def black_png(side):
    held = io.BytesIO()
    Image.new("L", (side, side)).save(held, "PNG")
    return held.getvalue()


SERVED_ERRORS = {
    "no such model": ("cones", {}),
    "no such signature": ("coins", {"outputs": ("class_map",)}),
    "no picture": ("coins", {"image": b"no picture"}),
    "too large": ("coins", {"image": black_png(2100)}),
    "cut off": ("coins", {"image": black_png(64)[:60]}),
}


@pytest.mark.parametrize("case", SERVED_ERRORS)
def test_what_a_server_refuses_is_documented_as_it_is_said(case, server, place):
    text = (ROOT / "docs/errors.md").read_text().replace("grpc://localhost:8500", server.grpc_address)
    messages = re.findall(r"^```text\n(.*)\n```$", text, re.MULTILINE)
    model, words = SERVED_ERRORS[case]
    with MaskClient(server.grpc_address, model=model) as client, pytest.raises(MaskServingError) as caught:
        client.segment(**({"image": place / "photo.jpg"} | words))
    patterns = [re.escape(message).replace("…", ".*") for message in messages]
    assert any(re.fullmatch(pattern, str(caught.value)) for pattern in patterns), str(caught.value)


# ---- examples ----


def example(name, **environment):
    """An example as a module, imported with some variables set."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"examples/{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def service(**environment):
    """A client of the service, started with some variables set; its metrics are its own."""
    registry = prometheus_client.CollectorRegistry()
    with pytest.MonkeyPatch.context() as patch:
        histogram = functools.partial(prometheus_client.Histogram, registry=registry)
        patch.setattr("prometheus_client.Histogram", histogram)
        app = example("service", **environment).app
    with pytest.MonkeyPatch.context() as patch:
        page = functools.partial(prometheus_client.generate_latest, registry)
        patch.setattr("prometheus_client.generate_latest", page)
        web = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", log_level="warning"))
        thread = threading.Thread(target=web.run)
        thread.start()
        try:
            wait_until(lambda: web.started, "the service's start")
            port = web.servers[0].sockets[0].getsockname()[1]
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
                yield http
        finally:
            web.should_exit = True
            thread.join()


def served_mask(server, photo, threshold):
    """What the model's server answers to a plain REST call."""
    inputs = {"image_bytes": [{"b64": base64.b64encode(photo).decode()}], "threshold": [threshold]}
    request = {"signature_name": "mask_png_at_threshold", "inputs": inputs}
    answer = httpx.post(f"{server.rest_address}/v1/models/coins:predict", json=request).json()
    return base64.b64decode(answer["outputs"]["mask_bytes"][0]["b64"])


def test_the_service_masks_and_tells_whose_mistake_it_is(server, place):
    photo = (place / "photo.jpg").read_bytes()
    with service(MASK_ADDRESS=server.grpc_address, MASK_MODEL="coins", MASK_MAX_BYTES="100000") as http:
        assert http.get("/health").json() == {"alive": True}
        assert http.get("/ready").json() == {"ready": True}
        answer = http.post("/mask", content=photo, params={"threshold": 0.8})
        assert answer.headers["content-type"] == "image/png"
        assert answer.content == served_mask(server, photo, 0.8)
        assert http.post("/mask", content=photo).content == served_mask(server, photo, 0.5)
        wrong = http.post("/mask", content=b"no picture")
        assert (wrong.status_code, wrong.json()["detail"][:14]) == (422, "unknown format")
        assert http.post("/mask", content=photo, params={"threshold": 2}).status_code == 422
        assert http.post("/mask", content=bytes(100_001)).status_code == 413
        metrics = http.get("/metrics").text
        assert 'mask_seconds_count{method="Predict",result="OK"} 3.0' in metrics


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({"MASK_ADDRESS": "grpc://127.0.0.1:9", "MASK_DEADLINE_S": "0.5"}, 503),
        ({"MASK_MODEL": "cones"}, 503),
        ({"MASK_DEADLINE_S": "0.0001"}, 504),
    ],
)
def test_the_service_says_what_stands_behind_it_is_at_fault(server, place, environment, status):
    with service(**({"MASK_ADDRESS": server.grpc_address, "MASK_MODEL": "coins"} | environment)) as http:
        answer = http.post("/mask", content=(place / "photo.jpg").read_bytes())
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status == 503)
        assert "127.0.0.1" not in answer.text


def test_the_folder_s_script_goes_on_where_it_was_stopped(server, place, tmp_path, capsys):
    main = example("folder").main
    words = [str(place / "photos"), str(tmp_path), f"--address={server.grpc_address}", "--model=coins"]
    assert main(words) == 1  # one of them is broken
    assert "broken.jpg: " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coins0.jpg.png", "coins1.jpg.png", "masks.csv"]
    rows = [line.split(",") for line in (tmp_path / "masks.csv").read_text().splitlines()]
    for name, area, share in rows:
        with Image.open(tmp_path / f"{name}.png") as mask:
            assert int(area) == np.count_nonzero(np.array(mask)) == pytest.approx(float(share) * 120 * 150, abs=1)
    (tmp_path / "coins1.jpg.png").unlink()
    assert main(words) == 1
    assert [line.split(",") for line in (tmp_path / "masks.csv").read_text().splitlines()] == [*rows, rows[1]]


def test_the_folder_s_script_masks_no_masks(server, place, tmp_path, capsys):
    main, photos = example("folder").main, tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes((place / "photo.jpg").read_bytes())
    words = [f"--address={server.grpc_address}", "--model=coins"]
    for _ in range(2):
        assert main([str(photos), str(photos / "masks"), *words]) == 0
        assert {path.name for path in (photos / "masks").iterdir()} == {"a.jpg.png", "masks.csv"}
    with pytest.raises(SystemExit):
        main([str(photos), str(tmp_path), *words])
    assert "the masks need a folder that does not hold the photographs" in capsys.readouterr().err


def test_the_notebook_runs(server, place, tmp_path):
    program = (
        "import nbformat, sys; from nbclient import NotebookClient;"
        "book = nbformat.read(sys.argv[1], 4); NotebookClient(book, timeout=600).execute();"
        "nbformat.write(book, 'run.ipynb')"
    )
    variables = {"MASK_ADDRESS": server.grpc_address, "MASK_MODEL": "coins", "MASK_PHOTO": str(place / "photo.jpg")}
    variables |= {"IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "examples/notebook.ipynb")],
        cwd=tmp_path, env=ENVIRONMENT | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cells = json.loads((tmp_path / "run.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = "".join("".join(output.get("text", "")) for output in outputs)
    assert "['coin'] 0.5" in printed
    assert re.search(r"the masks differ in \d pixels", printed)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (384, 303)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").iterdir()), ids=lambda path: path.name)
def test_examples_are_short(path):
    assert path.suffix == "" or len(path.read_text().splitlines()) < 80
