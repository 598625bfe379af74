"""What an export says about itself: `maskport.json`, checked as what comes from a disk is."""

from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from ...serving import contract
from ..errors import InspectError
from ..publish import manifest
from ..spec import Sides


class _Part(pydantic.BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class SourceRecord(_Part):
    """The model that was exported."""

    name: str
    sha256: str
    description: str


class ModelRecord(_Part):
    """What is known of it."""

    channels: Annotated[int, Field(ge=1, le=max(contract.BAND_CHANNELS))]
    size: tuple[pydantic.PositiveInt, pydantic.PositiveInt] | None
    batch: int | None
    data_format: str
    input_dtype: str
    output_channels: int
    parameters: int

    @property
    def takes_bands(self) -> bool:
        """Whether it takes rasters of bands, as pixels only."""
        return self.channels not in contract.IMAGE_CHANNELS


class ForegroundRecord(_Part):
    """Which output channels the mask is of."""

    channels: list[int]
    combined_by: str


class ReproducibilityRecord(_Part):
    """How far the model's own answers move, and what is therefore tolerated, of a probability."""

    plain: float
    other_onednn: float | None
    tolerance: float


class AxisRecord(_Part):
    """What a map does not show of its input along one axis, in pixels, and how many pieces of a picture are run."""

    before: float
    after: float
    runs: int


class MapRecord(_Part):
    """Where a map lies that is smaller than its input by a border."""

    rows: AxisRecord
    columns: AxisRecord


class ComparisonRecord(_Part):
    """How far the model's answers are from those of what its file is made for."""

    reference: str
    largest: float
    answers_range: float


class ProbeRecord(_Part):
    """What was found out by running the model."""

    map: MapRecord | None = None
    compared: ComparisonRecord | None = None


class ExportRecord(_Part):
    """The part of `maskport.json` that an inspection shows or needs."""

    schema_version: int
    maskport_version: str
    source: SourceRecord
    spec: dict[str, Any]
    model: ModelRecord
    classes: list[str] | None
    foreground: ForegroundRecord
    threshold: float
    full_scale: float
    probe: ProbeRecord = ProbeRecord()
    signatures: dict[str, Any]
    reproducibility: ReproducibilityRecord
    versions: dict[str, str]

    @property
    def image_dtype(self) -> str:
        """Of the pixel signatures."""
        return str(self.spec["image_dtype"])

    @property
    def sides(self) -> str:
        """What a picture's sides become for the model, as the flag says it; empty where it has one size, or any."""
        size = self.spec.get("model_size")
        return str(Sides.model_validate(size)) if isinstance(size, dict) else ""

    @property
    def formats(self) -> list[str]:
        """Encodings that the export accepts."""
        return [str(name) for name in self.spec["formats"]]


def read_record(version_dir: Path) -> ExportRecord | None:
    """Returns an export's record, None where maskport made none; InspectError where it cannot be read."""
    path = version_dir / contract.ASSETS_DIR / contract.MANIFEST_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InspectError(f"{path}: cannot be read: {reason}") from error
    try:
        record = ExportRecord.model_validate_json(text)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise InspectError(f"{path}: is not what an export writes: {where or 'as a whole'}: {problem['msg']}") from None
    if record.schema_version != manifest.SCHEMA_VERSION:
        raise InspectError(
            f"{path}: is of schema version {record.schema_version}, this maskport knows {manifest.SCHEMA_VERSION}"
        )
    return record
