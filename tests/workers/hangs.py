"""Says one thing and never ends; with params.stubborn not even when asked to."""

import signal
import time


def bench(kit, params):
    if params.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kit.fact("flops_per_second", 1.0, dtype="fp32", device="cpu")
    print("waiting for a lock")
    time.sleep(600)
