from .entry import export_model as export_model
from .errors import (
    ExportError as ExportError,
    PublishError as PublishError,
    SourceError as SourceError,
    SpecError as SpecError,
    UnservableError as UnservableError,
    VerificationError as VerificationError,
)
from .masks import (
    ApplyMask as ApplyMask,
    BinaryMask as BinaryMask,
    MaskedLoss as MaskedLoss,
    apply_mask_to_image as apply_mask_to_image,
    create_binary_mask as create_binary_mask,
    masked_loss as masked_loss,
)
from .spec import (
    ExportSpec as ExportSpec,
    load_spec as load_spec,
)
