"""What does the probe `vram_leak` measure of a service, and what can be wrong with it?"""

from __future__ import annotations

from probes.api import Metric, Rule

BEFORE = Metric("before_bytes", "Memory of the card that the service held before the counted work, caches warm.")
PEAK = Metric("peak_bytes", "Most memory of the card that it was seen to hold, once a second.")
AFTER = Metric("after_bytes", "Memory of the card that it held when the counted work was done and had settled.")
RESIDUAL = Metric("residual_bytes", "What it holds more after the counted work than before.", better="lower")

METRICS = (BEFORE, PEAK, AFTER, RESIDUAL)

KEPT = Rule(
    "vram-not-released",
    "warning",
    "A service keeps more and more memory of the card.",
    "1. `nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv` after each piece of work: does it go on growing?\n"
    "2. ComfyUI: `curl -X POST 127.0.0.1:8188/free -H 'Content-Type: application/json' -d '{\"unload_models\": true, "
    '"free_memory": true}\'`; what stays is lost until it restarts. Ollama: `ollama stop MODEL`.\n'
    "3. Restart the service, then take custom nodes and extensions out one by one; `gpu-canary run CHECK` tells which it was.\n"
    "4. If it grows to a limit and stops there, it is a cache: raise `warm_up:` of the check.",
)
UNDONE = Rule(
    "vram-work-failed",
    "warning",
    "The service did not do the piece of work, so nothing is known of its memory.",
    "1. The finding has the last words of the check's `command:`; `gpu-canary run CHECK` prints all of them.\n"
    "2. Run it by hand as the exporter's user. Does the service answer, and does the command end when the work is done?",
)
