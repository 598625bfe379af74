from .errors import (
    GoldenError as GoldenError,
)
from .errors import (
    VerificationError as VerificationError,
)
from .gate import (
    VerifyOptions as VerifyOptions,
)
from .gate import (
    verify as verify,
)
from .goldens import (
    Expected as Expected,
)
from .goldens import (
    Record as Record,
)
from .goldens import (
    read_export as read_export,
)
from .goldens import (
    read_golden as read_golden,
)
from .reports import (
    AddressReport as AddressReport,
)
from .reports import (
    OutputReport as OutputReport,
)
from .reports import (
    SignatureReport as SignatureReport,
)
from .reports import (
    VerificationReport as VerificationReport,
)
