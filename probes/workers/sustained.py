"""Does the device keep its speed under a minute of load? One matrix product after the other, timed in slices. Imports torch."""

SIZES, CPU_SIZE = ((40 * 2**30, 16384), (7 * 2**30, 8192), (0, 4096)), 512
SECONDS, CPU_SECONDS = 60.0, 4.0
SLICE = 1.0  # seconds between two looks of the parent at the card
LEAST = 8  # slices, so that a quarter of them is at least two


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    size = params.get("size") or kit.fitting(SIZES, CPU_SIZE)
    budget = kit.budget(params, SECONDS, CPU_SECONDS)
    count = max(LEAST, int(budget / SLICE))
    # Random values: constants draw less power. Half precision on a card, where the tensor cores draw the most.
    left, right = (torch.randn(size, size, device=device) for _ in "ab")
    if device == "cuda":
        left, right = left.half(), right.half()
    out = torch.empty_like(left)

    def product():
        torch.mm(left, right, out=out)

    kit.seconds(product, 0.0)  # until the clocks are up: from here on it can only slow down
    rates = []
    for done in range(count):
        kit.progress(done, count)  # here the parent looks at the card
        rates.append(2 * size**3 / kit.seconds(product, budget / count, 0.0))
    kit.progress(count, count)
    quarter = count // 4
    first, last = middle(rates[:quarter]), middle(rates[-quarter:])
    kit.fact("flops_per_second", middle(rates), device=device)
    kit.fact("decay_ratio", 1 - last / first, device=device)
    kit.data(rates=rates)


def middle(values):
    """The median."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
