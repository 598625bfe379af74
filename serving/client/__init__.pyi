from .async_client import (
    AsyncMaskClient as AsyncMaskClient,
)
from .calling.observers import (
    ObservedCall as ObservedCall,
)
from .calling.observers import (
    Observer as Observer,
)
from .calling.retries import (
    NO_RETRIES as NO_RETRIES,
)
from .calling.retries import (
    RetryPolicy as RetryPolicy,
)
from .client import (
    MaskClient as MaskClient,
)
from .errors import (
    AccessDeniedError as AccessDeniedError,
)
from .errors import (
    CallCancelledError as CallCancelledError,
)
from .errors import (
    ClientClosedError as ClientClosedError,
)
from .errors import (
    DeadlineExceededError as DeadlineExceededError,
)
from .errors import (
    InvalidAddressError as InvalidAddressError,
)
from .errors import (
    InvalidImageError as InvalidImageError,
)
from .errors import (
    InvalidRequestError as InvalidRequestError,
)
from .errors import (
    InvalidResponseError as InvalidResponseError,
)
from .errors import (
    MaskServingError as MaskServingError,
)
from .errors import (
    MessageTooLargeError as MessageTooLargeError,
)
from .errors import (
    MixedSizesError as MixedSizesError,
)
from .errors import (
    ModelFaultError as ModelFaultError,
)
from .errors import (
    ModelNotFoundError as ModelNotFoundError,
)
from .errors import (
    ModelStateError as ModelStateError,
)
from .errors import (
    OutputNotRequestedError as OutputNotRequestedError,
)
from .errors import (
    ServerBusyError as ServerBusyError,
)
from .errors import (
    ServerFaultError as ServerFaultError,
)
from .errors import (
    ServerOverloadedError as ServerOverloadedError,
)
from .errors import (
    ServerUnavailableError as ServerUnavailableError,
)
from .errors import (
    SignatureNotFoundError as SignatureNotFoundError,
)
from .errors import (
    StatusCode as StatusCode,
)
from .errors import (
    UnsupportedCallError as UnsupportedCallError,
)
from .results.mask_result import (
    MaskResult as MaskResult,
)
from .results.mask_result import (
    SegmentItem as SegmentItem,
)
from .results.polygons import (
    Polygon as Polygon,
)
from .results.rle import (
    Rle as Rle,
)
from .results.rle import (
    decode_rle as decode_rle,
)
from .results.rle import (
    encode_rle as encode_rle,
)
from .segmenting.large import (
    LargeResult as LargeResult,
)
from .transport.security import (
    Tls as Tls,
)
from .transport.signatures import (
    ModelMetadata as ModelMetadata,
)
from .transport.signatures import (
    ModelState as ModelState,
)
from .transport.signatures import (
    SignatureInfo as SignatureInfo,
)
from .transport.signatures import (
    TensorSpec as TensorSpec,
)
from .transport.signatures import (
    VersionStatus as VersionStatus,
)
