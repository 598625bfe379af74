from .bookkeeping.records import Record as Record
from .bookkeeping.tables import WriteTables as WriteTables
from .inference import MaskHandler as MaskHandler
from .job import (
    BatchError as BatchError,
    BatchJob as BatchJob,
    Summary as Summary,
    run_job as run_job,
)
from .mask_images import (
    MaskedImages as MaskedImages,
    MaskImages as MaskImages,
)
from .models import (
    LocalModel as LocalModel,
    ServedModel as ServedModel,
)
from .planning import PlanMasks as PlanMasks
