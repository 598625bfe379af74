from .entry import export_model as export_model
from .errors import (
    ExportError as ExportError,
)
from .errors import (
    PublishError as PublishError,
)
from .errors import (
    SourceError as SourceError,
)
from .errors import (
    SpecError as SpecError,
)
from .errors import (
    UnservableError as UnservableError,
)
from .errors import (
    VerificationError as VerificationError,
)
from .masks import (
    ApplyMask as ApplyMask,
)
from .masks import (
    BinaryMask as BinaryMask,
)
from .masks import (
    MaskedLoss as MaskedLoss,
)
from .masks import (
    apply_mask_to_image as apply_mask_to_image,
)
from .masks import (
    create_binary_mask as create_binary_mask,
)
from .masks import (
    masked_loss as masked_loss,
)
from .spec import (
    ExportSpec as ExportSpec,
)
from .spec import (
    load_spec as load_spec,
)
