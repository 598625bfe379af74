from .errors import (
    GoldenError as GoldenError,
    LabelError as LabelError,
    VerificationError as VerificationError,
)
from .gate import (
    VerifyOptions as VerifyOptions,
    verify as verify,
)
from .goldens import (
    Expected as Expected,
    Record as Record,
    read_export as read_export,
    read_golden as read_golden,
)
from .labels import (
    move_labels as move_labels,
    replace_file as replace_file,
    serve_version as serve_version,
)
from .reports import (
    AddressReport as AddressReport,
    OutputReport as OutputReport,
    SignatureReport as SignatureReport,
    VerificationReport as VerificationReport,
)
