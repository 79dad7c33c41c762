"""How many bytes a second does memory copy, within the device's own? Imports torch."""

# Far larger than any cache (256 MiB on the CPU against an EPYC's L3; a GiB against 126 MB of L2), small next to the card.
SIZES, CPU_SIZE = ((7 * 2**30, 2**30), (0, 2**28)), 2**28
SECONDS = 4.0


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    size = (params.get("size") or kit.fitting(SIZES, CPU_SIZE)) // 4 * 4  # whole fp32 numbers
    kit.progress(0, 1)
    here = torch.rand(size // 4, device=device)
    there = torch.empty_like(here)
    median = kit.seconds(lambda: there.copy_(here, non_blocking=True), kit.budget(params, SECONDS))
    kit.fact("bytes_per_second", 2 * size / median, device=device)  # read plus written
    kit.progress(1, 1)
