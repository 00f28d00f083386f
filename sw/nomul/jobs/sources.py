"""The source files that a result depends on: those of the modules that made it, and of all that these import."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

__all__ = ["sources"]


def sources(*modules: str) -> dict[str, list[Path]]:
    """Return the files of modules and of every module that they import, however far away, from the same packages.

    The files of a module are its Python file and those beside it of the same stem (`cells.v` of `cells.py`). What is
    imported from packages that none of `modules` belongs to counts by its release, which is the caller's affair.

    Raises
    ------
    LookupError
        If one of `modules` has no source file.
    """
    ours = {name.partition(".")[0] for name in modules} | {__name__.partition(".")[0]}
    found: dict[str, list[Path]] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = _file(name)
        if file is None:
            if name in modules:
                raise LookupError(f"module {name} has no source file, so that nothing says when its results are stale")
            continue
        found[name] = sorted(path for path in file.parent.glob(f"{file.stem}.*") if path.suffix != ".pyc")
        waiting += [other for other in _imports(file) if other.partition(".")[0] in ours]
    return dict(sorted(found.items()))


def _file(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None  # the name of something in a module
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
