"""What Nomul promises of VitaLLM's units. `benchmarks.attention` measures how well leading ones predict."""

from benchmarks.cells import LIBERTY, area_per_mac, cell_figures
from benchmarks.figures import Figure
from benchmarks.fpga import fmax, luts
from nomul.catalog import configure

TINT_XCUP = ("lanes_in=96", "rows=4")
SMALL, LARGE = ("lanes_in=16", "rows=8"), ("lanes_in=32", "rows=8")


def sustained_luts() -> float:
    """LUTs of TINT on UltraScale+ for each product that it forms in a cycle over 16 tokens of 1536 x 1536."""
    config = configure("tint", TINT_XCUP, "xcup")
    used = 1536 * 1536 * 16 / (config.cycles(1536, 1536, 16) * config.macs_per_cycle)
    return luts("tint", "xcup", *TINT_XCUP) / used


def pair_utilisation() -> float:
    """Products needed over products possible of TINT (16 x 8) and BoothFlex (8 x 4) on 3200 x 3200, one token.

    Together they form 256 ternary products a cycle. The outputs are shared so that both are done at about one time.
    """
    tint, flex = configure("tint", SMALL, "cells"), configure("boothflex", ("lanes_in=8", "rows=4"), "cells")
    mode = [each.name for each in flex.modes].index("ternary")
    peak = tint.macs_per_cycle + flex.modes[mode].macs_per_cycle
    assert peak == 256
    cycles = min(
        max(tint.cycles(3200, share, 1), flex.cycles(3200, 3200 - share, 1, mode)) for share in range(1536, 1664, 8)
    )
    return 3200 * 3200 / (cycles * peak)


FIGURES = [
    Figure("TINT LUT per sustained MAC, 96 x 4, xcup", sustained_luts, most=9.0, digits=4),
    Figure("TINT + BoothFlex utilisation, 3200 x 3200", pair_utilisation, least=0.97, digits=4),
    *(
        Figure(f"{name} default on ECP5-85F, MHz", lambda name=name: fmax(name), least=150, digits=4)  # type: ignore[misc]
        for name in ("tint", "baseline", "boothflex", "boothflex_bs")
    ),
    *cell_figures("TINT 16 x 8", "tint", SMALL, 1.0, area=85, path=1.05),
    *cell_figures("TINT 32 x 8", "tint", LARGE, 1.0, area=74),
    *cell_figures("INT8 array 16 x 8", "baseline", SMALL, 1.45, area=330),
    *(
        []
        if LIBERTY is None
        else [
            Figure(
                "TINT 32 x 8 over the INT8 array",
                lambda: area_per_mac("tint", LARGE, 1.0) / area_per_mac("baseline", LARGE, 1.45),
                most=0.26,
            ),
            Figure(
                "BoothFlex over the INT8 array, a lane, 16 x 8",
                lambda: area_per_mac("boothflex", SMALL, 1.45) / area_per_mac("baseline", SMALL, 1.45),
                most=1.2,
            ),
        ]
    ),
]
