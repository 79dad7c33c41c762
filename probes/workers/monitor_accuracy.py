"""What does a load of known size look like from outside? Rests and loads by turns: memory, one core, memory of a card.

Two rows a phase, a while apart. The parent looks when it reads one, so each is followed by more of the same phase.
"""

import time

SLACK = 1.0  # seconds within which the parent must have looked


def bench(kit, params):
    torch, device = kit.torch(params["device"]) if params["device"] != "cpu" else (None, "cpu")
    on_card = params["vram"] if device == "cuda" else 0
    if on_card:
        take(torch, 1)  # the kernel that fills it is loaded once and for all
    for phase in range(2 * params["rounds"] + 1):
        load = phase % 2 == 1
        held = [bytearray(b"\xa5") * params["memory"], take(torch, on_card) if on_card else None] if load else []
        for wait in (params["seconds"], 0.0):
            kit.data(phase=phase, at=time.time(), cpu=time.process_time(), slack=SLACK)
            spend(kit, wait + (0.0 if wait else SLACK), load)
        held.clear()
        if on_card:
            torch.cuda.empty_cache()
    kit.fact("held_bytes", params["memory"], resource="memory")
    if on_card:
        kit.fact("held_bytes", on_card, resource="vram")


def take(torch, size):
    """So many bytes of the card, written to. From 10 MiB on, torch asks the driver for just that, in steps of 2 MiB."""
    taken = torch.empty(size, dtype=torch.uint8, device="cuda").fill_(1)
    torch.cuda.synchronize()
    return taken


def spend(kit, seconds, load):
    """That time, working on one core or asleep."""
    end = kit.clock() + seconds
    while load and kit.clock() < end:
        sum(range(1000))
    if not load:
        time.sleep(seconds)
