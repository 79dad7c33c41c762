"""How many floating-point operations a second does a square matrix product reach? Imports torch."""

# One size per class of memory, so that equal cards do equal work: large enough to fill the card, and three matrices of
# fp32 take at most a ninth of it. A product of n x n matrices is 2 n^3 operations.
SIZES = ((40 * 2**30, 16384), (7 * 2**30, 8192), (0, 4096))
CPU_SIZE = 1024
SECONDS = 8.0

# Random values: zeros and constants toggle few transistors, draw less power and run faster than real work.
# https://www.thonking.ai/p/strangely-matrix-multiplications
TYPES = {
    "fp32": ("float32", "highest"),
    "tf32": ("float32", "high"),
    "fp16": ("float16", "highest"),
    "bf16": ("bfloat16", "highest"),
}


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    dtypes = params.get("dtypes") or supported(torch, device)
    if "tf32" in dtypes and "tf32" not in supported(torch, device):
        raise RuntimeError("tf32 needs an NVIDIA card from Ampere on; this device would compute fp32 and call it tf32")
    size = params.get("size") or kit.fitting(SIZES, CPU_SIZE)
    budget = kit.budget(params, SECONDS) / len(dtypes)
    for done, dtype in enumerate(dtypes):
        kit.progress(done, len(dtypes))
        kind, precision = TYPES[dtype]
        torch.set_float32_matmul_precision(precision)
        left = right = out = None  # else those of the round before hold their memory beside the new ones
        left, right = (torch.randn(size, size, device=device).to(getattr(torch, kind)) for _ in "ab")
        out = torch.empty_like(left)
        median = kit.seconds(lambda: torch.mm(left, right, out=out), budget)  # noqa: B023 (called before the next round)
        kit.fact("flops_per_second", 2 * size**3 / median, dtype=dtype, device=device)
    kit.progress(len(dtypes), len(dtypes))


def supported(torch, device):
    """The number formats this device computes natively."""
    if device == "cpu":
        return ["fp32"]
    ampere = torch.version.cuda is not None and torch.cuda.get_device_capability() >= (8, 0)
    return ["fp32", "tf32", "fp16", "bf16"] if ampere else ["fp32", "fp16"]
