"""What do these checks say now? One run of each, by the very call the schedule makes."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter import accepted, findings, flags, inquiry, oneshot, registry, selection, storage
from exporter.baseline import Past
from exporter.config import Config
from exporter.console import Console, Mistake
from exporter.history import History, recall
from exporter.journal import Journal
from exporter.machine import Machine
from exporter.past import Pasts
from exporter.result import Check, Result
from exporter.schedule import HUNG_GRACE
from exporter.world.token import Token


def main(args: argparse.Namespace, console: Console) -> int:
    machine = Machine(flags.places(args))
    try:
        results = _results(args, console, machine)
    finally:
        machine.close()
    if args.json:
        console.json([findings.as_data(result) for result in results])
    elif len(results) > 1:
        console.line(_summary(results), style=findings.verdict(results))
    return findings.exit_code(results)


def _results(args: argparse.Namespace, console: Console, machine: Machine) -> list[Result]:
    probes = registry.load()
    params = selection.given(args.param)
    if args.interpreter:
        params["interpreter"] = args.interpreter
    file = vars(args)["config.file"]
    # Params for a probe need no survey of this machine; without them its checks here are the better answer.
    alone = params and not file
    config = flags.stated(args, probes) if alone else flags.wanted(args, probes, machine)
    machine.know(config)  # else the Python with torch that we prepared would be missing where there are params
    console.redact.learn(config.secrets)
    checks = selection.timed(selection.selected(args.name, params, config, probes), args.timeout)
    results = []
    with recording(args.record, config, checks) as journal:
        for check in checks:
            result = one(check, check.name, machine, config, journal, console)
            results.append(result)
            if not args.json:
                findings.tell(result, check.probe, console)
    return results


def one(
    check: Check, title: str, machine: Machine, config: Config, journal: Journal | None, console: Console
) -> Result:
    """One run in front of a person, recorded where there is a journal; the progress bar is called `title`."""
    latest = journal.latest(check.name) if journal else None
    previous = latest.remembered if latest else None
    file = Path(config.storage.path) / storage.HISTORY  # of an exporter that may be running

    def past() -> Past:
        return Pasts(lambda name, limit: recall(file, name, limit), lambda: accepted.read(file.parent)).of(check)

    with console.progress(title, at_once=check.lane != "light") as progress:  # torch alone takes seconds to import
        result = attended(
            check,
            lambda token: oneshot.execute(check, token, machine.doors, console.redact, previous, past=past),
            progress,
        )
    if journal:
        journal.record(result)
    return result


def attended(check: Check, run: Callable[[Token], Result], progress: Callable[[float, float], None]) -> Result:
    """One run in front of a person: Ctrl-C cancels its token, and an answer comes whatever hangs."""
    token = Token(check.timeout, progress)
    box: list[Result] = []
    done = threading.Event()

    def work() -> None:
        try:
            box.append(run(token))
        finally:
            done.set()

    begun = time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:  # from here on: a Ctrl-C that comes while the thread starts must end the worker too
        threading.Thread(target=work, name=f"run {check.name}", daemon=True).start()
        done.wait(check.timeout + HUNG_GRACE)
    except KeyboardInterrupt:
        token.cancel("aborted")
        done.wait(HUNG_GRACE)  # its worker is killed within it; a second Ctrl-C does not wait for that
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return box[0] if box else oneshot.late(check, time.monotonic() - begun)


@contextmanager
def recording(wanted: bool, config: Config, checks: tuple[Check, ...]) -> Iterator[Journal | None]:
    """The journal of the storage folder, when results shall be kept. Two writers would each overwrite the other's truth."""
    if not wanted:
        yield None
        return
    folder = Path(config.storage.path)
    exporter = inquiry.running([folder])
    if exporter is not None:
        raise Mistake(
            f"--record: the exporter at {exporter.url} (process {exporter.pid}) keeps this history itself; "
            "leave --record out, or press `run now` on its page"
        )
    try:
        history = History(folder / storage.HISTORY, config.storage.retention_time, config.storage.retention_size)
    except OSError as error:
        raise Mistake(f"--record: {error}; be the user that runs the exporter, or give --storage.path") from None
    history.know({check.name: check.fingerprint for check in checks})
    try:
        yield Journal(history, history.latest())
    finally:
        history.close()


def _summary(results: list[Result]) -> str:
    counts = Counter(findings.outcome_of(result) for result in results)
    return f"{len(results)} checks: " + ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
