"""Stands in for the video app's generation: denoises a small latent and writes the frames."""

import argparse

import torch

flags = argparse.ArgumentParser()
flags.add_argument("--resolution", choices=("720p", "1080p"), required=True)
height = {"720p": 45, "1080p": 68}[flags.parse_args().resolution]

torch.manual_seed(7)
latent = torch.randn(1, 16, 5, height, 80)
step = torch.nn.Conv3d(16, 16, 3, padding=1).eval()
with torch.inference_mode():
    for at in range(3):
        latent = latent - 0.1 * step(latent)
        print(f"step {at + 1} of 3", flush=True)
assert latent.isfinite().all()
torch.save(latent, "video.pt")
