"""What does each usual way to save VRAM save, and what does it cost in time? Imports torch."""

import gc
import importlib
import os

os.environ.update(OMP_NUM_THREADS="1", KINETO_LOG_LEVEL="99")  # too small on the CPU for more; a profiler that is quiet

# Unoptimised (`none`): fp32, all weights on the card, two pictures at once, attention in two products with all its weights
# between them, a picture decoded in one piece. Blocks as wide as SDXL's widest, a token for 2 x 2 latent pixels, a decoder of
# half its VAE's channels (huggingface.co/stabilityai/stable-diffusion-xl-base-1.0). Training has three quarters of the side.
CARD, CPU = (1280, 20, 6, (256, 256, 128, 128)), (64, 4, 2, (16, 16, 8, 8))  # width, heads, blocks, channels
PICTURES, PIXELS, CPU_PIXELS, SECONDS = 2, ((7 * 2**30, 640), (0, 512)), 192, 6.0
RECOMMENDED = ("half_precision", "attention_slicing", "vae_tiling", "vae_slicing", "cpu_offload")
RUNS = {  # of each part, what is held against its `none`
    "denoise": ("none", "attention_slicing", "cpu_offload"),
    "decode": ("none", "vae_tiling", "vae_slicing"),
    "picture": ("none", "half_precision", "batch_size", "lower_resolution", "recommended"),
    "training": ("none", "gradient_checkpointing", "gradient_accumulation"),
}


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    pixels, limit = params.get("pixels") or kit.fitting(PIXELS, CPU_PIXELS), params.get("memory") or 0
    runs = [(part, name) for part, names in RUNS.items() for name in names]
    budget, unoptimised = kit.budget(params, SECONDS) / len(runs), {}
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() if device == "cuda" else None  # ours counts too
    kit.data(pixels=pixels, pictures=PICTURES, free_bytes=free)
    for done, (part, name) in enumerate(runs):
        kit.progress(done, len(runs))
        held, seconds = tried(kit, torch, device, pixels, part, name, budget, 0.1 if done else 0.5)
        gc.collect()  # after the except block: the error's traceback held what was allocated
        torch.cuda.empty_cache()
        if not held or (limit and held > limit):
            kit.data(part=part, lacks=name)
            continue
        labels = {"optimisation": name, "device": device}
        kit.fact("peak_memory_bytes", held, part=part, **labels)
        kit.fact("run_seconds", seconds, part=part, **labels)
        if name == "none":
            unoptimised[part] = held, seconds
        elif part in unoptimised:
            kit.fact("vram_reduction_ratio", 1 - held / unoptimised[part][0], **labels)
            kit.fact("time_ratio", seconds / unoptimised[part][1], **labels)
    kit.progress(1, 1)


def tried(kit, torch, device, pixels, part, name, *times):
    """The most bytes on the device and the seconds of that run; 0 and 0 where memory runs out."""
    try:
        stack = Stack(torch, device, pixels, part, RECOMMENDED if name == "recommended" else (name,))
        with torch.set_grad_enabled(part == "training"):
            return kit.peak_bytes(stack.work, stack.resident), kit.seconds(stack.work, *times)
    except (RuntimeError, MemoryError) as error:
        if kit.starved(error):
            return 0, 0
        raise


