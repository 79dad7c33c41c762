"""What can be wrong with a torch, and which command puts it right?"""

from __future__ import annotations

import re

from probes.api import Rule

IMPORT_FAILED = Rule(
    "torch-import-failed",
    "critical",
    "torch cannot be imported in the Python that should use it.",
    "1. Run it by hand: `PYTHON -c 'import torch'` (the finding names PYTHON).\n"
    "2. `PYTHON -m pip check` shows packages that do not fit together; NumPy 2 with an old torch is the usual pair.\n"
    "3. `PYTHON -m pip install --force-reinstall torch` repairs a half-finished installation.",
)
CUDA_UNAVAILABLE = Rule(
    "torch-cuda-unavailable",
    "critical",
    "This machine has a card, and torch does not see it.",
    "1. `nvidia-smi` must list the card.\n"
    "2. `env | grep CUDA_VISIBLE_DEVICES` must not hide it.\n"
    "3. `PYTHON -c 'import torch; torch.cuda.init()'` prints the driver's own words.\n"
    "4. If the finding says that torch was built without CUDA, run the command it names.",
)
KERNEL_FAILED = Rule(
    "torch-kernel-failed",
    "critical",
    "torch sees the device, but a small matrix product on it fails or is wrong.",
    "1. `dmesg | grep -i xid` shows what the driver saw.\n"
    "2. `nvidia-smi -q -d ECC,ROW_REMAPPER` shows broken memory.\n"
    "3. Wrong results without an XID on a card that is overclocked: set its clocks back, `nvidia-smi -rgc`.",
)
DRIVER_MISMATCH = Rule(
    "torch-driver-mismatch",
    "critical",
    "This torch is built for another driver or card than this machine has.",
    "1. Run the command that the finding names: it installs the build for this driver and card.\n"
    "2. Or let uv choose: `uv pip install --python PYTHON --torch-backend=auto --upgrade torch`.\n"
    "3. Or bring the driver up to date: `sudo ubuntu-drivers install`, then reboot.",
)
TOO_OLD = Rule(
    "torch-too-old",
    "warning",
    "torch, or the CUDA it was built with, is older than the config asks for.",
    "1. Run the command that the finding names, or `PYTHON -m pip install --upgrade torch`.\n"
    "2. If the application needs the old one, lower `minimum_torch` or `minimum_cuda` of this check.",
)
RULES = (IMPORT_FAILED, CUDA_UNAVAILABLE, KERNEL_FAILED, DRIVER_MISMATCH, TOO_OLD)

# The newest index of torch's own wheels for a driver's CUDA. Within a major version every driver runs every minor one:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
INDEXES = (((13, 0), "cu130"), ((12, 8), "cu128"), ((12, 0), "cu126"), ((11, 0), "cu118"))
# Cards before Turing are only in the builds for 12.6: https://github.com/pytorch/pytorch/issues/172352
TURING, BEFORE_TURING = (7, 5), "cu126"


def version(text: str) -> tuple[int, ...]:
    """The first three numbers of a version, 0 where it has none: `2.13.0+cu130` is (2, 13, 0), `12.8` is (12, 8, 0)."""
    numbers = re.findall(r"\d{1,9}", text.partition("+")[0])
    return tuple(int(number) for number in (*numbers, 0, 0, 0)[:3])


def install(python: str, driver_cuda: str, capability: tuple[int, ...] = ()) -> str:
    """The command that installs the newest torch for this driver and card.

    By force: pip takes 2.13.0+cu130 for newer than 2.13.0+cu128, and would not go back to the build that runs.
    """
    fitting = [tag for least, tag in INDEXES if version(driver_cuda) >= least]
    if not fitting:
        return "no current torch runs on it: bring the driver up to date, `sudo ubuntu-drivers install`"
    tag = BEFORE_TURING if capability and capability < TURING and BEFORE_TURING in fitting else fitting[0]
    return f"`{python} -m pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{tag}`"
