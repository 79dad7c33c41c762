"""Does everything a good worker does."""

import os
import time


def bench(kit, params):
    kit.progress(0, 2)
    kit.fact("flops_per_second", 3.5e12, dtype="fp32", device="cpu")
    kit.data(
        environ=dict(os.environ), params=params, pid=os.getpid(), group=os.getpgid(0), stdin=os.read(0, 1).decode()
    )
    time.sleep(0.3)  # long enough for the parent to look at the card meanwhile, on a busy machine too
    print("a word from the driver")
    kit.progress(2, 2)
