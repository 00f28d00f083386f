"""Random bad arguments and files for every command: exit 2 with one sentence, or 0; nothing is left behind.

Among 150 cases of a seed; NOMUL_FUZZ_CASES says another number, NOMUL_FUZZ_SEED another seed.
"""

import os
import subprocess
import sys

import click
import pytest

from nomul.options import Integer, Number
from tests.cli_cases import COMMANDS

CASES = int(os.environ.get("NOMUL_FUZZ_CASES", "150"))
SEED = int(os.environ.get("NOMUL_FUZZ_SEED", "1"))


@pytest.mark.slow
def test_no_call_ends_in_anything_but_a_result_or_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli_fuzz", str(CASES), str(SEED)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_every_number_is_read_by_one_rule() -> None:
    """A number that click reads itself may be nan, 1_0 or of another script."""
    plain = [
        (*words, parameter.name)
        for words, command in COMMANDS
        for parameter in command.params
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType)
        and not isinstance(parameter.type, Integer | Number)
    ]
    assert not plain
