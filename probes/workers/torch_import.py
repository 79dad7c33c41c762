"""What does torch see from inside this Python, and does a tiny kernel really run? Imports torch."""

SIZE = 64


def bench(kit, params):
    torch, device = kit.torch("cpu")  # the start row must not depend on a working driver
    seen = {
        "torch": torch.__version__,
        "import_seconds": kit.import_seconds,
        "cuda": torch.version.cuda or "",
        "rocm": getattr(torch.version, "hip", None) or "",
        "devices": [],
        "error": "",
    }
    try:
        torch.cuda.init()
        seen["devices"] = [card(torch, index) for index in range(torch.cuda.device_count())]
    except Exception as error:  # "no driver", "driver too old", "not compiled with CUDA": the probe reads it
        seen["error"] = "%s: %s" % (type(error).__name__, str(error)[:1000])
    kit.data(**seen)
    kernels = {}
    for device in ["cpu", *("cuda:%d" % index for index in range(len(seen["devices"])))]:
        kernels[device] = kernel(torch, device)
        kit.data(kernels=kernels)


def card(torch, index):
    """One card as torch describes it."""
    facts = torch.cuda.get_device_properties(index)
    return {"name": facts.name, "capability": [facts.major, facts.minor], "memory": facts.total_memory}


def kernel(torch, device):
    """ "" when a small matrix product on that device is right, else what went wrong."""
    try:
        # Small whole numbers: every product and sum is exact in every number format, so the answer is compared exactly.
        left = (torch.arange(SIZE * SIZE, device=device) % 7).reshape(SIZE, SIZE).float()
        row = (torch.arange(SIZE, device=device) % 5).float()
        wrong = int(((left @ row) != (left * row).sum(dim=1)).sum())
        expected = [float(sum((i * SIZE + j) % 7 * (j % 5) for j in range(SIZE))) for i in range(SIZE)]
        wrong += sum(a != b for a, b in zip((left @ row).tolist(), expected))
        return "%d of %d results are wrong" % (wrong, 2 * SIZE) if wrong else ""
    except Exception as error:
        if "out of memory" in str(error):
            raise  # somebody else fills the card: that says nothing about torch
        return "%s: %s" % (type(error).__name__, str(error)[:1000])
