"""What should be switched on where VRAM is short, and how?"""

from __future__ import annotations

from probes.api import Rule

SLICING = Rule(
    "optimisations-attention-slicing",
    "info",
    "VRAM is short: attention slicing makes less of the attention at a time.",
    '1. diffusers: `pipe.enable_attention_slicing("max")`.\n'
    "2. It saves nothing where `torch.nn.functional.scaled_dot_product_attention` or xformers do the attention, as they do "
    "by default in new versions: those never hold all of its weights. Prefer them.",
)
TILING = Rule(
    "optimisations-vae-tiling",
    "info",
    "VRAM is short: VAE tiling decodes a picture in overlapping tiles.",
    "1. diffusers: `pipe.vae.enable_tiling()`; ComfyUI: the node `VAE Decode (Tiled)`.\n"
    "2. Look at a picture for seams; if there are any, make the tiles larger: `pipe.vae.tile_sample_min_size`.",
)
PICTURES = Rule(
    "optimisations-vae-slicing",
    "info",
    "VRAM is short: VAE slicing decodes the pictures of a batch one after the other.",
    "1. diffusers: `pipe.vae.enable_slicing()`. The pictures stay the same; a batch of one has nothing to gain.",
)
HALF = Rule(
    "optimisations-half-precision",
    "info",
    "VRAM is short: half precision takes half of it.",
    "1. diffusers: `DiffusionPipeline.from_pretrained(model, torch_dtype=torch.float16)`, or `torch.bfloat16` from Ampere on.\n"
    '2. Training: `accelerate launch --mixed_precision="fp16"`.\n'
    "3. Black pictures: keep the VAE in fp32, `pipe.upcast_vae()`.",
)
OFFLOAD = Rule(
    "optimisations-cpu-offload",
    "info",
    "VRAM is short: CPU offload keeps weights in the host's memory until a layer needs them.",
    "1. diffusers: `pipe.enable_model_cpu_offload()` moves whole models and costs little.\n"
    "2. `pipe.enable_sequential_cpu_offload()` moves layers, as was measured here, and saves most; a slow PCIe link makes it "
    "slow: `gpu-canary run host_copy`.",
)
BATCH = Rule(
    "optimisations-batch-size",
    "info",
    "VRAM is short: pictures can be made one after the other.",
    "1. diffusers: `num_images_per_prompt=1`, and a loop around it.\n"
    "2. Training: `--train_batch_size=1`; `gpu-canary run max_batch` tells how many would fit.",
)
RESOLUTION = Rule(
    "optimisations-lower-resolution",
    "info",
    "VRAM is short: smaller pictures take less of it, and less time.",
    "1. diffusers: `pipe(prompt, height=576, width=576)` instead of 768; enlarge the result by an upscaler.\n"
    "2. Training: `--resolution=512` instead of 768.",
)
CHECKPOINTING = Rule(
    "optimisations-gradient-checkpointing",
    "info",
    "VRAM is short: gradient checkpointing computes again what training would have to keep.",
    "1. diffusers' scripts: `--gradient_checkpointing`; your own: `unet.enable_gradient_checkpointing()`.",
)
ACCUMULATION = Rule(
    "optimisations-gradient-accumulation",
    "info",
    "VRAM is short: a batch can be trained in parts whose gradients are added.",
    "1. diffusers' scripts: `--train_batch_size=1 --gradient_accumulation_steps=2`; the gradients are those of the whole batch.",
)
RECOMMENDED = Rule(
    "optimisations-recommended",
    "info",
    "VRAM is short: the recommended set saves most of what making a picture takes.",
    "1. `DiffusionPipeline.from_pretrained(model, torch_dtype=torch.float16)`.\n"
    "2. `pipe.enable_model_cpu_offload()`, or `pipe.enable_sequential_cpu_offload()` if that does not suffice.\n"
    "3. `pipe.vae.enable_tiling()` and `pipe.vae.enable_slicing()`.\n"
    '4. `pipe.enable_attention_slicing("max")`, where neither scaled_dot_product_attention nor xformers are used.',
)
NO_ROOM = Rule(
    "optimisations-no-room",
    "info",
    "The card cannot hold the unoptimised run, so nothing can be compared with it.",
    "1. `nvidia-smi` lists what holds the VRAM; stop it, and `gpu-canary run optimisations` again.\n"
    "2. On a card with nothing else on it, take smaller pictures: `params: {pixels: 512}`.\n"
    "3. Make your own pictures with the optimisations that the other findings name.",
)
ADVICE = {
    "recommended": RECOMMENDED,
    "half_precision": HALF,
    "attention_slicing": SLICING,
    "vae_tiling": TILING,
    "vae_slicing": PICTURES,
    "cpu_offload": OFFLOAD,
    "batch_size": BATCH,
    "lower_resolution": RESOLUTION,
    "gradient_checkpointing": CHECKPOINTING,
    "gradient_accumulation": ACCUMULATION,
}
