from .calls import Target as Target
from .inspection import (
    Inspection as Inspection,
    inspect_version as inspect_version,
)
from .page import format_page as format_page
from .text import format_inspection as format_inspection
from .version_directory import InspectError as InspectError
