"""The exporter itself: what runs until SIGTERM, and how it comes up."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from exporter import flags, inquiry, logs, registry
from exporter.app import App
from exporter.config import Config
from exporter.config.document import ConfigError
from exporter.console import Console, Mistake
from exporter.machine import Machine
from exporter.registry import Registry
from exporter.storage import occupied
from exporter.web.access import Access
from exporter.web.listening import Unreachable, listen
from exporter.web.server import serve

log = logging.getLogger("gpu_canary")


def main(args: argparse.Namespace, console: Console) -> int:
    probes, machine = registry.load(), Machine(flags.places(args))
    config = flags.wanted(args, probes, machine)
    console.redact.learn(config.secrets)
    access = _access(config)
    if vars(args)["config.check"]:
        console.line(f"{config.source or 'no config file'}: ok, {len(config.checks)} checks", style="ok")
        return 0
    logs.set_up(config.log.level, config.log.format, console.redact)
    _alone(config)
    try:
        listeners = listen(config.web.listen_address)
        app = _app(args, config, probes, machine, console)
    except Unreachable as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        raise Mistake(f"{error}; --storage.path names another place") from None
    host, port = listeners[0].getsockname()[:2]
    _introduce(config, probes)
    app.start()
    machine.prepare_torch()
    with occupied(app.storage, _url(config, host, port, tls=access is not None and access.context is not None)):
        serve(app, lambda: _stop(app, machine), access, listeners)
    logging.shutdown()
    os._exit(0)  # whatever still hangs is a daemon thread; Python would wait for some of them


def _app(args: argparse.Namespace, config: Config, probes: Registry, machine: Machine, console: Console) -> App:
    return App(
        config, lambda: flags.load(args, probes, machine), probes, machine.doors, console.redact, machine.preparation
    )


def _stop(app: App, machine: Machine) -> None:
    log.info("stopping: runs are cancelled, history is written")
    if machine.torch:
        machine.torch.close()
    app.stop()


def _access(config: Config) -> Access | None:
    try:
        return Access(config.web.config_file) if config.web.config_file else None
    except ConfigError as error:
        raise Mistake(f"the web config cannot be used:\n{error}") from None


def _alone(config: Config) -> None:
    """Two exporters on one history would each overwrite the other's truth."""
    other = inquiry.running([Path(config.storage.path)])
    if other is not None:
        raise Mistake(
            f"the exporter at {other.url} (process {other.pid}) works with {config.storage.path} already; "
            "stop it, or give this one its own --storage.path"
        )


def _introduce(config: Config, probes: Registry) -> None:
    names = ",".join(check.name for check in config.checks)
    known = {"checks": names, "interpreters": ",".join(config.interpreters) or "-"}
    if config.source:
        log.info("config loaded from %s", config.source, extra={**known, "checks": len(config.checks)})
    else:
        log.info("no config file: these checks suit this machine; `gpu-canary init` writes them down", extra=known)
    for plugin in probes.broken:
        log.warning(
            "a plugin did not load", extra={"plugin": plugin.name, "of": plugin.distribution, "why": plugin.reason}
        )


def _url(config: Config, host: str, port: int, tls: bool) -> str:
    """Where people on this machine reach us."""
    local = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)  # noqa: S104  # compared, not bound
    name = f"[{local}]" if ":" in local else local
    return f"{'https' if tls else 'http'}://{name}:{port}{config.web.route_prefix.rstrip('/')}"
