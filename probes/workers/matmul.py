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
    "fp8": ("float8_e4m3fn", "highest"),
}


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    native = supported(torch, device)
    dtypes = params.get("dtypes") or native
    if "tf32" in dtypes and "tf32" not in native:
        raise RuntimeError("tf32 needs an NVIDIA card from Ampere on; this device would compute fp32 and call it tf32")
    if "fp8" in dtypes and "fp8" not in native:
        raise RuntimeError("fp8 needs an NVIDIA card from Ada on, and a torch whose torch._scaled_mm knows it")
    size = params.get("size") or kit.fitting(SIZES, CPU_SIZE)
    budget = kit.budget(params, SECONDS) / len(dtypes)
    for done, dtype in enumerate(dtypes):
        kit.progress(done, len(dtypes))
        multiply = None  # else the matrices of the round before hold their memory beside the new ones
        multiply = product(torch, dtype, size, device)
        kit.fact("flops_per_second", 2 * size**3 / kit.seconds(multiply, budget), dtype=dtype, device=device)
    kit.progress(len(dtypes), len(dtypes))


def product(torch, dtype, size, device):
    """One product of two random matrices, to be called as often as one likes."""
    kind, precision = TYPES[dtype]
    torch.set_float32_matmul_precision(precision)
    left, right = (torch.randn(size, size, device=device).to(getattr(torch, kind)) for _ in "ab")
    if dtype == "fp8":  # sums in fp32, as all others do; the kernel wants the right matrix by columns
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(left, right.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def supported(torch, device):
    """The number formats this device computes natively."""
    if device == "cpu":
        return ["fp32"]
    capability = torch.cuda.get_device_capability() if torch.version.cuda is not None else (0, 0)
    if capability < (8, 0):
        return ["fp32", "fp16"]
    fp8 = capability >= (8, 9) and hasattr(torch, "_scaled_mm") and hasattr(torch, "float8_e4m3fn")
    return ["fp32", "tf32", "fp16", "bf16", *(["fp8"] if fp8 and multiplies_fp8(torch, device) else [])]


def multiplies_fp8(torch, device):
    """Does this torch do it on this card? Those built for CUDA 11 do not, nor the first ones on an Ada card."""
    try:
        product(torch, "fp8", 16, device)()
        torch.cuda.synchronize()
    except (RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        return False
    return True
