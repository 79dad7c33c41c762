"""What is the most that this device's own library reaches, whatever the shape? A worker, for `make bench-gpu`. Imports torch.

Product: the best of several shapes and layouts. Copy: the best of several sizes and ways. No warm-up is saved on, and no
benchmark of ours is asked: these are the ceilings that they are held against.
"""

SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 16384, 16384), (8192, 8192, 28672), (16384, 8192, 1280))
COPIES = (2**28, 2**29, 2**30, 2**31)
TYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    shapes, copies = params.get("shapes") or SHAPES, params.get("copies") or COPIES
    budget = params.get("seconds") or 0.5
    dtypes = params.get("dtypes") or (["fp32"] if device == "cpu" else list(TYPES))
    for done, dtype in enumerate(dtypes):
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        kit.progress(done, len(dtypes) + 1)
        rates = [
            rate
            for shape in shapes
            for rate in products(kit, torch, device, getattr(torch, TYPES[dtype]), shape, budget)
        ]
        kit.fact("flops_per_second", max(rates), dtype=dtype, device=device)
    kit.progress(len(dtypes), len(dtypes) + 1)
    kit.fact(
        "bytes_per_second",
        max(rate for size in copies for rate in copied(kit, torch, device, size, budget)),
        device=device,
    )


def products(kit, torch, device, dtype, shape, budget):
    """Operations a second of one shape (m, n, k), with the right matrix as it lies and turned over."""
    m, n, k = shape
    if kit.cuda is not None and (m * k + k * n + m * n) * 4 > kit.cuda.mem_get_info()[0] // 2:
        return []
    left = torch.randn(m, k, device=device).to(dtype)
    plain, turned = torch.randn(k, n, device=device).to(dtype), torch.randn(n, k, device=device).to(dtype).t()
    out = torch.empty(m, n, device=device, dtype=dtype)
    return [
        2 * m * n * k / kit.seconds(lambda right=right: torch.mm(left, right, out=out), budget)
        for right in (plain, turned)
    ]


def copied(kit, torch, device, size, budget):
    """Bytes read plus written a second of one size, in several ways."""
    if kit.cuda is not None and 2 * size > kit.cuda.mem_get_info()[0] // 2:
        return []
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    ways = (
        lambda: target.copy_(source),
        lambda: torch.mul(source, 1.0, out=target),
        lambda: torch.neg(source, out=target),
    )
    return [2 * (size // 4 * 4) / kit.seconds(way, budget) for way in ways]
