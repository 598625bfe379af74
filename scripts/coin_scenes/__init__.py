"""Draws the pictures that the demo model learns from: coins on a table, and where they are.

Every picture is made of random numbers alone. A table (an uneven light, a texture, dust, scratches, paper, trays,
stains, writing) bears coins (a struck relief, a rim, wear, tarnish, chips, a shadow) of many sizes, most of
them lighter than the table and some darker or as light as it; then a camera adds blur, noise, a tone curve, a
change of size and JPEG.
"""

from .scene import Scene, contact_sheet, draw_scene

__all__ = ["Scene", "contact_sheet", "draw_scene"]
