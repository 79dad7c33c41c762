"""Which troubles can any check meet? The doors, the runner and the judge fire these; probes declare their own."""

from __future__ import annotations

from probes.facts import Rule

TARGET_MISSED = Rule(
    "target-missed",
    "warning",
    "A metric is outside the bound the config sets for it.",
    "1. `gpu-canary explain PROBE` tells what moves this metric.\n"
    "2. `gpu-canary run CHECK` measures again.\n"
    "3. If the machine is right and the bound is wrong, change `targets:` in the config and `kill -HUP` the exporter.",
)
REGRESSED = Rule(
    "regressed",
    "warning",
    "A benchmark is worse than its own comparable past runs.",
    "1. The finding names the cause that was seen in the same run, if there was one: undo that change, or cool the card.\n"
    "2. `gpu-canary run CHECK` measures again; `nvidia-smi -q -d PERFORMANCE,POWER,CLOCK` tells what holds the card back.\n"
    "3. Without a cause, compare the dates: `gpu-canary status`, the annotations of the benchmarks dashboard, `dmesg`.\n"
    "4. If the new value is right, `gpu-canary baseline update CHECK` makes it the normal; until then it is told.",
)
IMPROVED = Rule(
    "improved",
    "info",
    "A benchmark is better than its own comparable past runs.",
    "1. Nothing is wrong; `gpu-canary run CHECK` shows what changed with it.\n"
    "2. If nothing changed, mistrust the measurement: did it do the same work?",
)
CONDITIONS_CHANGED = Rule(
    "conditions-changed",
    "info",
    "A benchmark ran under other conditions than before; its baseline begins anew.",
    "1. Nothing is wrong: until the new baseline is full, runs are held against the one before.\n"
    "2. `gpu-canary run CHECK --json` lists the conditions; if you did not change them, find out who did.",
)
BELOW_EXPECTED = Rule(
    "below-expected",
    "warning",
    "A benchmark reaches far less than cards of this model do.",
    "1. The finding names what was seen in the same run: a lowered power limit, a lesser PCIe link, throttling. A slot that "
    "has no more lanes is told to host_copy: `expected_lanes: 8` in its params.\n"
    "2. `nvidia-smi -q -d PERFORMANCE,POWER,CLOCK` under load shows what holds the card back.\n"
    "3. `gpu-canary expected` tells where the expected value comes from; if cards like yours never reach it, report that.",
)
CHECK_ERROR = Rule(
    "check-error",
    "warning",
    "gpu-canary itself could not run this check.",
    "1. `gpu-canary run CHECK` shows the whole error.\n2. Please report it with that output; it is our fault, not the machine's.",
)
PLUGIN_BROKEN = Rule(
    "plugin-broken",
    "warning",
    "A third-party probe could not be loaded.",
    "1. `gpu-canary verify MODULE:PROBE` shows why.\n2. Upgrade or `pip uninstall` the distribution that the finding names.",
)
SERIES_DROPPED = Rule(
    "series-dropped",
    "warning",
    "A check produced more series than the exporter exposes for one check.",
    "1. `gpu-canary run CHECK --json` lists every measurement.\n2. Narrow the check's params, or split it into several checks.",
)
HISTORY_MOVED = Rule(
    "history-moved-aside",
    "warning",
    "The history file could not be used and was moved aside; baselines start again.",
    "1. `ls -l` the path the finding names: nothing was deleted.\n"
    "2. If it was written by a newer gpu-canary, install that version and move the file back.\n"
    "3. If it is corrupt, `sqlite3 FILE .recover` saves what can be saved.",
)
DEADLINE_MISSED = Rule(
    "deadline-missed",
    "warning",
    "A light check did not end before its timeout.",
    "1. `gpu-canary run CHECK` shows where the time goes.\n2. Raise the check's `timeout:` if the machine is merely slow.",
)
WORKER_LATE = Rule(
    "worker-late",
    "critical",
    "The worker did not finish before the check's timeout and was killed.",
    "1. `nvidia-smi` must answer within a second; if it hangs, the driver is wedged.\n"
    "2. The tail of the worker's log is in the result: `gpu-canary run CHECK`.\n"
    "3. Raise `timeout:` if the card is merely slow.",
)
WORKER_CRASHED = Rule(
    "worker-crashed",
    "critical",
    "The worker's interpreter ended by a signal or an exception.",
    "1. `gpu-canary run CHECK` prints the tail of its log.\n"
    "2. `dmesg | tail` shows XIDs and the OOM killer.\n"
    "3. Run the same interpreter by hand: `PYTHON -c 'import torch; torch.ones(1).cuda()'`.",
)
WORKER_OUT_OF_MEMORY = Rule(
    "worker-out-of-memory",
    "warning",
    "The worker ran out of device or host memory.",
    "1. `nvidia-smi` lists what holds the VRAM.\n2. Stop or shrink that process, or give the check smaller params.",
)
BENCHMARK_NOT_ON_CARD = Rule(
    "benchmark-not-on-card",
    "warning",
    "This machine has a card, but torch measured the CPU.",
    "1. `gpu-canary run torch_import` says why torch does not see the card, and what to install.\n"
    "2. `nvidia-smi` must list the card.\n"
    "3. Set `device: cpu` if the CPU is what you want to measure.",
)
GPU_DRIVER_WEDGED = Rule(
    "gpu-driver-wedged",
    "critical",
    "NVML does not answer: the driver or a card hangs.",
    "1. `timeout 10 nvidia-smi` confirms it.\n"
    "2. `dmesg | grep -i xid` names the cause.\n"
    "3. Stop the workloads and `nvidia-smi --gpu-reset -i INDEX`; if that hangs too, reboot.",
)

HOUSE_RULES = (
    TARGET_MISSED,
    REGRESSED,
    IMPROVED,
    CONDITIONS_CHANGED,
    BELOW_EXPECTED,
    CHECK_ERROR,
    PLUGIN_BROKEN,
    SERIES_DROPPED,
    HISTORY_MOVED,
    DEADLINE_MISSED,
    WORKER_LATE,
    WORKER_CRASHED,
    WORKER_OUT_OF_MEMORY,
    BENCHMARK_NOT_ON_CARD,
    GPU_DRIVER_WEDGED,
)
