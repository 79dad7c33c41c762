"""How do the parts fit together? The composition root: builds every object from a Config; only this file knows all."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from exporter import accepted, injection, oneshot
from exporter.about import Own
from exporter.baseline import NOTHING
from exporter.cleanup import Cleanup
from exporter.config import Config
from exporter.exposition import Exposition
from exporter.gate import Gate
from exporter.history import History
from exporter.history_probe import history_probe
from exporter.inbox import Inbox
from exporter.inbox_probe import inbox_probe
from exporter.injection import Injection
from exporter.interpreters import Preparation
from exporter.journal import Journal
from exporter.judge import judged_anew
from exporter.lanes import Lanes, lanes_of, light_slots
from exporter.lately import Lately
from exporter.live import live_series
from exporter.maintenance import Maintenance
from exporter.maintenance import read as read_maintenance
from exporter.past import Pasts
from exporter.redaction import Redactor
from exporter.registry import NoParams, Registry, broken_probe
from exporter.result import Check, Latest, Result
from exporter.schedule import Running, Schedule
from exporter.storage import HISTORY
from exporter.world.real import Doors
from exporter.world.token import Token
from probes.api import Probe

log = logging.getLogger("gpu_canary")

WORKER_LANES = 2
Told = tuple[Maintenance | None, tuple[Injection, ...]]  # what files say of now; a scrape waits for no disk
NEEDS_RESTART = ("web", "storage", "log", "grafana_url")


class App:
    """The running exporter. `load` reads the config anew (it raises ConfigError); `redact` hides what it found."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        registry: Registry,
        doors: Doors,
        redact: Redactor,
        preparation: Callable[[], Preparation] = lambda: Preparation("off"),
    ) -> None:
        self._preparation = preparation
        self.config, self.registry, self.doors, self.redact = config, registry, doors, redact
        self.started = time.time()
        self.gate = Gate(doors, lambda: self.config.gate)
        self._load = load
        self._reloading, self._showing = threading.Lock(), threading.Lock()
        storage = config.storage
        self.storage = Path(storage.path)
        self.history = History(self.storage / HISTORY, storage.retention_time, storage.retention_size, patient=True)
        # made once: another object would be another check, and a reload touches only what changed
        about_history = house_check("history", history_probe(self.history), every=60.0)
        self.inbox = Inbox(redact) if config.web.enable_inbox else None
        about_inbox = [house_check("inbox", inbox_probe(self.inbox), every=60.0)] if self.inbox else []
        self._of_the_house = (about_history, *about_inbox, *plugin_checks(registry))
        self.checks = self._named(config)
        self.history.know({name: check.fingerprint for name, check in self.checks.items()})
        self.journal = Journal(self.history, self.history.latest())
        self.pasts = Pasts(self._past_runs, lambda: accepted.read(self.storage))
        rules = (*registry.rules(), *(rule for check in self.checks.values() for rule in check.probe.rules))
        self.own = Own(rules, config.grafana_url, self.url)
        self._told: Lately[Told] = Lately(lambda: (self.maintenance(), self.injected()), (None, ()))
        self.exposition = Exposition(self._own_blocks, lambda: live_series(self.schedule.running()))
        lanes = Lanes({"light": light_slots(self.checks.values()), "worker": WORKER_LANES})
        self.schedule = Schedule(
            self.execute, self.journal.record, oneshot.late, self._skipped, self.journal.latest, lanes, self._lanes_of
        )
        self.cleanup = Cleanup(doors.launcher.scratch, self._measuring)
        self.own.about.reload_time = self.started
        for check in self.checks.values():
            self._show(check)
        self.journal.subscribe(self._arrived)

    @property
    def machine(self) -> str:
        """The name of the machine that the page is about."""
        return socket.gethostname()

    @property
    def url(self) -> str:
        """Where people find this exporter."""
        host, _, port = self.config.web.listen_address.rpartition(":")
        name = socket.gethostname() if host in ("", "0.0.0.0", "[::]") else host  # noqa: S104  # compared, not bound
        prefix = self.config.web.route_prefix.rstrip("/")
        return self.config.web.external_url or f"http://{name}:{port}{prefix}"

    def start(self) -> None:
        self.schedule.start(self.checks.values())
        self.cleanup.start()

    def stop(self) -> None:
        """Cancel what runs, end the workers, write history. Returns within about three seconds whatever hangs."""
        self.schedule.stop()
        self.cleanup.stop()
        self.doors.close()
        self.exposition.close()
        self.history.close()

    # -- what the web asks (exporter/web/service.py) --------------------------------------------------------------

    def metrics(self, compressed: bool) -> bytes:
        return self.exposition.gzipped() if compressed else self.exposition.plain()

    def latest(self, check: str) -> Latest | None:
        return self.journal.latest(check)

    def runs(self, check: str, since: float = 0.0, limit: int = 100) -> list[Result]:
        return self.history.runs(check, since, limit)

    def next_runs(self) -> Mapping[str, float]:
        return self.schedule.next_runs()

    def running(self) -> Mapping[str, Running]:
        return self.schedule.running()

    def run_now(self, check: str) -> bool:
        return self.schedule.run_now(check)

    def subscribe(self, listener: Callable[[Latest], None]) -> Callable[[], None]:
        return self.journal.subscribe(listener)

    def maintenance(self) -> Maintenance | None:
        return read_maintenance(self.storage)

    def injected(self) -> tuple[Injection, ...]:
        return injection.read(self.storage)

    def preparation(self) -> Preparation:
        return self._preparation()

    def ready(self) -> bool:
        """Every light check has a result, or had its timeout to get one."""
        waited = time.time() - self.started
        light = (c for c in self.checks.values() if c.lane == "light")
        return all(self.journal.latest(c.name) or waited > c.timeout for c in light)

    def _past_runs(self, check: str, limit: int) -> list[Result]:
        return self.history.runs(check, limit=limit, measured=True)

    # -- one run --------------------------------------------------------------------------------------------------

    def execute(self, check: Check, token: Token) -> Result:
        """One run, judged, or the reason why a benchmark has to wait for its card. It records nothing."""
        latest = self.journal.latest(check.name)
        return oneshot.execute(
            check,
            token,
            self.doors,
            self.redact,
            latest.remembered if latest else None,
            past=lambda: self.pasts.of(check),
            attended=lambda run: self.gate.run(check, token, run),
        )

    def _measuring(self) -> bool:
        """Does a benchmark run now? Nothing of ours shall touch the disk meanwhile."""
        return any(held for lane, (held, _) in self.schedule.lanes.occupancy().items() if lane.startswith("gpu"))

    def _skipped(self, name: str, reason: str) -> None:
        with self._showing:
            check = self.checks.get(name)
            if check is not None:
                self.exposition.skip(check, reason)

    def _arrived(self, latest: Latest) -> None:
        with self._showing:  # or a reload between these lines would leave the series of a removed check for ever
            check = self.checks.get(latest.last.check)
            if check is None:
                return
            self.pasts.add(latest.last)
            self.exposition.update(check, latest)
        result = latest.last
        if latest.since == result.started:  # a change of outcome, never a line per run
            why = "; ".join(f"{f.rule}: {f.detail}" for f in result.findings[:3]) or result.detail or "-"
            log.log(
                logging.INFO if result.outcome in ("ok", "skipped") else logging.WARNING,
                "outcome changed",
                extra={"check": result.check, "outcome": result.outcome, "why": why[:500]},
            )

    # -- about ourselves ------------------------------------------------------------------------------------------

    def _own_blocks(self) -> dict[str, tuple[bytes, bytes]]:
        about = self.own.about
        about.lag, about.lanes = self.schedule.lag, self.schedule.lanes.occupancy()
        about.held, about.device_budget = self.schedule.lanes.held_seconds(), self.config.gate.device_budget
        about.next_runs, about.checks = self.schedule.next_runs(), len(self.checks)
        about.history_failures = self.history.write_failures
        mute, injected = self._told()
        about.maintenance = mute is not None and mute.on
        about.injected = tuple(one for one in injected if one.left)
        about.cleanups, about.cleaned_bytes = self.cleanup.runs, self.cleanup.removed_bytes
        return self.own.blocks()

    # -- reload ---------------------------------------------------------------------------------------------------

    def reload(self) -> list[str]:
        """Load the config anew. Everything is parsed and validated first; then only changed checks are touched.

        Returns what needs a restart to take effect. ConfigError leaves the old config running and says so in a metric.
        """
        with self._reloading:
            try:
                config = self._load()
            except Exception as error:
                self.own.about.reload_ok = False
                log.error("the config was not reloaded, the old one goes on: %s", self.redact(str(error)))
                raise
            self.redact.learn(config.secrets)
            late = [name for name in NEEDS_RESTART if getattr(config, name) != getattr(self.config, name)]
            if light_slots(config.checks) != light_slots(self.config.checks):
                late.append("light lane")
            self._take(config)
            self.own.about.reload_ok, self.own.about.reload_time = True, time.time()
            log.info("config reloaded", extra={"checks": len(self.checks), "needs_restart": ",".join(late) or "-"})
            return late

    def _take(self, config: Config) -> None:
        before, after = self.checks, self._named(config)
        self.history.know({name: check.fingerprint for name, check in after.items()})
        old = {name: getattr(self.config, name) for name in NEEDS_RESTART}
        self.config, self.checks = replace(config, **old), after
        self.schedule.update(after.values())
        with self._showing:
            for name, check in before.items():
                if name not in after or after[name].fingerprint != check.fingerprint:
                    self.journal.forget(name)
                    self.pasts.forget(name)
                    self.exposition.forget(name)
            for name, check in after.items():
                if before.get(name) != check:
                    self._show(check)

    def _show(self, check: Check) -> None:
        """A new or changed check, with what history or its runs so far know of it, under its targets of today."""
        latest = self.journal.latest(check.name)
        if latest is not None:
            latest = judged_anew(latest, check.targets, self.pasts.of(check) if _on_quantiles(check) else NOTHING)
            self.journal.amend(latest)
        self.exposition.update(check, latest, counted=False)

    def _lanes_of(self, check: Check) -> frozenset[str]:
        return lanes_of(check, self.doors.gpus.uuid_of)

    def _named(self, config: Config) -> dict[str, Check]:
        """The configured checks, and those of the house: our own history and inbox, plugins that did not load."""
        return {check.name: check for check in (*config.checks, *self._of_the_house)}


def _on_quantiles(check: Check) -> bool:
    return any(target.quantile is not None for target in check.targets)


def plugin_checks(registry: Registry) -> list[Check]:
    """One check in `error` for each plugin that did not load."""
    return [house_check(f"plugin:{b.name}", broken_probe(b), every=3600.0) for b in registry.broken]


def house_check(name: str, probe: Probe[NoParams], every: float) -> Check:
    """A check nobody configures."""
    return Check(name, probe, NoParams(), every, 10.0)
