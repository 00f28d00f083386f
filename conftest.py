"""What holds for all tests: what they keep lies in the repository, never in the home of the person who runs them."""

import os
from pathlib import Path

os.environ.setdefault("NOMUL_CACHE", str(Path(__file__).parent / "build" / "cache"))
