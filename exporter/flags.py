"""Which config holds for this command? The file's, or one for what this machine has; over either, the flags."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter import config as files
from exporter.config import Config, ConfigError, Log, Settings, Storage, Web, configured
from exporter.config.document import Ledger, Node, plant
from exporter.config.validation import validated
from exporter.console import Mistake
from exporter.machine import Machine
from exporter.machine.discovery import discover
from exporter.registry import Registry
from exporter.storage import default_storage
from exporter.world.mounts import OURS, Places

SECTIONS: Mapping[str, type[Any]] = {"web": Web, "storage": Storage, "log": Log}


def wanted(args: argparse.Namespace, registry: Registry, machine: Machine) -> Config:
    """The config this command line asks for. Mistake says everything that is wrong with it."""
    with _told():
        return load(args, registry, machine)


def stated(args: argparse.Namespace, registry: Registry) -> Config:
    """What file and flags say, without a look at this machine: no checks where there is no file. Mistake, too."""
    with _told():
        return over(read(args, registry) or Config(), args)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise Mistake(f"the config cannot be used:\n{error}") from None


def load(args: argparse.Namespace, registry: Registry, machine: Machine) -> Config:
    """The same as `wanted`, for those who go on without it: ConfigError. The machine knows the config then."""
    file = read(args, registry)
    config = over(file or Config(), args)
    machine.know(config)
    if file is None:
        found = configured(discover(machine.survey(), registry.probes), registry.probes)
        config = replace(config, checks=found.checks, interpreters=found.interpreters)
        machine.know(config)
    return config


def places(args: argparse.Namespace) -> Places:
    """Where the host is, when this is a container that looks at it, and where benchmarks take turns."""
    given = vars(args)
    found = Places(
        given["path.procfs"] or OURS.procfs, given["path.rootfs"] or OURS.rootfs, given["path.locks"] or OURS.locks
    )
    if given["path.procfs"] and not Path(found.procfs, "stat").is_file():
        raise Mistake(
            f"--path.procfs {found.procfs}: that is no /proc; mount the host's there, like -v /proc:/host/proc:ro"
        )
    if not Path(found.rootfs).is_dir():
        raise Mistake(
            f"--path.rootfs {found.rootfs}: no such directory; mount the host's / there, like -v /:/host/root:ro"
        )
    return found


def read(args: argparse.Namespace, registry: Registry) -> Config | None:
    """The config of --config.file and --config.profile; None without a file. ConfigError when it is wrong."""
    given = vars(args)
    file, profile = given["config.file"], given["config.profile"] or ""
    if profile and not file:
        raise Mistake("--config.profile lays an overlay over a file: give --config.file too")
    return files.load(file, registry.probes, profile) if file else None


def over(config: Config, args: argparse.Namespace) -> Config:
    """`config` with the flags laid over it: `--storage.retention.time` is its `storage.retention_time`."""
    ledger = Ledger()
    for section, model in SECTIONS.items():
        given = {flag: value for flag, value in vars(args).items() if _section(flag) == section and value is not None}
        node = Node({_key(flag): plant(value, f"--{flag.replace('_', '-')}") for flag, value in given.items()})
        values = validated(model, node, section, ledger)
        changes = {_key(flag): getattr(values, _key(flag)) for flag in given} if values else {}
        config = replace(config, **{section: replace(getattr(config, section), **changes)})
    if vars(args).get("grafana_url"):
        node = Node({"grafana_url": plant(args.grafana_url, "--grafana-url")})
        settings = validated(Settings, node, "", ledger)
        config = replace(config, grafana_url=settings.grafana_url) if settings else config
    if ledger.problems:
        raise ConfigError(ledger.problems)
    path = config.storage.path or str(default_storage(os.environ))
    return replace(config, storage=replace(config.storage, path=str(Path(path).absolute())))


def _section(flag: str) -> str:
    return flag.partition(".")[0]


def _key(flag: str) -> str:
    return flag.partition(".")[2].replace(".", "_")
