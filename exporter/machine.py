"""What has this machine? Its doors, the Pythons on it, and a survey of it for a config that nobody wrote."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from exporter.interpreters import Interpreter, find
from exporter.survey import Survey, survey
from exporter.world.gpus import GpuDoor
from exporter.world.host import HostDoor
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from exporter.world.workers import Launcher

SURVEY_SECONDS = 1.5  # a driver that wakes its cards slowly must not hold up the first scrape


class Machine:
    """Every door, opened once. `named`: the interpreters of the config; they change with it.

    prepared: the environment with torch that we make ourselves; preparing: how far that is, "" when it is not.
    """

    def __init__(self, prepared: Path | None = None, preparing: Callable[[], str] = lambda: "") -> None:
        self.named: Mapping[str, str] = {}
        self._prepared = prepared
        gpus = GpuDoor()
        launcher = Launcher(self.interpreters, preparing=preparing, gpus=gpus.look)
        self.doors = Doors(gpus, HostDoor(), launcher)

    def interpreters(self) -> tuple[Interpreter, ...]:
        """The Pythons there are now."""
        return find(self.named, home=Path.home(), environ=os.environ, prepared=self._prepared)

    def survey(self) -> Survey:
        """Look around, in at most SURVEY_SECONDS."""
        world = RealWorld(self.doors, Token(SURVEY_SECONDS))
        return survey(world, self.interpreters(), Path.home())

    def close(self) -> None:
        """End the workers and let go of the driver."""
        self.doors.close()
