"""Does a service get one piece of work done? Runs the program that asks for it, then waits a while. Standard library only.

Each progress row says "now is a moment to look at the card", once a second.
"""

import contextlib
import subprocess
import time

EVERY = 1.0  # seconds between two rows
NOT_FOUND = 127  # the exit code that shells have for it


def bench(kit, params):
    code = work(kit, params["command"])
    end = kit.clock() + params["settle"]
    while code == 0 and kit.clock() < end:
        time.sleep(max(0.0, min(EVERY, end - kit.clock())))
        kit.progress(0, 1)
    kit.data(code=code)


def work(kit, command):
    """Its exit code. What it prints goes to our own log; its process group is ours, so it ends when we are ended."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    except OSError as error:
        print(error)
        return NOT_FOUND
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(EVERY)
        kit.progress(0, 1)
    return process.returncode
