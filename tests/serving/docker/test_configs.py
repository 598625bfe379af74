"""The shipped configurations, read by the official messages."""

import pytest
from google.protobuf import text_format
from maskport.serving.server.models.text_configs import read_batching, read_metrics_path
from serving_artefacts import CONFIGS
from tensorflow_serving.config import model_server_config_pb2


def models(name):
    config = text_format.Parse((CONFIGS / name).read_text(), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.model_platform == "tensorflow"
    assert model.base_path == f"/models/{model.name}"
    return model


def test_models_serves_the_latest_version():
    assert not models("models.config").HasField("model_version_policy")
    assert not models("models.config").version_labels


@pytest.mark.parametrize(
    ("name", "versions", "labels"),
    [("stable.config", [1], {"stable": 1}), ("canary.config", [1, 2], {"stable": 1, "canary": 2})],
)
def test_labels_name_versions_of_the_specific_policy(name, versions, labels):
    model = models(name)
    assert list(model.model_version_policy.specific.versions) == versions
    assert dict(model.version_labels) == labels


def test_monitoring_is_on():
    # The official package has neither MonitoringConfig nor BatchingParameters; the embedded server reads them.
    assert read_metrics_path(str(CONFIGS / "monitoring.config")) == "/monitoring/prometheus/metrics"


def test_batching_makes_sense():
    settings, pool = read_batching(str(CONFIGS / "batching.config"))
    settings.check()
    assert settings.max_batch_size == 16
    assert settings.timeout_s == pytest.approx(0.001)
    assert not settings.pads_lengths
    assert pool.threads == 4  # as many as the processors of serving/kubernetes
