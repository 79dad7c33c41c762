"""Does the device compute the same bits again and again? Fixed seed, deterministic kernels, every output compared. Imports torch."""

import ctypes
import hashlib
import os
import struct

# cuBLAS repeats its bits only with a workspace of its own: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

# Rows of the square matrices, and bytes that the copy moves: what fills the card, and fits it many times over.
SIZES, CPU_SIZE = ((40 * 2**30, 8192), (7 * 2**30, 4096), (0, 2048)), 256
COPIES, CPU_COPY = ((40 * 2**30, 2**30), (7 * 2**30, 2**28), (0, 2**27)), 2**20
SECONDS = 8.0


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    seed = params.get("seed", 0)
    kernels = made(torch, device, seed, kit.fitting(SIZES, CPU_SIZE), kit.fitting(COPIES, CPU_COPY))
    budget = kit.budget(params, SECONDS) / len(kernels)
    for done, (kernel, work) in enumerate(kernels.items()):
        kit.progress(done, len(kernels))
        first = None  # else those of the kernel before hold their memory beside the new ones
        first = work()
        kit.data(kernel=kernel, digest=digest(torch, first))
        compared, differing, end = 0, 0, kit.clock() + budget
        while not compared or kit.clock() < end:
            differing += differences(torch, first, work())
            compared += first.numel()
        kit.fact("compared_values", compared, kernel=kernel, device=device)
        kit.fact("differing_values", differing, kernel=kernel, device=device)
    kit.progress(len(kernels), len(kernels))


def made(torch, device, seed, size, copied):
    """One kernel for each part of the card: its multipliers, its tensor cores, its special functions, its whole numbers,
    and its memory. Each returns a new tensor."""
    generator = torch.Generator().manual_seed(
        seed
    )  # the CPU's, so that the inputs themselves do not come from the card
    left, right = (torch.randn(size, size, generator=generator).to(device) for _ in "ab")
    numbers = torch.randint(-(2**31), 2**31 - 1, (copied // 4,), generator=generator, dtype=torch.int32).to(device)
    kernels = {
        "product": lambda: torch.mm(left, right),
        "softmax": lambda: torch.softmax(left, dim=1),
        "sort": lambda: torch.sort(right, dim=1).values,
        "copy": lambda: numbers.clone(),
    }
    if device == "cuda":
        half = (left.half(), right.half())
        kernels["half_product"] = lambda: torch.mm(*half)
    return kernels


def bits(torch, output):
    """The output's bits as whole numbers: as numbers, a NaN would differ from itself and -0.0 equal 0.0."""
    return output.view({2: torch.int16, 4: torch.int32}[output.element_size()])


def differences(torch, first, output):
    """How many values have another bit than those of the first output."""
    return int((bits(torch, first) != bits(torch, output)).sum())


def digest(torch, output):
    """SHA-256 of shape and bits."""
    here = bits(torch, output).cpu().contiguous()
    found = hashlib.sha256(struct.pack("%dq" % here.dim(), *here.shape))
    found.update(
        ctypes.string_at(here.data_ptr(), here.numel() * here.element_size())
    )  # torch alone: numpy may be missing
    return found.hexdigest()
