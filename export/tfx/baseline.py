"""Which model a new one is compared with."""

from typing import Any

from tfx.dsl.components.common.resolver import Resolver, ResolverStrategy
from tfx.types.channel import BaseChannel, Channel
from tfx.types.standard_artifacts import Model, ModelBlessing

from .artifacts import BLESSED


class LatestBlessedBeforeStrategy(ResolverStrategy):
    """Resolves the latest blessed model that was made before the current one.

    TFX's LatestBlessedModelStrategy gives a model that has just been blessed as its own baseline, when the pipeline
    runs again: so nothing after it would come from the cache.
    """

    def resolve_artifacts(self, store: Any, input_dict: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Resolves `model` by `current` and `model_blessing`; none where no earlier one is blessed."""
        current = max((one.id for one in input_dict["current"]), default=0)
        blessings = {
            one.get_int_custom_property("current_model_id"): one
            for one in input_dict["model_blessing"]
            if one.get_int_custom_property(BLESSED) == 1
        }
        earlier = [one for one in input_dict["model"] if one.id < current and one.id in blessings]
        latest = sorted(earlier, key=lambda one: one.id)[-1:]
        return {**input_dict, "model": latest, "model_blessing": [blessings[one.id] for one in latest]}


def resolve_baseline(exported_model: BaseChannel) -> Any:
    """Returns a Resolver, to be put into the pipeline, whose `outputs["model"]` is a MaskEvaluator's `baseline_model`.

    Args:
        exported_model: of the SegmentationExporter.
    """
    return Resolver(
        strategy_class=LatestBlessedBeforeStrategy,
        current=exported_model,
        model=Channel(type=Model),
        model_blessing=Channel(type=ModelBlessing),
    ).with_id("BaselineResolver")
