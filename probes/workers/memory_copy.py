"""How many bytes a second does memory copy, on the device and over the bus? Imports torch."""

# Far larger than any cache (256 MiB on the CPU against an EPYC's L3; a GiB against 126 MB of L2), small next to the card.
SIZES, CPU_SIZE = ((7 * 2**30, 2**30), (0, 2**28)), 2**28
SECONDS = 6.0


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    size = (params.get("size") or kit.fitting(SIZES, CPU_SIZE)) // 4 * 4  # whole fp32 numbers
    rounds = 3 if device == "cuda" else 1
    budget = kit.budget(params, SECONDS) / rounds

    def measure(source, target):
        return size / kit.seconds(lambda: target.copy_(source, non_blocking=True), budget)

    kit.progress(0, rounds)
    here = torch.rand(size // 4, device=device)
    kit.fact("bytes_per_second", 2 * measure(here, torch.empty_like(here)), device=device)  # read plus written
    if device == "cuda":
        kit.progress(1, rounds)
        host = here.cpu().pin_memory()  # pageable memory would measure the driver's own copy
        kit.fact("transfer_bytes_per_second", measure(host, here), direction="to_device")
        kit.progress(2, rounds)
        kit.fact("transfer_bytes_per_second", measure(here, host), direction="from_device")
    kit.progress(rounds, rounds)
