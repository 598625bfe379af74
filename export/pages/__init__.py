"""Pages for people, in one style: each is one file that needs nothing else, no script, no font and no other address.

Templates escape whatever they are given: what comes from an export, a spec or a file's name is text, never markup.
"""

import base64
import dataclasses
import io
from pathlib import Path
from typing import Any

from PIL import Image

_LONGEST_SIDE = 800
"""In pixels, of a picture on a page."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """One picture of a page."""

    title: str  # what it shows
    media_type: str  # of the data
    data: bytes  # an encoded picture, reduced to what a page needs

    @classmethod
    def of(cls, title: str, image: Image.Image, *, is_photograph: bool = False) -> "Shown":
        """Reduces and encodes a picture; a photograph, as JPEG, without transparency."""
        image = image.convert("RGB") if is_photograph else image.copy()
        image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        form, options = ("JPEG", {"quality": 88}) if is_photograph else ("PNG", {"optimize": True})
        file = io.BytesIO()
        image.save(file, form, **options)
        return cls(title, f"image/{form.lower()}", file.getvalue())

    @property
    def url(self) -> str:
        """The picture itself, as an address."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


def render(template: str, **values: Any) -> str:
    """Returns a page.

    Args:
        template: name of a file of this folder, without `.html.j2`.
        **values: what the template names; `title` in all of them.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.html.j2").render(values)
