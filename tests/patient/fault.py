"""What befalls a worker here? One of these, named in the file `fault` of this Python's prefix.

A worker with torch meets it at the first work that it asks of its card (torch.py beside this), one without at its first row.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time

MIB = 2**20


class OutOfMemoryError(RuntimeError):
    """As torch's."""


def hangs():
    """For ever, whoever asks it to end, with a child that left its session."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("the driver does not answer", flush=True)
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
    time.sleep(600)


def host_out_of_memory():
    """Really: 64 MiB more than it has now, and no more."""
    with open("/proc/self/status") as status:
        now = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (now + 64 * MIB, now + 64 * MIB))
    held = []
    while True:
        held.append(bytearray(16 * MIB))


def card_out_of_memory():
    """The words are torch's, of CUDACachingAllocator.cpp."""
    raise OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 6.90 GiB is free."
    )


def segfault():
    ctypes.string_at(0)


def abort():
    os.abort()


def killed():
    """As the kernel's OOM killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def launch_failure():
    raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported")


def card_lost():
    """What CUDA says after an XID 79: the card fell off the bus."""
    raise RuntimeError("CUDA error: no CUDA-capable device is detected")


def befall(*_, **__):
    """The fault of this Python."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.path.join(sys.prefix, "fault")) as file:
        globals()[file.read()]()


def after_a_row(frame, event, argument):
    """A profile function: the fault befalls the worker once it wrote a row of its own."""
    if event == "return" and frame.f_code.co_name == "_row" and frame.f_locals["kind"] != "start":
        sys.setprofile(None)
        befall()


def begin():
    """Called when this Python starts (torchless.pth)."""
    sys.setprofile(after_a_row)
