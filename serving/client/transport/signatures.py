"""What a served model says about itself: its signatures and the states of its versions."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...status_codes import StatusCode
from ...wire import tensors
from ...wire.messages import DataType, GetModelStatusResponse, SignatureDefMap, TensorInfo
from ..errors import InvalidRequestError, SignatureNotFoundError


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        data_type: TensorFlow's name, such as `DT_FLOAT`.
        shape: its sizes, -1 for any; None where not even the rank is known.
    """

    data_type: str
    shape: tuple[int, ...] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The arrays' dtype; object stands for strings.

        Raises:
            TensorError: NumPy has none for it.
        """
        try:
            return tensors.dtype_of(DataType.Value(self.data_type))
        except ValueError as error:
            raise tensors.TensorError(f"there is no dtype for {self.data_type}") from error

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Returns whether arrays of a shape are of this form."""
        wanted = self.shape
        return wanted is None or (
            len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))
        )

    def __str__(self) -> str:
        sizes = "…" if self.shape is None else ", ".join("?" if size < 0 else str(size) for size in self.shape)
        return f"{self.data_type.removeprefix('DT_').lower()} [{sizes}]"


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """One signature of a served model.

    Attributes:
        name: as requests give it.
        inputs: by name.
        outputs: by name.
        method: `tensorflow/serving/predict` for those that `predict` can call.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method: str = "tensorflow/serving/predict"


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """What a version of a model can be asked.

    Attributes:
        model: its name.
        version: its number, where the server said it.
        signatures: by name.
    """

    model: str
    version: int | None
    signatures: Mapping[str, SignatureInfo]

    def signature(self, name: str) -> SignatureInfo:
        """Returns a signature.

        Raises:
            SignatureNotFoundError: there is none of that name.
        """
        found = self.signatures.get(name)
        if found is None:
            there = ", ".join(map(repr, sorted(self.signatures))) or "none"
            raise SignatureNotFoundError(f"there is no signature {name!r}", hint=f"it has: {there}")
        return found


class ModelState(enum.IntEnum):
    """Where a version is on its way through the server."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model.

    Attributes:
        version: its number.
        state: AVAILABLE when it answers.
        error_code: name of the status code of what went wrong with it; OK when nothing did.
        error_message: what went wrong.
    """

    version: int
    state: ModelState
    error_code: str = "OK"
    error_message: str = ""


def metadata_of_message(model: str, version: int | None, signatures: SignatureDefMap) -> ModelMetadata:
    """Returns the metadata that an answer holds; the initialisation op of a SavedModel is left out."""

    def specs(entries: Mapping[str, TensorInfo]) -> dict[str, TensorSpec]:
        return {
            key: TensorSpec(
                DataType.Name(info.dtype),
                None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
            )
            for key, info in sorted(entries.items())
        }

    table = {
        name: SignatureInfo(name, specs(signature.inputs), specs(signature.outputs), signature.method_name)
        for name, signature in sorted(signatures.signature_def.items())
        if signature.inputs or signature.method_name
    }
    return ModelMetadata(model, version, table)


def statuses_of_message(response: GetModelStatusResponse) -> list[VersionStatus]:
    """Returns the states that an answer holds."""
    return [
        VersionStatus(
            one.version, ModelState(one.state), StatusCode(one.status.error_code).name, one.status.error_message
        )
        for one in response.model_version_status
    ]


def check_inputs(signature: SignatureInfo, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Returns a request's inputs (arrays, or what makes one) as arrays of the types that a signature takes.

    Numbers are cast only where nothing but precision is lost. A signature's inputs may have defaults on the
    server, which its metadata does not tell: a missing input is the server's to judge. Raises `InvalidRequestError`
    for an input that has no name of the signature's, or another dtype, rank or size.
    """
    checked = {}
    for name, value in inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            wanted = ", ".join(map(repr, signature.inputs)) or "none"
            raise InvalidRequestError(f"there is no input {name!r}", hint=f"the inputs are: {wanted}")
        try:
            array = _cast(with_known_rank(tensors.as_array(value), spec), spec)
        except ValueError as error:  # TensorErrors, and sizes of a signature that no array can have
            raise InvalidRequestError(f"input {name!r}: {error}", hint=f"it takes {spec}") from error
        if not spec.holds(array.shape):
            raise InvalidRequestError(f"input {name!r} has the shape {list(array.shape)}", hint=f"it takes {spec}")
        checked[name] = array
    return checked


def with_known_rank(array: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    """Returns an array; an empty one with the axes that it lacks (size 1), as a list of nothing has but one."""
    if array.size or spec.shape is None or array.ndim >= len(spec.shape):
        return array
    lacking = spec.shape[array.ndim :]
    return array.reshape(*array.shape, *(1 if size < 0 else size for size in lacking))


def dtype_known(spec: TensorSpec) -> np.dtype[Any] | None:
    """Returns the dtype of a signature's input or output; None where NumPy has none for it."""
    try:
        return spec.dtype
    except tensors.TensorError:
        return None


def check_outputs(signature: SignatureInfo, outputs: tuple[str, ...]) -> None:
    """Raises `InvalidRequestError` where an output that is asked for is not the signature's, or is named twice."""
    for name in outputs:
        if name not in signature.outputs:
            there = ", ".join(map(repr, signature.outputs))
            raise InvalidRequestError(f"there is no output {name!r}", hint=f"the outputs are: {there}")
    if len(set(outputs)) < len(outputs):
        raise InvalidRequestError(f"an output is asked for twice in {list(outputs)}")


def _cast(array: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    wanted = spec.dtype
    if array.dtype == wanted:
        return array
    if not array.size:
        return array.astype(wanted)  # an empty list holds nothing that tells its type
    if spec.data_type == "DT_BFLOAT16" and array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if wanted.kind == "O" or array.dtype.kind == "O":
        raise tensors.TensorError(f"it has the dtype {'string' if array.dtype.kind == 'O' else array.dtype}")
    # Python's own numbers come as int64 and float64: what fits may pass. Everything else must be cast knowingly.
    both_float = array.dtype.kind == "f" and wanted.kind == "f"
    if both_float or np.can_cast(array.dtype, wanted, "safe"):
        return array.astype(wanted)
    if array.dtype == np.int64 and wanted.kind in "iuf":
        cast = array.astype(wanted)
        if np.array_equal(cast, array):
            return cast
    raise tensors.TensorError(f"it has the dtype {array.dtype}")
