"""The trained models that come with Nomul, and a short text to try them on."""

from pathlib import Path

from nomul.errors import InputError

NAMES = ("tiny", "small", "tiny_bwta", "tiny_mixpe")
"""What is committed: two ternary models, and the tiny size in the arithmetic of BWTA and of MixPE."""

DEFAULT = "tiny"


def path(name: str = DEFAULT) -> Path:
    """Return the file of a committed model; raise `InputError` that names them all for another name."""
    if name not in NAMES:
        raise InputError(f"there is no committed model {name!r}; there are {', '.join(NAMES)}")
    return Path(__file__).parent / f"{name}.safetensors"


def sample_text() -> str:
    """Return a public-domain text of some hundred characters that no committed model was trained on.

    It is Shakespeare's Sonnet 18; the models were trained on his plays.
    """
    return (Path(__file__).parent / "sonnet18.txt").read_text(encoding="utf-8")
