"""`nomul export`: folders for the tools of vendors."""

import click

from nomul.commands import export_axi_ip, export_kv260


@click.group("export")
def command() -> None:
    """Write an engine or a machine as the tools of a vendor take it."""


command.add_command(export_axi_ip.command)
command.add_command(export_kv260.command)
