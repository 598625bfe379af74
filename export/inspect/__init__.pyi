from .calls import Target as Target
from .version_directory import InspectError as InspectError
from .inspection import (
    Inspection as Inspection,
)
from .inspection import (
    inspect_version as inspect_version,
)
from .page import format_page as format_page
from .text import format_inspection as format_inspection
