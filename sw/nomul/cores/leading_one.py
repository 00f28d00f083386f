"""Attention scores predicted from leading ones, after VitaLLM."""

from typing import TYPE_CHECKING

from nomul.attention.leading_one import LeadingOne, LeadingOneConfig
from nomul.cores.api import Core
from nomul.spec import Spec

if TYPE_CHECKING:
    from nomul.draw import Draw
    from nomul.formats.job import Job

__all__ = ["CORE"]


def random_job(config: LeadingOneConfig, draw: "Draw") -> "Job":
    """Return a query and keys."""
    from nomul.formats.leading_one import leading_one_job

    length, keys = draw.number(1, min(config.length_max, 8 * config.lanes)), draw.number(1, min(config.keys_max, 64))
    query = draw.values(config.act_bits, length)
    return leading_one_job(config, query, draw.values(config.act_bits, keys, length), draw.random)


CORE = Core(
    gateware=Spec(
        "leading_one", 257, "attention scores predicted from leading ones, after VitaLLM", LeadingOneConfig, LeadingOne
    ),
    jobs=random_job,
)
