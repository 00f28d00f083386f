"""What entry points of other distributions may name, rightly and wrongly."""

from nomul.cores.api import Core
from nomul.spec import Spec

NOTHING = "no core"
MINE = Core(Spec("mine", 0x2000, "", dict, dict))
TAKEN = Core(Spec("tint", 0x2000, "", dict, dict))
LOW = Core(Spec("low", 17, "", dict, dict))
