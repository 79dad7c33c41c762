"""What can be wrong between a card on the PCI bus and the driver that should show it?"""

from __future__ import annotations

from probes.api import Rule

NO_DRIVER = Rule(
    "gpu-driver-missing",
    "critical",
    "There is an NVIDIA card, and no working driver for it.",
    "1. `lspci -nnk | grep -iA3 nvidia` shows which kernel driver holds the card; `nouveau` is not the one.\n"
    "2. Install it: `sudo ubuntu-drivers install` (Ubuntu), `sudo apt-get install nvidia-driver` (Debian, non-free).\n"
    "3. Installed? `sudo modprobe nvidia`; if that fails, `dmesg | grep -i -e nvrm -e nvidia` says why: Secure Boot "
    "without a signed module, or a kernel newer than the module (`dkms status`).\n"
    "4. `sudo reboot`, then `nvidia-smi`.",
)
MISMATCH = Rule(
    "gpu-driver-mismatch",
    "critical",
    "The driver was updated while the old kernel module stayed loaded: nothing new can use the card.",
    "1. `cat /proc/driver/nvidia/version` is the module, `ls -l /usr/lib/*/libnvidia-ml.so.*` the library.\n"
    "2. `sudo reboot`; or stop all that uses the card, then `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia` and "
    "`sudo modprobe nvidia`.\n"
    "3. In a container: `docker restart CONTAINER` after the host was rebooted.",
)
NOT_PASSED_IN = Rule(
    "gpu-not-passed-in",
    "warning",
    "The machine has a card that this container was not given.",
    "1. On the host, `nvidia-smi` must list the card; if it does not, install the driver there.\n"
    "2. Give it to the container: `docker compose -f docker-compose.yml -f deploy/compose.gpu.yaml up -d`. Elsewhere "
    "`docker run --gpus all ...`; in Kubernetes `resources: {limits: {nvidia.com/gpu: 1}}`.\n"
    "3. Docker knows no such device? Once a host: `sudo apt-get install nvidia-container-toolkit`, `sudo nvidia-ctk runtime "
    "configure --runtime=docker`, `sudo systemctl restart docker`.\n"
    "4. Did it have the card before? `systemctl daemon-reload` on the host takes it away: `docker restart CONTAINER`.\n"
    "5. If it should not have it, set this check's `expected_cards` to the number it should have.",
)
MISSING = Rule(
    "gpu-missing",
    "critical",
    "The driver shows fewer cards than there are, or than there should be.",
    "1. `nvidia-smi -L` lists what the driver shows, `lspci | grep -i nvidia` what is on the bus.\n"
    "2. `dmesg | grep -i -e nvrm -e xid` says why it gave one up: power cables, riser, too little BAR space "
    "(`Above 4G decoding` in the BIOS).\n"
    "3. Not on the bus either: switch off, reseat the card, check its power.\n"
    "4. If the number is right as it is, correct `expected_cards`.",
)
DRIVER_OLD = Rule(
    "gpu-driver-old",
    "warning",
    "The driver, or the CUDA it supports, is older than the config asks for.",
    "1. `nvidia-smi` shows both.\n"
    "2. `sudo ubuntu-drivers install`, or `apt-cache policy nvidia-driver` and your distribution's way to a newer one.\n"
    "3. `sudo reboot`, else library and kernel module differ.",
)
CUDA_OTHER = Rule(
    "gpu-cuda-other",
    "warning",
    "The driver supports another CUDA than the config names.",
    "1. `nvidia-smi` shows the newest CUDA the driver supports; programs built for an older one run too.\n"
    "2. Install the driver that belongs to it (https://docs.nvidia.com/deploy/cuda-compatibility/), or correct `cuda`.",
)
SMALL = Rule(
    "gpu-memory-small",
    "warning",
    "A card has less memory than the config asks for.",
    "1. `nvidia-smi --query-gpu=name,memory.total --format=csv` shows what it has.\n"
    "2. Is it the card you meant (`CUDA_VISIBLE_DEVICES`), or a slice of one (`nvidia-smi -L` with MIG)?\n"
    "3. Use smaller or quantised models, or lower `minimum_memory`.",
)
UNSUPPORTED = Rule(
    "gpu-vendor-unsupported",
    "info",
    "The machine has a card, and not of NVIDIA: benchmarks run with a torch that knows it, its telemetry is not read.",
    "1. AMD: `pip install torch --index-url https://download.pytorch.org/whl/rocm6.3` makes torch use it; `rocm-smi` "
    "watches it.\n2. Intel: `pip install torch --index-url https://download.pytorch.org/whl/xpu`.\n"
    "3. Apple: `python -c 'import torch; print(torch.backends.mps.is_available())'`; nothing to install.",
)
RULES = (NO_DRIVER, MISMATCH, NOT_PASSED_IN, MISSING, DRIVER_OLD, CUDA_OTHER, SMALL, UNSUPPORTED)
