"""Dies by a signal or with an exit status, without a word."""

import os
import signal


def bench(kit, params):
    kit.fact("flops_per_second", 1.0, dtype="fp32", device="cpu")
    if "signal" in params:
        os.write(2, b"NVRM: the last words\n")
        os.kill(os.getpid(), getattr(signal, params["signal"]))
    os._exit(params["status"])
