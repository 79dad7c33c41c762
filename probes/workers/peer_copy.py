"""How many bytes a second does one card copy to the memory of another, and back? Imports torch."""

SIZES, CPU_SIZE = ((7 * 2**30, 2**30), (0, 2**28)), 2**28
SECONDS = 6.0
DIRECTIONS = ("to_peer", "from_peer")


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    size = (params.get("size") or kit.fitting(SIZES, CPU_SIZE)) // 4 * 4  # whole fp32 numbers
    budget = kit.budget(params, SECONDS) / len(DIRECTIONS)
    # The only cards there are for us, in the order in which the params name them.
    first, second = ("cpu", "cpu") if device == "cpu" else ("cuda:0", "cuda:1")
    here = torch.rand(size // 4, device=first)
    there = torch.empty_like(here, device=second).copy_(here)
    if device == "cuda":
        kit.data(peer_access="direct" if torch.cuda.can_device_access_peer(0, 1) else "through the host's memory")
    for done, direction in enumerate(DIRECTIONS):
        kit.progress(done, len(DIRECTIONS))
        source, target = (here, there) if direction == "to_peer" else (there, here)

        def copy(source=source, target=target):
            target.copy_(source, non_blocking=True)

        kit.fact("bytes_per_second", size / kit.seconds(copy, budget), direction=direction, device=device)
    kit.progress(1, 1)
