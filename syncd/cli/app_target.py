"""Finds the application that a command line names: `myapp:app`, `pkg.myapp`, `app.py`, `app.py:name`.

Importing it runs the application's code; whatever goes wrong in there is told as one line with its file and line.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
import types
from pathlib import Path

from syncd.app import App
from syncd.errors import ConfigError
from syncd.model.definitions import AppDefinition

__all__ = ["load_app"]

_NOT_THEIRS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")
"""Where files stand that nobody mends for an application: syncd, the standard library, the import system."""


def load_app(target: str) -> AppDefinition:
    """Import an application and return what it defines.

    Args:
        target: A module or a Python file; after a colon the name of the `App` in it, if there are several. Modules are looked for in
            the current directory first, and those that a file imports beside that file.

    Raises:
        ConfigError: there is no such module, file or name, it is no `App`, or importing it fails.
    """
    place, _, name = target.partition(":")
    is_file = place.endswith(".py") or "/" in place
    module = _import_file(place) if is_file else _import_module(place)
    app = _app_called(name, module, target) if name else _only_app(module, place)
    return app.definition(target)


def _app_called(name: str, module: types.ModuleType, target: str) -> App:
    if not hasattr(module, name):
        others = ", ".join(_apps(module)) or "none"
        raise ConfigError(f"{target}: there is no {name}; the applications in it: {others}.")
    found = getattr(module, name)
    if isinstance(found, App):
        return found
    if found is App:
        raise ConfigError(f"{target} is the class itself; make one: `app = App()`.")
    kind = type(found)
    raise ConfigError(f"{target} is a {kind.__module__}.{kind.__qualname__}, not a syncd.App.")


def _only_app(module: types.ModuleType, place: str) -> App:
    apps = _apps(module)
    if not apps:
        raise ConfigError(f"{place}: there is no syncd.App in it; make one: `app = App()`.")
    if len({id(app) for app in apps.values()}) > 1:
        choices = " or ".join(f"{place}:{name}" for name in apps)
        raise ConfigError(f"{place}: there are several applications in it; say which: {choices}.")
    return next(iter(apps.values()))


def _apps(module: types.ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


# ------------------------------------------------------------------------------------------------ finding modules


def _import_module(name: str) -> types.ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{name!r} is neither a module nor a Python file; write myapp:app, or app.py."
        )
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as failure:
        if failure.name is None or not (name + ".").startswith(failure.name + "."):
            raise _failed(name, failure) from failure
        raise ConfigError(
            f"There is no module {failure.name}; looked in {Path.cwd()} and among what is installed."
        ) from None
    except (Exception, SystemExit) as failure:
        raise _failed(name, failure) from failure


def _import_file(place: str) -> types.ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        raise ConfigError(f"{place}: there is no such file.")
    # Its own name, so that what it starts or imports finds the same module, unless that name is another's.
    name = path.stem if path.stem not in sys.modules else f"syncd_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{place} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    _look_in(path.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as failure:
        del sys.modules[name]
        raise _failed(place, failure) from failure
    return module


def _look_in(folder: Path) -> None:
    """Let modules be found in a folder, before those that are installed."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _failed(place: str, failure: BaseException) -> ConfigError:
    """Say what went wrong while importing, and where the application can be mended."""
    where = _where(failure)
    if isinstance(failure, ConfigError):
        return ConfigError(f"{place}: {failure}{where}")
    if isinstance(failure, SystemExit):
        return ConfigError(f"{place} left the program when it was imported{where}.")
    return ConfigError(f"{place} cannot be imported: {type(failure).__name__}: {failure}{where}")


def _where(failure: BaseException) -> str:
    """Return the innermost line that is the application's, or nothing."""
    for frame in reversed(traceback.extract_tb(failure.__traceback__)):
        if not frame.filename.startswith(_NOT_THEIRS) and "site-packages" not in frame.filename:
            return f" ({frame.filename}, line {frame.lineno})"
    return ""
