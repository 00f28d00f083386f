"""The technologies that `nomul.arith` has forms for."""

import enum

__all__ = ["AMD", "TARGETS", "Target"]


class Target(enum.Enum):
    """A technology; the value is its name in configurations and on the command line."""

    PORTABLE = "portable"
    """Plain operators, for any synthesiser; the reference that every other form is proven equal to."""

    XCUP = "xcup"
    """AMD UltraScale and UltraScale+: LUT6_2, CARRY8, RAM32M16."""

    XC7 = "xc7"
    """AMD 7-series: LUT6_2, CARRY4, RAM32M."""

    ECP5 = "ecp5"
    """Lattice ECP5: CCU2C, TRELLIS_DPR16X4."""

    CELLS = "cells"
    """Standard cells: explicit full adders, half adders and and-or-inverts (`nomul.arith.cells`); where an engine has
    no such form, the portable one."""


TARGETS = tuple(target.value for target in Target)
"""Names of all targets, portable first."""

AMD = (Target.XCUP, Target.XC7)
"""Parts with six-input look-up tables that `nomul.arith.xilinx` instantiates."""
