"""Does a probe keep the contract? The proof that third parties run before they ship one."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback

from exporter import registry
from exporter.config.validation import nearest
from exporter.console import Console, Mistake
from probes.api import Probe
from probes.testing import verify


def main(args: argparse.Namespace, console: Console) -> int:
    module, colon, name = args.probe.partition(":")
    if not module or not colon or not name.isidentifier():
        raise Mistake(f"{args.probe!r}: write MODULE:PROBE, like my_package.my_probe:PROBE")
    wrong = _problems(module, name)
    if args.json:
        console.json({"probe": args.probe, "ok": not wrong, "problems": wrong})
    elif wrong:
        console.line("\n".join(wrong))
        promises = "a promise" if len(wrong) == 1 else f"{len(wrong)} promises"
        console.line(f"{args.probe} breaks {promises} of the contract", style="failed")
    else:
        console.line(f"{args.probe} keeps the contract", style="ok")
    return 1 if wrong else 0


def _problems(module: str, name: str) -> list[str]:
    sys.path.insert(0, os.getcwd())  # a package under development, as `python -m` would find it
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise Mistake(f"there is no module {error.name!r}; install its package, or go where it lies") from None
        return [_told(error)]
    except Exception as error:  # whatever a stranger's module does, the answer is what is wrong with it
        return [_told(error)]
    probe = getattr(found, name, None)
    if probe is None:
        raise Mistake(f"{module} has no {name!r}{nearest(name, vars(found))}; name the Probe object")
    if not isinstance(probe, Probe):
        return [f"{module}:{name} is a {type(probe).__name__}, not a probes.api.Probe"]
    others = {key: other for key, other in registry.load().probes.items() if other is not probe}
    try:
        registry.accept(probe, others)
    except ValueError as error:
        return [f"{probe.name}: {error}", *verify(probe)]
    return verify(probe)


def _told(error: Exception) -> str:
    """The exception and the stranger's own line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{place}{''.join(traceback.format_exception_only(error)).strip()}"
