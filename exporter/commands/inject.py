"""Does the pager work? A finding of a rule's, made up, that the running exporter shows until it ends by itself."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from exporter import inquiry, registry
from exporter.config.entries import NAME_PATTERN
from exporter.config.validation import nearest
from exporter.console import Console, Mistake
from exporter.history_probe import UNWRITTEN
from exporter.inbox_probe import NO_PAGER
from exporter.injection import LONGEST, TEXT, Injection, begin, end, read
from exporter.storage import candidates
from exporter.units import duration
from probes.api import Rule
from probes.params import parse_duration

NOBODY = "injected"  # the check of a rule that any check can fire


def main(args: argparse.Namespace, console: Console) -> int:
    folders = candidates(vars(args)["storage.path"], os.environ)
    rule, owner = _rule(args.rule) if args.rule else (None, "")
    if rule is None and not args.off:
        raise Mistake(
            "say which rule fires: gpu-canary inject disk-low; `gpu-canary explain PROBE` lists a probe's rules"
        )
    exporter = inquiry.running(folders)
    storage = Path(exporter.storage) if exporter else folders[0]
    try:
        if args.off:
            end(storage, rule.name if rule else "")
        elif rule is not None:
            severity, seconds = args.severity or rule.severity, _length(args.length)
            begin(storage, _named(args.check or owner), rule.name, severity, _subject(args.subject), seconds)
    except OSError as error:
        raise Mistake(
            f"{storage} cannot be written: {error.strerror}; do this as the user that runs the exporter, "
            "or give --storage.path"
        ) from None
    now = read(storage)
    _tell(now, storage, console)
    if any(one.severity == "info" for one in now):
        console.note("no alert fires on an info finding; --severity warning makes one fire")
    if exporter is None:
        console.note(f"no exporter runs on {storage}; it counts for the next one there")
    return 0


def _rule(word: str) -> tuple[Rule, str]:
    """The rule of that name, and the check that it is said of unless told otherwise."""
    probes = registry.load()
    known = {rule.name: (rule, NOBODY) for rule in probes.rules()}
    known |= {UNWRITTEN.name: (UNWRITTEN, "history"), NO_PAGER.name: (NO_PAGER, "inbox")}
    known |= {rule.name: (rule, probe.name) for probe in probes.probes.values() for rule in probe.rules}
    if word not in known:
        kebab = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", word.removeprefix("GpuCanary")).lower()
        hint = nearest(kebab, known)
        kind = (
            "is an alert; inject the finding of a rule, and the alerts on it fire" if _is_alert(word) else "is no rule"
        )
        raise Mistake(f"{word!r} {kind}{hint}; `gpu-canary explain PROBE` lists a probe's rules")
    return known[word]


def _is_alert(word: str) -> bool:
    return word.startswith("GpuCanary")


def _named(check: str) -> str:
    if not re.fullmatch(NAME_PATTERN, check):
        raise Mistake(f"--check {check!r}: that is no name of a check; `gpu-canary list --checks` shows them")
    return check


def _subject(text: str) -> str:
    if not text or len(text) > TEXT or not text.isprintable():
        raise Mistake(f"--subject: write 1 to {TEXT} printable characters, like --subject /models")
    return text


def _length(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise Mistake(f"--for: {error}") from None
    if not 0 < seconds <= LONGEST:
        raise Mistake(
            f"--for: at most {duration(LONGEST)}, and more than nothing; a test that is forgotten pages people"
        )
    return seconds


def _tell(now: Sequence[Injection], storage: Path, console: Console) -> None:
    if console.as_json:
        console.json({"storage": str(storage), "injected": [asdict(one) for one in now]})
    elif not now:
        console.line("nothing is injected")
    for one in () if console.as_json else now:
        console.line(
            f"injected: {one.severity} {one.rule} of check {one.check}, subject {one.subject}, "
            f"for {duration(one.left)}; `gpu-canary inject --off` ends it now"
        )
