"""Stands in for the video app's own script: a few layers of its transformer, small, on the CPU."""

import argparse
import json
import time

import torch

flags = argparse.ArgumentParser()
flags.add_argument("--test-vram", action="store_true")
flags.add_argument("--benchmark", action="store_true")
asked = flags.parse_args()

layer = torch.nn.TransformerEncoderLayer(64, 4, 256, batch_first=True).eval()
tokens = torch.rand(1, 256, 64)
began = time.perf_counter()
with torch.inference_mode():
    for _ in range(4):
        tokens = layer(tokens)
took = time.perf_counter() - began
assert tokens.isfinite().all()
if asked.test_vram:
    held = sum(p.numel() * p.element_size() for p in layer.parameters()) + tokens.numel() * 4
    print(f"Peak VRAM: {held / 1e9:.6f} GB")
if asked.benchmark:
    print("warming up")
    print(json.dumps({"results": [{"step_seconds": took}]}))
