"""The subcommands of `nomul`, one file each."""
