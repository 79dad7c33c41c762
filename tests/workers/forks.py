"""Leaves a grandchild behind: in its group, in a session of its own, or without a trace of its environment."""

import os
import subprocess
import sys

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def bench(kit, params):
    how = {"group": {}, "session": {"start_new_session": True}, "stranger": {"start_new_session": True, "env": {}}}
    grandchild = subprocess.Popen(SLEEP, **how[params["how"]])
    kit.data(grandchild=grandchild.pid, pid=os.getpid())
    if params.get("hang"):
        grandchild.wait()
