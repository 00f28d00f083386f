"""The errors that a user can cause, each with the exit code it ends a command with."""


class InputError(ValueError):
    """Something the user gave is wrong: a field, a file, a name. Exit code 2.

    The message is one sentence that names the thing, its value and what is allowed.
    """


class ToolError(RuntimeError):
    """A tool that Nomul drives is missing or failed. Exit code 2.

    The message is one sentence that names the tool, what it was doing, and how to mend it.
    """


class MismatchError(ToolError):
    """What was simulated is not what it must be; the message says where they part."""
