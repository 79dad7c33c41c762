"""Which parts of running a child process need POSIX? All of them stand here, beside what other systems offer instead."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

PROC = Path("/proc")
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}  # system calls without a function in glibc; ioprio_set(2)
IOPRIO_PROCESS, IOPRIO_IDLE = 1, 3 << 13  # IOPRIO_WHO_PROCESS; class idle, above the 13 bits of its data
NICE = 10
SWEEPS = 20  # a process that forks faster than we can kill it is met again in the next sweep


class GroupOptions(TypedDict, total=False):
    start_new_session: bool
    creationflags: int


def own_group() -> GroupOptions:
    """Popen options that give a child its own process group, away from our terminal's Ctrl-C."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Ask the child and its whole group to end."""
    _signal_group(process, "SIGTERM")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and its whole group at once. Call it before the child is reaped: then its group id is still its own."""
    _signal_group(process, "SIGKILL")


def _signal_group(process: subprocess.Popen[bytes], name: str) -> None:
    if process.returncode is not None:
        return
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(process.pid, signal.Signals[name])


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Did the child end? Where the system can tell, it is left unreaped, so that its group can still be killed."""
    if sys.platform == "linux" and process.returncode is None:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return process.poll() is not None


def await_exit(process: subprocess.Popen[bytes]) -> None:
    """Block until the child ended, without reaping it where the system allows."""
    if sys.platform == "linux":
        with suppress(ChildProcessError):  # another thread reaped it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def kill_marked(marker: str) -> None:
    """Kill every process whose environment carries `marker` (NAME=value), however it left its group. Linux only.

    What a child starts inherits its environment, daemons too.
    """
    wanted = marker.encode()
    _sweep(lambda folder: wanted in (folder / "environ").read_bytes().split(b"\0"))


def pipe_name(pipe: int) -> str:
    """What /proc calls the pipe behind that file descriptor; "" where there is no such thing."""
    return os.readlink(f"/proc/self/fd/{pipe}") if sys.platform == "linux" else ""


def kill_holders(pipe: str) -> None:
    """Kill every process that holds an end of that pipe (a `pipe_name`) and is neither we nor a child of ours."""
    own = f"PPid:\t{os.getpid()}\n"

    def holds(folder: Path) -> bool:
        # A child of ours between fork and exec holds every descriptor we have, and is innocent.
        return own not in (folder / "status").read_text() and any(
            os.readlink(fd) == pipe for fd in (folder / "fd").iterdir()
        )

    _sweep(holds)


def _sweep(is_ours: Callable[[Path], bool]) -> None:
    for _ in range(SWEEPS):
        if not sum(_kill_if(folder, is_ours) for folder in _processes()):
            return


def _processes() -> Iterator[Path]:
    if sys.platform == "linux":
        yield from (entry for entry in PROC.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid())


def _kill_if(folder: Path, is_ours: Callable[[Path], bool]) -> bool:
    """Kill that process if it is ours; the pidfd makes sure that the pid still means the process we looked at."""
    if sys.platform != "linux":
        return False
    with suppress(OSError):  # it ended meanwhile, or belongs to another user
        fd = os.pidfd_open(int(folder.name))
        try:
            if is_ours(folder):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                return True
        finally:
            os.close(fd)
    return False


def exit_text(code: int) -> str:
    """How a process ended, for people: `SIGSEGV` or `exit status 3`."""
    with suppress(ValueError):
        if code < 0:
            return signal.Signals(-code).name
    return f"exit status {code}"


def oom_kills() -> int:
    """How many processes the kernel's OOM killer ended since boot; 0 where the kernel does not tell."""
    with suppress(OSError):
        for line in (PROC / "vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process; wait while another holds it. No lock on Windows."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def hold(folder: Path) -> int | None:
    """The folder's lock as a descriptor to close; None while somebody else has it, or where there is no such lock."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def lower_priority(pid: int) -> None:
    """Let a process of ours give way to everything else: nice 10, and the disk only while nobody else wants it (Linux).

    Its threads to come do the same; call it before there are any.
    """
    if sys.platform == "win32":
        return
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with suppress(OSError):  # among the sessions of a desktop only this counts: sched(7), "The autogroup feature"
        (PROC / str(pid) / "autogroup").write_text(str(NICE))
    if sys.platform == "linux" and platform.machine() in IOPRIO_SET:
        ctypes.CDLL(None).syscall(IOPRIO_SET[platform.machine()], IOPRIO_PROCESS, pid, IOPRIO_IDLE)
