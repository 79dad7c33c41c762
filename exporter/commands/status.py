"""What is wrong now? Asked of the running exporter; of the history it left, when none runs; of Prometheus, when wanted."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from urllib.parse import urlsplit

from exporter import flags, inquiry, maintenance, registry
from exporter.config import Web
from exporter.console import Console, Mistake
from exporter.findings import tell_finding
from exporter.history import History
from exporter.machine import Machine
from exporter.maintenance import Maintenance
from exporter.result import RANK, worst
from exporter.standing import Standing, live, remembered
from exporter.storage import HISTORY, candidates
from exporter.units import duration
from probes.api import Finding

STATES = {"ok": "ok", "warn": "warning", "bad": "critical"}
EXIT = {"ok": 0, "skipped": 0, "degraded": 1, "failed": 1, "error": 3}


def main(args: argparse.Namespace, console: Console) -> int:
    console.redact.learn(urlsplit(url).password or "" for url in (args.url or "", args.prometheus or ""))
    if args.prometheus:
        return _wiring(args, console)
    url = args.url or _found(args)
    if url:
        standings, mute = live(url)
        _tell(standings, mute, url, console)
        return EXIT[worst(*(standing.verdict for standing in standings))]
    standings, mute = _from_history(args, console)
    _tell(standings, mute, "", console)
    console.trouble(
        "no exporter runs here, so this is history; `gpu-canary serve` starts one, --url names another place"
    )
    if not any(standing.outcome for standing in standings):
        console.trouble("it holds nothing of these checks; --config.file names the config that it was written with")
    return 3


def _wiring(args: argparse.Namespace, console: Console) -> int:
    """Would anybody be told? 0 when every answer is ok, else 1."""
    from exporter.wiring import wiring  # requests, which the other half of this command need not load
    from exporter.world.control import Access, ControlError, Prometheus

    try:
        given = {field.name: vars(args)[f"prometheus.{field.name}"] or "" for field in fields(Access)}
        answers = wiring(Prometheus(args.prometheus, Access(**given)))
    except ControlError as error:
        raise Mistake(f"--prometheus: {error}") from None
    if console.as_json:
        console.json([asdict(answer) for answer in answers])
    else:
        for answer in answers:
            console.line(f"{answer.question} {answer.detail}", style=STATES[answer.state])
            if answer.todo:
                console.line(answer.todo, indent=2)
    return 0 if all(answer.state == "ok" for answer in answers) else 1


def _found(args: argparse.Namespace) -> str:
    """Where an exporter answers: where its note says, else where the config says; "" when none does."""
    folder = vars(args)["storage.path"]
    address = "" if folder else Web().listen_address
    if vars(args)["config.file"]:
        config = flags.stated(args, registry.load())
        folder, address = config.storage.path, config.web.listen_address
    exporter = inquiry.running(candidates(folder, os.environ))
    if exporter is not None:
        return exporter.url
    usual = f"http://{'127.0.0.1' if address.startswith(':') else ''}{address}" if address else ""
    return usual if usual and inquiry.answers(usual) else ""


def _from_history(args: argparse.Namespace, console: Console) -> tuple[list[Standing], Maintenance | None]:
    probes, machine = registry.load(), Machine(flags.places(args))
    try:
        config = flags.wanted(args, probes, machine)
    finally:
        machine.close()
    console.redact.learn(config.secrets)
    path = Path(config.storage.path) / HISTORY
    if not path.exists():
        raise Mistake(f"no exporter runs here and there is no {path}; `gpu-canary serve` starts one")
    try:
        history = History(path, config.storage.retention_time, config.storage.retention_size)
    except OSError as error:
        raise Mistake(f"{error}; be the user that runs the exporter, or give --storage.path") from None
    try:
        history.know({check.name: check.fingerprint for check in config.checks})
        return list(remembered(config.checks, history.latest())), maintenance.read(path.parent)
    finally:
        history.close()


def _tell(standings: Sequence[Standing], mute: Maintenance | None, url: str, console: Console) -> None:
    if console.as_json:
        told = asdict(mute) if mute else None
        console.json(
            {"exporter": url or None, "maintenance": told, "checks": [standing.to_dict() for standing in standings]}
        )
        return
    counts = Counter(standing.outcome or "not yet run" for standing in standings)
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
    console.line(f"{url or 'history'}: {summary or 'no checks'}", style="bold")
    if mute is not None:
        console.line(f"maintenance for {duration(mute.left)} more, alerts are mute: {mute.why}", style="warning")
    ranked = sorted(standings, key=lambda s: (-RANK[s.verdict], s.name))
    rows = [(s.name, s.shown, _ago(s.since), "now" if s.running else _ago(s.started)) for s in ranked]
    console.table(("CHECK", "OUTCOME", "SINCE", "LAST RUN"), rows)
    troubled = [standing for standing in ranked if standing.verdict not in ("ok", "skipped")]
    rules = {rule.name: rule for rule in registry.load().rules()} if troubled else {}
    for standing in troubled:
        last = standing.last or {}
        console.line(f"\n{standing.name}: {standing.shown}", style=standing.verdict)
        if last.get("detail"):
            console.line(last["detail"], indent=2)
        for found in last.get("findings", ()):
            tell_finding(Finding(**found), rules, console)


def _ago(moment: float | None) -> str:
    return "-" if moment is None else f"{duration(max(0.0, time.time() - moment))} ago"
