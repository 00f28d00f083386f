"""`nomul accelerator`: whole machines, as Verilog and as figures."""

import click

from nomul.commands import accelerator_report, accelerator_verilog


@click.group("accelerator")
def command() -> None:
    """Make a machine that runs a whole language model, or say what it costs."""


command.add_command(accelerator_verilog.command)
command.add_command(accelerator_report.command)
