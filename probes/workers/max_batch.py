"""How many pictures at once can the device hold before its memory runs out? By search. Imports torch."""

import contextlib
import gc

# One level of a U-Net as pictures of 1024x1024 meet it: 320 channels, a latent side of 128. A picture more is 10 MB in two
# bytes, for what goes in and for each thing between.
CHANNELS, SIDE = 320, 128
CPU_CHANNELS, CPU_SIDE = 32, 64
MOST = 1 << 20
# A share of what is free: the last of it belongs to the driver, and to whoever else is at home on this card.
SHARE = 0.9


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    kind = torch.float32 if device == "cpu" else torch.float16
    channels, side = (CPU_CHANNELS, CPU_SIDE) if device == "cpu" else (CHANNELS, SIDE)
    torch.backends.mkldnn.enabled = False  # the CPU's oneDNN does not say that it was memory that it lacked
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=kind)
    before = held(torch, device)

    def fits(batch):
        try:
            with torch.no_grad():
                x = torch.randn(batch, channels, side, side, device=device, dtype=kind)
                float(
                    torch.nn.functional.silu(torch.nn.functional.conv2d(x, weight, padding=1)).sum()
                )  # waits for the device
            return True
        except (RuntimeError, MemoryError) as error:
            if not kit.starved(error):
                raise
            return False

    def tried(batch):
        found = fits(batch)
        gc.collect()  # after the except block: the error's traceback held what was allocated
        with contextlib.suppress(AttributeError):
            torch.cuda.empty_cache()
        return found

    tried(1)  # what is loaded at the first call is no part of a batch
    limited(torch, device, params.get("memory") or 0)
    largest = search(tried, params.get("most") or MOST, kit.progress)
    if not largest:
        raise RuntimeError("out of memory: not one picture fits")
    kit.fact("pictures", largest, device=device)
    if device == "cuda":
        kit.fact("left_bytes", held(torch, device) - before)
    kit.progress(1, 1)


def limited(torch, device, memory):
    """Take no more than that, or than most of what is free."""
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(memory or free * SHARE, total) / total)
    elif memory:
        import resource

        with open("/proc/self/status") as status:
            now = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, (now + memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def held(torch, device):
    return torch.cuda.memory_allocated() if device == "cuda" else 0


def search(fits, most, progress=lambda done, total: None):
    """The largest number from 1 to `most` that fits, 0 when none does: doubled until it does not, then halved."""
    good, bad, tries = 0, most + 1, 0
    while bad - good > 1:
        candidate = min(2 * good or 1, most) if bad > most else (good + bad) // 2
        tries += 1
        progress(tries, tries + max(1, (bad - good).bit_length()))
        if fits(candidate):
            good = candidate
        else:
            bad = candidate
    return good
