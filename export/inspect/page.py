"""An inspection as one HTML file."""

from .. import pages
from ..pages.charts import Line, Mark, draw_line_chart
from .calls import PROTOSET
from .inspection import Inspection
from .pictures import THRESHOLDS
from .text import WAY_TITLES, milliseconds, size_text, spec_lines, summary, title


def format_page(inspection: Inspection) -> str:
    """Returns the whole page."""
    record, picture = inspection.record, inspection.picture
    chart = ""
    if record is not None and picture is not None and picture.shares is not None:
        chart = draw_line_chart(
            f"Share of foreground against threshold; the export's threshold is {record.threshold:g}",
            "share of foreground",
            [Line("share of foreground", THRESHOLDS, picture.shares)],
            [Mark(record.threshold, f"this export: {record.threshold:g}")],
        )
    return pages.render(
        "inspection",
        title=title(inspection),
        summary=summary(inspection),
        picture=picture,
        chart=chart,
        signatures=inspection.signatures,
        timed=inspection.timed,
        times={name: milliseconds(seconds) for name, seconds in inspection.seconds.items()},
        calls=inspection.calls,
        way_titles=WAY_TITLES,
        protoset=PROTOSET,
        spec=spec_lines(record),
        files={name: size_text(size) for name, size in inspection.file_sizes.items()},
    )
