"""The colours of regions, the same in a result's files and in every view."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from .types import Region

RGB = tuple[float, float, float]

#: Hue, saturation, value of the first region of a kind. Later ones differ in value and hue.
#: Lesions and rims are cyan and blue, which stand out against the attention's violet to yellow.
_KIND_HSV = {
    "lesion": (0.50, 0.80, 1.00),
    "rim": (0.58, 0.45, 1.00),
    "parenchyma": (0.05, 0.30, 0.95),
    "organ": (0.33, 0.30, 0.80),
}


def region_colors(regions: Sequence[Region]) -> dict[str, RGB]:
    """Colour by region id: hue by kind, shade by position among the regions of that kind."""
    seen: dict[str, int] = {}
    colors = {}
    for region in regions:
        number = seen.get(region.kind, 0)
        seen[region.kind] = number + 1
        hue, saturation, value = _KIND_HSV[region.kind]
        # Neighbouring parts of one kind alternate between light and dark shades.
        shade = 1.0 - 0.14 * (number % 3)
        colors[region.id] = colorsys.hsv_to_rgb(
            (hue + 0.015 * (number % 5)) % 1.0, saturation, value * shade
        )
    return colors
