"""Colours of domains, chosen to stay apart for readers with any kind of colour vision."""

from __future__ import annotations

from typing import Final

# The first seven are Okabe and Ito's. The others were picked one by one as the colour farthest (OKLab distance, the
# smallest over normal vision and simulated protanopia, deuteranopia and tritanopia) from all before it, leaving out
# what would vanish on white or near-black paper and what glares.
_BASE: Final = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#850b37",
    "#00e9bc", "#433790", "#7a596f", "#a63700", "#907ae9", "#85bc85", "#a6d3ff", "#bcd37a",
    "#643764", "#c84343", "#a6439b", "#d39bbc", "#e96464", "#ffbc16", "#4e4ebc", "#854343",
)  # fmt: skip

TISSUE_PALETTE: Final = (
    "#0050f0", "#f0f050", "#c80000", "#00c8c8", "#000000", "#c8a000", "#00a0a0", "#780000",
    "#0000a0", "#28f0f0", "#c8c850", "#c87828", "#a00028", "#507850", "#0000c8", "#78a078",
    "#0000f0", "#00a0f0", "#78c878", "#78f078", "#c85000", "#007878", "#a0a050", "#00c850",
)  # fmt: skip
"""Colours over stained tissue: chosen as those above, but at least 0.17 (OKLab) from its pinks, purples and white."""
CONFIDENCE: Final = ("#101318", "#7d848d", "#e4e7eb")
CONFIDENCE_DARK: Final = ("#ffffff", "#87909a", "#2c333b")
"""Colours of confidence 0, one half and 1, on white and on black paper: greys, since every hue is some domain's; what
is uncertain stands out."""
EXPRESSION: Final = ("#e4e7eb", "#94b9dc", "#3470b3", "#182763")
EXPRESSION_DARK: Final = ("#2c333b", "#2f659c", "#62aee6", "#eaf7ff")
"""Colours of expression from none to the highest, on white and on black paper: away from the paper as it grows."""
MISSING: Final = "#b0b0b0"
"""Colour of spots without a label."""


def palette(k: int) -> list[str]:
    """Return `k` colours as ``"#rrggbb"``; the first ones are the same for every `k`.

    The first 24 are distinct. Beyond that nobody can tell so many colours apart: the list starts again, darker and
    lighter by turns.
    """
    colours = []
    for i in range(k):
        turn, place = divmod(i, len(_BASE))
        target = 0 if turn % 2 else 255
        share = 0.0 if turn == 0 else 0.3 + 0.4 * (1 - 1 / ((turn + 1) // 2))
        rgb = bytes.fromhex(_BASE[place][1:])
        colours.append("#" + "".join(f"{round(c + (target - c) * share):02x}" for c in rgb))
    return colours
