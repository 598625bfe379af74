"""Components of TensorFlow Extended: export, evaluation against a baseline, and atomic publishing. See docs/tfx.md.

TFX takes importing this as a pipeline's own code; nothing else of maskport imports it.
"""

try:
    from .artifacts import MaskReport
    from .baseline import LatestBlessedBeforeStrategy, resolve_baseline
    from .components import MaskEvaluator, SegmentationExporter, VersionedPusher
    from .fingerprints import fingerprint
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0]
    raise ModuleNotFoundError(
        f"maskport.export.tfx needs {missing}, which is not installed: pip install 'maskport[tfx]', and TFX itself "
        "without its dependencies: pip install --no-deps tfx==1.21.0 ml-pipelines-sdk==1.21.0 ml-metadata==1.17.1",
        name=missing,
    ) from None

__all__ = [
    "LatestBlessedBeforeStrategy",
    "MaskEvaluator",
    "MaskReport",
    "SegmentationExporter",
    "VersionedPusher",
    "fingerprint",
    "resolve_baseline",
]