class Stack:
    """Blocks of a denoiser and the decoder of a VAE, unoptimised but for what `how` names; `work` is one run of `part`."""

    def __init__(self, torch, device, pixels, part, how):
        self.torch, self.functional, self.device, self.how = torch, torch.nn.functional, device, how
        width, self.heads, blocks, channels = CARD if device == "cuda" else CPU
        self.kind = torch.float32 if "half_precision" not in how else torch.half if device == "cuda" else torch.bfloat16
        torch.manual_seed(0)
        layers = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
        self.layers = self.drawn(layers * blocks if part != "decode" else [])
        kernels = [(3, channels[-1], 3, 3)] * (part in ("decode", "picture"))
        for before, after in zip((4, *channels), channels) if kernels else ():
            kernels[-1:-1] = [(after, before, 3, 3), (after, after, 3, 3), (after, after, 3, 3)]
        self.kernels = self.drawn(kernels)
        side = pixels // 64 * (6 if part == "training" or "lower_resolution" in how else 8)
        self.x = torch.randn(PICTURES, (side // 2) ** 2, width, device=device, dtype=self.kind)
        there = [self.x, *([] if "cpu_offload" in how else self.layers + self.kernels)]
        self.resident = sum(tensor.numel() * tensor.element_size() for tensor in there)
        self.work = lambda: getattr(self, part)(self.x)

    def drawn(self, sizes):
        """Random weights, on the device or, pinned, where it can fetch them."""
        made = (self.torch.randn(*size, device=self.device, dtype=self.kind) for size in sizes)
        made = (weight.div_((weight.numel() / len(weight)) ** 0.5) for weight in made)
        return [w.cpu().pin_memory() if "cpu_offload" in self.how and self.device == "cuda" else w for w in made]

    def here(self, weights):
        """The weights on the device; offloaded ones for as long as somebody holds what this returns."""
        if "cpu_offload" not in self.how:
            return weights
        return [self.torch.empty_like(w, device=self.device).copy_(w, non_blocking=True) for w in weights]

    def picture(self, x):
        parts = x.split(1 if "batch_size" in self.how else len(x))
        return self.torch.cat([self.decode(self.denoise(part)) for part in parts])

    def training(self, x):
        for weight in self.layers:
            weight.requires_grad_(True).grad = None
        parts = x.split(1 if "gradient_accumulation" in self.how else len(x))
        for part in parts:
            (self.denoise(part).square().mean() / len(parts)).backward()

    def denoise(self, x):
        again = "gradient_checkpointing" in self.how and importlib.import_module("torch.utils.checkpoint").checkpoint
        for at in range(0, len(self.layers), 4):
            parts = x, self.layers[at : at + 4]
            x = again(self.block, *parts, use_reentrant=False) if again else self.block(*parts)
        return x

    def block(self, x, weights):
        (mixed, out, up, down), linear, width = self.here(weights), self.functional.linear, x.shape[2:]
        split = linear(self.functional.layer_norm(x, width), mixed).view(*x.shape[:2], 3, self.heads, -1)
        seen = self.attend(*split.permute(2, 0, 3, 1, 4).flatten(1, 2)).view(len(x), self.heads, x.shape[1], -1)
        x = x + linear(seen.transpose(1, 2).reshape(x.shape), out)
        return x + linear(self.functional.gelu(linear(self.functional.layer_norm(x, width), up)), down)

    def attend(self, query, key, value):
        if "attention_slicing" in self.how and len(query) > 1:
            return self.torch.cat([self.attend(*one) for one in zip(query.split(1), key.split(1), value.split(1))])
        return (query / query.shape[-1] ** 0.5 @ key.transpose(1, 2)).softmax(-1) @ value

    def decode(self, x):
        latents = x[..., :16].transpose(1, 2).reshape(len(x), 16, *[round(x.shape[1] ** 0.5)] * 2)
        latents, weights = self.functional.pixel_shuffle(latents, 2), self.here(self.kernels)
        parts = latents.split(1 if "vae_slicing" in self.how else len(x))
        return self.torch.cat([(self.tiled if "vae_tiling" in self.how else self.whole)(z, weights) for z in parts])

    def tiled(self, latents, weights):
        """Three tiles by three, two fifths of the side each, which fade into each other where they overlap."""
        tile = 2 * (side := latents.shape[-1]) // 5
        starts = (0, (side - tile) // 2, side - tile)
        place = self.torch.arange(8 * tile, device=self.device) + 0.5
        fade = (place.minimum(place.flip(0)) / (8 * (tile - starts[1]))).clamp(max=1).to(self.kind)
        sums = latents.new_zeros(len(latents), 4, 8 * side, 8 * side)  # three colours, and what they were weighted by
        for top, left in ((top, left) for top in starts for left in starts):
            one = self.whole(latents[..., top : top + tile, left : left + tile], weights)
            part = sums[..., 8 * top : 8 * (top + tile), 8 * left : 8 * (left + tile)]
            part += self.torch.cat((one, self.torch.ones_like(one[:, :1])), 1) * (fade[:, None] * fade)
        return sums[:, :3] / sums[:, 3:]

    def whole(self, x, weights):
        def convolved(x, weight, active=True):
            y = self.functional.silu(self.functional.normalize(x, dim=1) * x.shape[1] ** 0.5) if active else x
            return self.functional.conv2d(y, weight, padding=1)

        for at in range(0, len(weights) - 1, 3):
            x = convolved(self.functional.interpolate(x, scale_factor=2.0) if at else x, weights[at], active=False)
            x = x + convolved(convolved(x, weights[at + 1]), weights[at + 2])
        return convolved(x, weights[-1])
