"""What has this machine? Its doors, the Pythons on it, and a survey of it for a config that nobody wrote."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from exporter.config import Config
from exporter.interpreters import Interpreter, Preparation, find, pick
from exporter.machine.survey import Survey, look_around
from exporter.machine.torch_venv import TorchVenv, location
from exporter.storage import default_storage, home
from exporter.world.gpus import GpuDoor
from exporter.world.host import HostDoor
from exporter.world.mounts import OURS, Places
from exporter.world.real import Doors, RealWorld
from exporter.world.token import Token
from exporter.world.workers import Launcher

log = logging.getLogger("gpu_canary")

SURVEY_SECONDS = 1.5  # a driver that wakes its cards slowly must not hold up the first scrape


class Machine:
    """Every door, opened once. `know(config)` tells it which Pythons are named, and where ours with torch lives."""

    def __init__(self, places: Places = OURS) -> None:
        self._named: Mapping[str, str] = {}
        self._prepared = location(default_storage(os.environ))
        self._torch_left_out = False
        self.torch: TorchVenv | None = None
        gpus = GpuDoor()
        launcher = Launcher(self.interpreters, preparation=self.preparation, gpus=gpus.look)
        host = HostDoor(places.procfs, rootfs=places.rootfs if places.mounted else "")
        self.doors = Doors(gpus, host, launcher, places)

    def know(self, config: Config) -> None:
        """The config that holds from now on."""
        self._named, self._prepared = config.interpreters, location(Path(config.storage.path))

    def interpreters(self) -> tuple[Interpreter, ...]:
        """The Pythons there are now."""
        return find(self._named, home=home(), environ=os.environ, prepared=self._prepared)

    def survey(self) -> Survey:
        """Look around, in at most SURVEY_SECONDS."""
        world = RealWorld(self.doors, Token(SURVEY_SECONDS))
        pythons = self.interpreters()
        torch = _mode() != "0" or any(python.torch_version for python in pythons)
        self._torch_left_out = not torch
        return replace(look_around(world, pythons, home(), self.doors.places), torch=torch)

    def prepare_torch(self) -> None:
        """Begin to make a Python with torch in the background, unless there is one. $TORCH=0 forbids it."""
        self.torch = TorchVenv(self._prepared, mode=_mode(), elsewhere=self._users_torch)
        if self._torch_left_out:
            log.info("TORCH=0 and no Python with torch was found: torch_import and the benchmarks are left out")
        self.torch.start()

    def preparation(self) -> Preparation:
        """How far that is."""
        return self.torch.status() if self.torch else Preparation("off")

    def close(self) -> None:
        """End the workers, leave what is half made, and let go of the driver."""
        if self.torch:
            self.torch.close()
        self.doors.close()

    def _users_torch(self) -> str:
        found = find(self._named, home=home(), environ=os.environ)
        best = pick([python for python in found if python.torch_version], "auto")
        return best.path if best else ""


def _mode() -> str:
    """$TORCH: `0` never installs it, `auto` where no Python has it."""
    return os.environ.get("TORCH", "auto")
