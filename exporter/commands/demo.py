"""A small fleet without a GPU: simulated hosts that anyone can scrape, look at and be alerted by."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from exporter import flags, logs, registry
from exporter.config import Config, ConfigError, Storage
from exporter.config.fleet import SELF, FleetEntry
from exporter.config.validation import nearest
from exporter.console import Console, Mistake
from exporter.demo import backfill, scenario
from exporter.demo.changes import PAST
from exporter.demo.hosts import Simulated
from exporter.demo.scenario import Host, Scenario
from exporter.machine import Machine
from exporter.registry import Registry
from exporter.web.listening import Unreachable, listen
from exporter.web.server import serve
from probes.params import parse_duration

LEAST_STEP, LAST_PORT, FASTEST = 5.0, 65535, 10_000.0


@dataclass(frozen=True)
class Place:
    """Where a simulated host answers. `name` is how others reach it, with the port; `url` is how people do."""

    host: Host
    listeners: list[socket.socket]
    address: str
    name: str
    url: str


def main(args: argparse.Namespace, console: Console) -> int:
    probes = registry.load()
    script = _chosen(args, probes)
    if args.backfill is not None:
        return _backfill(args, script)
    config = flags.over(Config(), args)
    if not 0 < args.speed <= FASTEST:
        raise Mistake(f"--speed {args.speed:g}: expected a number above 0 and up to {FASTEST:g}, like 60")
    logs.set_up(config.log.level, config.log.format, console.redact)
    with tempfile.TemporaryDirectory(prefix="gpu-canary-demo-") as folder:
        apps = _apps(script.hosts, config, probes, Path(folder), args.speed, console)
        for alert in script.alerts:
            apps[0][1].remember(alert)
        _serve(apps, console)
    logging.shutdown()
    os._exit(0)  # the other hosts' threads serve on; they are daemons, and there is nothing to keep


def _chosen(args: argparse.Namespace, probes: Registry) -> Scenario:
    try:
        script = scenario.load(args.scenario, probes.probes)
    except ConfigError as error:
        raise Mistake(f"the scenario cannot be used:\n{error}") from None
    names = [host.name for host in script.hosts]
    wanted = [name.strip() for name in args.hosts.split(",")] if args.hosts else names
    for name in wanted:
        if name not in names:
            raise Mistake(
                f"--hosts: {name!r} is not in the scenario, which has {', '.join(names)}{nearest(name, names)}"
            )
    return Scenario(
        tuple(host for host in script.hosts if host.name in wanted),
        tuple(alert for alert in script.alerts if alert.host in wanted),
    )


def _backfill(args: argparse.Namespace, script: Scenario) -> int:
    """The past as text, so that a Prometheus that starts now has a history."""
    try:
        length, step = parse_duration(args.backfill), parse_duration(args.step) if args.step else backfill.STEP
    except ValueError as error:
        raise Mistake(str(error)) from None
    if not LEAST_STEP <= step <= length <= PAST:
        raise Mistake(
            f"--backfill {args.backfill} --step {step:g}s: expected a step of at least {LEAST_STEP:g}s and a past that is "
            f"longer than it, up to {PAST / 86400:g}d, like --backfill 48h --step 1m"
        )
    if args.output is None:
        backfill.backfill(script.hosts, script.alerts, time.time(), length, step, sys.stdout.write)
        return 0
    whole = Path(args.output)
    part = whole.with_name(f"{whole.name}.part")  # nobody shall read half of it
    try:
        with part.open("w", encoding="utf-8") as file:
            backfill.backfill(script.hosts, script.alerts, time.time(), length, step, file.write)
        part.replace(whole)
    except OSError as error:
        raise Mistake(f"{args.output} cannot be written: {error.strerror}; --output names another place") from None
    return 0


def _apps(
    hosts: Sequence[Host], config: Config, probes: Registry, folder: Path, speed: float, console: Console
) -> list[tuple[Place, Simulated]]:
    doors, start = Machine().doors, time.time()
    try:
        places = _places(hosts, config)
    except Unreachable as error:
        raise Mistake(str(error)) from None
    fleet = tuple(_entry(place, first=place is places[0]) for place in places)
    apps = []
    for place in places:
        own = _config(config, place, folder / place.host.name)
        if place is places[0]:  # it is the one that Alertmanager and Prometheus's discovery know
            own = replace(own, fleet=fleet, web=replace(own.web, enable_inbox=True))
        apps.append((place, Simulated(place.host, own, probes, doors, console.redact, start, speed)))
    return apps


def _places(hosts: Sequence[Host], config: Config) -> list[Place]:
    """One port for each host, from the wanted one upwards; for port 0, each that the kernel likes."""
    name, _, first = config.web.listen_address.rpartition(":")
    outside = urlsplit(config.web.external_url).hostname
    reached = outside or (name if name not in ("", "0.0.0.0", "[::]") else socket.gethostname())  # noqa: S104  # compared
    if int(first) + len(hosts) - 1 > LAST_PORT:
        raise Mistake(f"{len(hosts)} hosts need {len(hosts)} ports from {first} upwards; begin at a lower one, or at 0")
    places: list[Place] = []
    for number, host in enumerate(hosts):
        listeners = listen(f"{name}:{int(first) + number if int(first) else 0}")
        port = listeners[0].getsockname()[1]
        url = config.web.external_url if config.web.external_url and not places else f"http://{reached}:{port}"
        places.append(Place(host, listeners, f"{name}:{port}", f"{reached}:{port}", url))
    return places


def _entry(place: Place, first: bool) -> FleetEntry:
    labels = {"instance": place.host.name, **({"tier": place.host.tier} if place.host.tier else {})}
    return FleetEntry(targets=(SELF if first else place.name,), labels=labels)


def _config(config: Config, place: Place, folder: Path) -> Config:
    folder.mkdir()
    web = replace(config.web, listen_address=place.address, external_url=place.url)
    return replace(config, checks=place.host.checks, web=web, storage=Storage(path=str(folder)))


def _serve(apps: Sequence[tuple[Place, Simulated]], console: Console) -> None:
    for place, app in apps:
        app.start()
        console.line(f"{place.host.name}: {place.url.rstrip('/')}/")
    (first, own), *others = apps
    for place, app in others:
        threading.Thread(target=serve, args=(app, _nothing, None, place.listeners), daemon=True).start()
    console.line(f"Prometheus finds all of them at {first.url.rstrip('/')}/sd")
    serve(own, lambda: _stop(app for _, app in apps), None, first.listeners)


def _stop(apps: Iterable[Simulated]) -> None:
    for app in apps:
        app.stop()


def _nothing() -> None:
    """The first host's server stops them all."""
