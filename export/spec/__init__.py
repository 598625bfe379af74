"""The export spec: its fields, its files, and its flags."""

from .fields import (
    CENTRE as CENTRE,
    CLASSES as CLASSES,
    CORNERS as CORNERS,
    FULL_SCALE as FULL_SCALE,
    STRETCH as STRETCH,
    ExportSpec as ExportSpec,
    is_builder as is_builder,
    make_spec as make_spec,
)
from .files import load_spec as load_spec, parse_spec_fields as parse_spec_fields, read_spec_fields as read_spec_fields
from .values import ALL_SIGNATURES as ALL_SIGNATURES, Clean as Clean, Sides as Sides
