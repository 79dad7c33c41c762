"""How many floating-point operations a second do the convolutions of a VAE's decoder reach? Imports torch."""

# The 3x3 convolutions of the decoder that Stable Diffusion's models share, for a picture of 1024x1024: channels in, channels
# out, height and width (block_out_channels 128, 256, 512, 512; each of its four levels is twice as wide as the one before):
# https://huggingface.co/stabilityai/sdxl-vae/blob/main/config.json
LAYERS = {
    "lowest": (512, 512, 128),
    "low": (512, 512, 256),
    "middle": (256, 256, 512),
    "high": (128, 128, 1024),
}
KERNEL = 3
# Less than 7 GiB: a picture of 512x512; the CPU: one of 64x64.
SHRUNK, CPU_SHRUNK = ((7 * 2**30, 1), (0, 2)), 16
SECONDS = 8.0


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    dtype, kind = kit.native(torch)
    shrunk = kit.fitting(SHRUNK, CPU_SHRUNK)
    budget = kit.budget(params, SECONDS) / len(LAYERS)
    for done, (layer, (before, after, full)) in enumerate(LAYERS.items()):
        kit.progress(done, len(LAYERS))
        side = full // shrunk
        picture = weight = None  # else those of the round before hold their memory beside the new ones
        picture = torch.randn(1, before, side, side, device=device, dtype=kind)
        weight = torch.randn(after, before, KERNEL, KERNEL, device=device, dtype=kind)
        median = kit.seconds(lambda: convolve(torch, picture, weight), budget)  # noqa: B023 (called at once)
        kit.fact("flops_per_second", operations(before, after, side) / median, layer=layer, dtype=dtype, device=device)
    kit.progress(len(LAYERS), len(LAYERS))


def convolve(torch, picture, weight):
    with torch.no_grad():
        return torch.nn.functional.conv2d(picture, weight, padding=KERNEL // 2)


def operations(before, after, side):
    """Each value of the result is a sum of products: 2 operations for each channel and each place of the kernel.

    What the kernel meets outside the picture is counted too, as everybody does.
    """
    return 2 * side * side * after * before * KERNEL * KERNEL
