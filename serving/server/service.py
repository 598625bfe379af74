"""What the server can be asked, whichever way the question comes: the core that both fronts share.

Requests and answers are the official messages where their size does not matter, and arrays where it does.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    regression_pb2,
)

from .calls import Call
from .errors import invalid_argument
from .inference import examples, predictor
from .inference.tensors import Array
from .metrics import Metrics
from .models.model_config import check_platforms, read_models
from .models.repository import Loaded, ModelRepository
from .models.versions import ModelSettings

SIGNATURE_DEF = "signature_def"
"""The one metadata field there is."""


class PredictionService:
    """Answers requests with the models of a repository. All methods raise RequestError."""

    def __init__(
        self,
        repository: ModelRepository,
        metrics: Metrics,
        check_reload: Callable[[Sequence[ModelSettings]], None],
    ) -> None:
        """Serves a repository; `check_reload` raises RequestError for models that a caller may not load."""
        self._repository = repository
        self._metrics = metrics
        self._check_reload = check_reload

    def predict(
        self, spec: model_pb2.ModelSpec, inputs: predictor.Inputs, output_filter: Sequence[str], call: Call
    ) -> tuple[model_pb2.ModelSpec, dict[str, Array]]:
        """Runs one signature, see `predictor.predict`, and returns what gave the answer, and arrays by name."""
        with self._acquire(spec) as loaded:
            outputs = predictor.predict(loaded.model, spec.signature_name, inputs, output_filter, call)
        self._metrics.measure_run(loaded.name, "Predict", call.run_s)
        return _resolved(loaded, spec.signature_name), outputs

    def inputs_of(self, spec: model_pb2.ModelSpec, signature_name: str) -> dict[str, int]:
        """Returns the data type of each input of a signature, for requests that do not say it."""
        with self._acquire(spec) as loaded:
            name = signature_name or predictor.DEFAULT_SIGNATURE
            signature = loaded.model.signatures.get(name)
            if signature is None:
                raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
            return {alias: info.dtype for alias, info in signature.inputs.items()}

    def classify(
        self, request: classification_pb2.ClassificationRequest, call: Call
    ) -> classification_pb2.ClassificationResponse:
        """Runs a signature on examples and returns classes."""
        model_spec, result = self._infer(request, "Classify", predictor.CLASSIFY_METHOD, call)
        return classification_pb2.ClassificationResponse(model_spec=model_spec, result=result.classification_result)

    def regress(self, request: regression_pb2.RegressionRequest, call: Call) -> regression_pb2.RegressionResponse:
        """Runs a signature on examples and returns numbers."""
        model_spec, result = self._infer(request, "Regress", predictor.REGRESS_METHOD, call)
        return regression_pb2.RegressionResponse(model_spec=model_spec, result=result.regression_result)

    def _infer(
        self, request: Any, api: str, method: str, call: Call
    ) -> tuple[model_pb2.ModelSpec, inference_pb2.InferenceResult]:
        check_has_spec(request)
        spec = request.model_spec
        with self._acquire(spec) as loaded:
            result = examples.infer(loaded.model, method, spec.signature_name, request.input, call)
        self._metrics.measure_run(loaded.name, api, call.run_s)
        return _resolved(loaded, spec.signature_name), result

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, call: Call
    ) -> inference_pb2.MultiInferenceResponse:
        """Runs several signatures of one model on the same examples; the first task chooses the version."""
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self._acquire(spec) as loaded:
            results = examples.multi_inference(loaded.model, request.tasks, request.input, call)
        self._metrics.count_examples(loaded.name, examples.count_examples(request.input))
        for task, result in zip(request.tasks, results, strict=True):
            result.model_spec.CopyFrom(_resolved(loaded, task.model_spec.signature_name, task.model_spec.name))
        return inference_pb2.MultiInferenceResponse(results=results)

    def names(self) -> list[str]:
        """Returns the names of the models, in order."""
        return sorted(self._repository.names())

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Returns the signatures of a model."""
        check_has_spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._acquire(request.model_spec) as loaded:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=loaded.model.signatures)
        response.model_spec.name = loaded.name
        response.model_spec.version.value = loaded.version
        response.metadata[SIGNATURE_DEF].Pack(signatures)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the state of each version; a label in the request makes no difference."""
        check_has_spec(request)
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in self._repository.statuses(spec.name, version):
            entry = response.model_version_status.add(version=status.version, state=int(status.state))
            entry.status.SetInParent()
            if status.error is not None:
                entry.status.error_code = int(status.error.code)
                entry.status.error_message = status.error.message
        return response

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, call: Call
    ) -> model_management_pb2.ReloadConfigResponse:
        """Changes to another configuration and waits until its new models are loaded."""
        config = request.config
        if config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                "currently supported"
            )
        models = read_models(config.model_config_list, self._repository.names())

        def check() -> None:
            check_platforms(config.model_config_list)
            self._check_reload(models)

        before = {name: self._metrics.value(name) for name in request.metric_names}
        self._repository.reload(models, call, check=check)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=self._metrics.value(name) - value)
        return response

    def _acquire(self, spec: model_pb2.ModelSpec) -> AbstractContextManager[Loaded]:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        return self._repository.acquire(
            spec.name,
            spec.version.value if choice == "version" else None,
            spec.version_label if choice == "version_label" else None,
        )


def check_has_spec(request: Any) -> None:
    """Raises RequestError for a request that names no model."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")


def _resolved(loaded: Loaded, signature_name: str, name: str | None = None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(
        name=loaded.name if name is None else name,
        signature_name=signature_name or predictor.DEFAULT_SIGNATURE,
    )
    spec.version.value = loaded.version
    return spec
