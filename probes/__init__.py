"""The knowledge: what to ask, and what to do about the answer. It knows nothing about the service that asks.

A new probe is one file in its family's folder and one line in that family's list below. Importing this package imports
no probe; `exporter.registry` does.
"""

BUILTIN: dict[str, tuple[str, ...]] = {
    "environment": ("platform", "packages", "torch_import", "gpu_driver", "disk", "dotenv"),
    "hardware": ("gpu", "host"),
    "benchmarks": (
        "matmul",
        "memory_copy",
        "host_copy",
        "peer_copy",
        "attention",
        "convolution",
        "corruption",
        "command",
        "vram_leak",
        "disk_io",
        "model_load",
        "sustained",
        "llm_decode",
        "diffusion_step",
        "optimisations",
        "training_step",
        "max_batch",
        "monitor_accuracy",
    ),
    "services": ("http", "log_tail"),
    "pipelines": (),
    "models": (),
    "resilience": (),
}
