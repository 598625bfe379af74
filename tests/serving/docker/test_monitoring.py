"""Prometheus' and Grafana's files: every query is PromQL, and asks for metrics that there are."""

import json
import re

import httpx
import promql_parser
import pytest
import yaml
from serving_artefacts import CONFIGS, DOCKER

DASHBOARD = json.loads((DOCKER / "grafana/dashboards/maskport.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def vectors(node):
    """Names and labels of the metrics that an expression asks for."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    for child in ("expr", "lhs", "rhs", "vector_selector"):
        inner = getattr(node, child, None)
        if inner is not None:
            yield from vectors(inner)
    for argument in getattr(node, "args", None) or []:
        yield from vectors(argument)


@pytest.fixture(scope="module")
def metrics(coins_export):
    """What the embedded server, with batching, shows after a request."""
    from maskport.serving.client import MaskClient
    from maskport.serving.server import EmbeddedServer
    from maskport.serving.server.fronts.rest_front import RestSettings
    from maskport.serving.server.models.loading import LoadSettings
    from maskport.serving.server.models.text_configs import BatchingSettings
    from maskport.serving.server.server import ServerSettings

    settings = ServerSettings(
        grpc_port=-1,
        rest=RestSettings(metrics_path="/monitoring/prometheus/metrics"),
        load=LoadSettings(batching=BatchingSettings(), warms_up=False),
    )
    with EmbeddedServer(coins_export, settings=settings) as server:
        with MaskClient(server.grpc_address, "coins") as client:
            client.info()
        return httpx.get(f"{server.rest_address}/monitoring/prometheus/metrics").text


@pytest.mark.parametrize("query", QUERIES)
def test_queries_ask_for_what_there_is(query, metrics):
    tree = promql_parser.parse(query.replace("$__rate_interval", "1m").replace("$model", ".*"))
    asked = list(vectors(tree))
    assert asked
    for name, labels in asked:
        samples = re.findall(rf"^{re.escape(name)}{{(.*?)}} ", metrics, re.MULTILINE)
        assert samples, f"there is no {name}"
        assert labels <= set(re.findall(r'(\w+)="', samples[0])), name


def test_grouping_is_by_labels_that_there_are(metrics):
    assert re.search(r"^:tensorflow:serving:request_latency_bucket{[^}]*entrypoint=", metrics, re.MULTILINE)
    assert re.search(r"^:tensorflow:cc:saved_model:load_attempt_count{[^}]*status=", metrics, re.MULTILINE)


def test_the_dashboard_is_whole():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) >= 6
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}


def test_prometheus_scrapes_where_the_metrics_are():
    (job,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    assert f'path: "{job["metrics_path"]}"' in (CONFIGS / "monitoring.config").read_text()
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
