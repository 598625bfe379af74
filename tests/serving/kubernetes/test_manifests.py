"""The manifests, as kubectl builds them, held to the schemas and to each other."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from serving_artefacts import CONFIGS, KUBERNETES, MaskServe, container, kustomized, local_configs, only

OVERLAYS = ("base", "overlays/production", "overlays/canary")
# Of Kubernetes; `strict` refuses fields that there are not.
VERSION = "1.30"
REAL_FLAGS = (Path(__file__).parents[1] / "server/tensorflow_model_server_flags.txt").read_text().split()
KSERVE_SCHEMA = json.loads(Path(__file__).with_name("kserve_inference_service.schema.json").read_text())
KSERVE = yaml.safe_load((KUBERNETES / "kserve/inference_service.yaml").read_text())


@pytest.fixture(scope="module")
def built():
    return {overlay: kustomized(overlay) for overlay in OVERLAYS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_objects_fit_kubernetes_schemas(built, overlay):
    assert {one["kind"] for one in built[overlay]} == {
        "ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
    }  # fmt: skip
    for one in built[overlay]:
        kubernetes_validate.validate(one, VERSION, strict=True)


def test_the_schemas_would_find_a_misspelt_field(built):
    wrong = copy.deepcopy(only(built["base"], "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_meet_the_pods(built, overlay):
    objects = built[overlay]
    deployment = only(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        only(objects, "Service")["spec"]["selector"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels
    assert only(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_that_is_mounted_is_there(built, overlay):
    objects = built[overlay]
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for one in pod["containers"]:
        assert {mount["name"] for mount in one["volumeMounts"]} <= set(volumes)
    configs = maps[volumes["configs"]["configMap"]["name"]]
    for flag in container(objects, "serving")["args"]:
        if "=/configs/" in flag:
            assert flag.partition("/configs/")[2] in configs
    first, second = (source["configMap"] for source in volumes["proxy"]["projected"]["sources"])
    assert {item["key"] for item in first["items"]} <= set(maps[first["name"]])
    assert set(maps[second["name"]]) == {"upstreams.conf"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_that_are_named_are_there(built, overlay):
    objects = built[overlay]
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for one in pod["containers"] for port in one["ports"]}
    assert len(set(ports.values())) == 4
    service = only(objects, "Service")["spec"]
    # Headless, so that gRPC's own balancing sees every pod.
    assert service["clusterIP"] == "None"
    assert {port["port"]: ports[port["targetPort"]] for port in service["ports"]} == {8500: 8500, 8501: 8501}
    probes = [
        one[kind]
        for one in pod["containers"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        if kind in one
    ]
    assert len(probes) == 4
    assert all((probe.get("httpGet") or probe["tcpSocket"])["port"] in ports for probe in probes)
    ingress = only(objects, "NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for port in ingress[0]["ports"]} == {"grpc", "rest"}
    assert ingress[1]["from"]
    assert {port["port"] for port in ingress[1]["ports"]} == {"rest-inside"}
    upstreams = (KUBERNETES / "base/upstreams.conf").read_text()
    assert re.findall(r"127.0.0.1:(\d+)", upstreams) == [str(ports["grpc-inside"]), str(ports["rest-inside"])]


def _grpc_threads(flags):
    (threads,) = (flag.partition("=")[2] for flag in flags if flag.startswith("--grpc_max_threads="))
    return int(threads)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_flags_are_tensorflow_servings(built, overlay):
    serving = container(built[overlay], "serving")
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", serving["image"])
    names = [re.fullmatch(r"--(\w+)(?:=.*)?", flag)[1] for flag in serving["args"]]
    assert set(names) <= set(REAL_FLAGS)
    assert _grpc_threads(serving["args"]) > 64
    assert f"--port={serving['ports'][0]['containerPort']}" in serving["args"]
    assert f"--rest_api_port={serving['ports'][1]['containerPort']}" in serving["args"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_are_hardened_and_limited(built, overlay):
    pod = only(built[overlay], "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    for one in pod["containers"]:
        security = one["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(one["resources"]["limits"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_outlives_the_proxy_and_both_the_grace_period(built, overlay):
    pod = only(built[overlay], "Deployment")["spec"]["template"]["spec"]

    def waits(name):
        command = " ".join(container(built[overlay], name)["lifecycle"]["preStop"]["exec"]["command"])
        return [int(seconds) for seconds in re.findall(r"sleep (\d+)", command)]

    out_of_dns, last_requests = waits("proxy")
    (server,) = waits("serving")
    assert out_of_dns + last_requests <= server < pod["terminationGracePeriodSeconds"]
    # As long as the client's deadline.
    assert last_requests >= 30


def test_overlays_set_name_version_and_replicas(built):
    production = built["overlays/production"]
    assert only(production, "Deployment")["metadata"]["name"] == "mask-serving-coins"
    assert {one["metadata"]["namespace"] for one in production} == {"masks"}
    scaling = only(production, "HorizontalPodAutoscaler")["spec"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (3, 12)
    assert models_config(production) == (KUBERNETES / "overlays/production/models.config").read_text()


def models_config(objects):
    (data,) = [one["data"] for one in objects if one["kind"] == "ConfigMap" and "models.config" in one["data"]]
    assert set(data) == {"models.config", "batching.config", "monitoring.config", "proxy.conf"}
    return data["models.config"]


def test_the_shipped_configurations_are_what_is_deployed(built):
    assert models_config(built["base"]) == (CONFIGS / "models.config").read_text()
    # One text, in a folder of its own as labels are moved there.
    assert models_config(built["overlays/canary"]) == (CONFIGS / "canary.config").read_text()


def test_moving_a_label_restarts_nothing(built):
    canary, production = built["overlays/canary"], built["overlays/production"]
    assert only(canary, "Deployment") == only(production, "Deployment")


def test_the_pods_command_serves_and_passes_verify(built, coins_export, tmp_path):
    from maskport.serving.verify import VerifyOptions, read_export, verify

    configs = local_configs(tmp_path / "configs", coins_export.parent)
    (configs / "models.config").write_text(
        models_config(built["overlays/production"]).replace('"/models/', f'"{coins_export.parent}/')
    )
    flags = container(built["overlays/production"], "serving")["args"]
    with MaskServe(flags, {"/configs": configs}, tmp_path / "grpc.sock") as server:
        addresses = [server.grpc_address, server.rest_address]
        options = VerifyOptions(label="stable", repeats=1)
        report = verify(addresses, "coins", read_export(coins_export / "1"), options)
        assert report.holds, [one.all_problems() for one in report.addresses]
        # The probes' paths.
        import httpx

        path = container(built["overlays/production"], "serving")["readinessProbe"]["httpGet"]["path"]
        assert httpx.get(server.rest_address + path).status_code == 200
        assert httpx.get(server.rest_address + path.replace("coins", "gone")).status_code == 404


def test_the_inference_service_fits_kserves_schema():
    jsonschema.validate(KSERVE, KSERVE_SCHEMA, jsonschema.Draft202012Validator)
    for flag in KSERVE["spec"]["predictor"]["model"]["args"]:
        assert re.fullmatch(r"--(\w+)(?:=.*)?", flag)[1] in REAL_FLAGS
    # Knative's own autoscaler knows no other metrics.
    assert KSERVE["spec"]["predictor"]["scaleMetric"] in ("concurrency", "rps")
    assert _grpc_threads(KSERVE["spec"]["predictor"]["model"]["args"]) >= 64
    # KServe's runtime serves the model under the resource's name.
    path = KSERVE["spec"]["predictor"]["model"]["readinessProbe"]["httpGet"]["path"]
    assert path == f"/v1/models/{KSERVE['metadata']['name']}/metadata"


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("spec", "predictor"), "canaryTrafficPercentage", 10),
        (("spec", "predictor"), "canaryTrafficPercent", 110),
        (("spec", "predictor", "model"), "storageUri", "models/coins"),
        (("spec", "predictor", "model"), "protocolVersion", "grpc"),
    ],
)
def test_the_schema_would_find_a_mistake(place, key, value):
    wrong = copy.deepcopy(KSERVE)
    inner = wrong
    for step in place:
        inner = inner[step]
    inner[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, KSERVE_SCHEMA)
