"""How many bytes a second go over the bus, between pinned host memory and the card? Imports torch."""

SIZES, CPU_SIZE = ((7 * 2**30, 2**30), (0, 2**28)), 2**28
SECONDS = 6.0
DIRECTIONS = ("to_device", "from_device")


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    size = (params.get("size") or kit.fitting(SIZES, CPU_SIZE)) // 4 * 4  # whole fp32 numbers
    budget = kit.budget(params, SECONDS) / len(DIRECTIONS)
    there = torch.rand(size // 4, device=device)
    # Pageable memory would measure the driver's own copy.
    here = torch.empty(size // 4, pin_memory=device == "cuda").copy_(there)
    for done, direction in enumerate(DIRECTIONS):
        source, target = (here, there) if direction == "to_device" else (there, here)

        def copy(source=source, target=target):
            target.copy_(source, non_blocking=True)

        kit.seconds(copy, 0.0)  # until the link is awake: an idle card lowers it
        kit.progress(2 * done + 1, 2 * len(DIRECTIONS))  # now the parent looks at the link, while copying goes on
        kit.fact("bytes_per_second", size / kit.seconds(copy, budget), direction=direction, device=device)
    kit.progress(1, 1)
