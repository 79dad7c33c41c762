"""How long do the parts of one step of a text-to-video model take? Wan2.1 1.3B's shapes, random weights. Imports torch."""

# https://huggingface.co/Wan-AI/Wan2.1-T2V-1.3B/blob/main/config.json: 30 layers of these, 512 tokens of text. Its VAE makes
# 21 latent pictures of 81 frames, each an eighth as wide and high; the transformer takes 2 x 2 of them as one token.
WIDTH, HEADS, HIDDEN, TEXT, LATENT_FRAMES = 1536, 12, 8960, 512, 21
# Height and width in pixels: 32,760, 75,600 and 171,360 tokens.
SIZES = {"480p": (480, 832), "720p": (720, 1280), "1080p": (1088, 1920)}
# Attention grows with the square: the largest takes a card of the middle class a second a layer, and 5 GiB.
DEFAULTS, CPU_DEFAULTS = ((40 * 2**30, list(SIZES)), (20 * 2**30, ["480p", "720p"]), (0, ["480p"])), ["480p"]
CPU_SHRUNK = 8  # times fewer pixels each way, on three latent pictures
SECONDS = 8.0
# Channels of the VAE's decoder, a level at a time: those that come in, those that its blocks have, whether time doubles.
LEVELS = ((384, 384, True), (192, 384, True), (192, 192, False), (96, 96, None))


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    _, kind = kit.native(torch)
    sizes = params.get("sizes") or kit.fitting(DEFAULTS, CPU_DEFAULTS)
    budget = kit.budget(params, SECONDS) / (2 * len(sizes))
    shrunk, frames = (CPU_SHRUNK, 3) if device == "cpu" else (1, LATENT_FRAMES)
    for done, size in enumerate(sizes):
        height, width = (pixels // 8 // shrunk for pixels in SIZES[size])
        for number, part in enumerate(("layer", "decode")):
            work = None  # else the part before holds its memory beside the new one
            if part == "layer":
                work = layer(torch, device, kind, frames, height // 2, width // 2)
            else:
                work = decoder(torch, device, kind, height, width)
            kit.progress(2 * done + number, 2 * len(sizes))  # here the parent looks at the card's counter of energy
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            with torch.no_grad():
                kit.fact(part + "_seconds", kit.seconds(work, budget), size=size, device=device)
            if device == "cuda":
                held = torch.cuda.max_memory_allocated() - kit.flush.numel()
                kit.fact("peak_memory_bytes", held, part=part, size=size)
    kit.progress(1, 1)


def layer(torch, device, kind, frames, height, width):
    """One of the transformer's layers: attention to all tokens, attention to the text, and a feed-forward, all modulated."""
    functional, tokens = torch.nn.functional, frames * height * width

    def weight(out, into):
        return torch.randn(out, into, device=device, dtype=kind) / into**0.5

    own, text = [weight(WIDTH, WIDTH) for _ in "qkvo"], [weight(WIDTH, WIDTH) for _ in "qkvo"]
    up, down = weight(HIDDEN, WIDTH), weight(WIDTH, HIDDEN)
    shifts = torch.randn(6, 1, 1, WIDTH, device=device, dtype=kind) / WIDTH**0.5
    x = torch.randn(1, tokens, WIDTH, device=device, dtype=kind)
    prompt = torch.randn(1, TEXT, WIDTH, device=device, dtype=kind)
    cos, sin = positions(torch, device, kind, frames, height, width)

    def norm(y):
        return functional.layer_norm(y, (WIDTH,))

    def turned(y):
        even, odd = y[..., 0::2], y[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    def attend(weights, y, other, turn):
        query, key = (turn(heads(root(functional.linear(z, w)))) for z, w in ((y, weights[0]), (other, weights[1])))
        seen = functional.scaled_dot_product_attention(query, key, heads(functional.linear(other, weights[2])))
        return functional.linear(seen.transpose(1, 2).reshape(1, -1, WIDTH), weights[3])

    def work():
        y = norm(x) * (1 + shifts[1]) + shifts[0]
        z = x + attend(own, y, y, turned) * shifts[2]
        z = z + attend(text, norm(z), prompt, lambda y: y)
        y = norm(z) * (1 + shifts[4]) + shifts[3]
        hidden = functional.gelu(functional.linear(y, up), approximate="tanh")
        return z + functional.linear(hidden, down) * shifts[5]

    return work


def heads(y):
    return y.view(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2)


def root(y):
    """RMS norm; torch has one of its own only from 2.4 on."""
    return y * (y.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()


def positions(torch, device, kind, frames, height, width):
    """Cosines and sines of every token, of its frame, row and column: 22, 21 and 21 of a head's 64 pairs."""
    angles = []
    for axis, (count, pairs) in enumerate(((frames, 22), (height, 21), (width, 21))):
        turns = 10000.0 ** -(torch.arange(pairs, device=device).float() / pairs)
        shape = [count if axis == n else 1 for n in range(3)] + [pairs]
        table = (torch.arange(count, device=device).float()[:, None] * turns).view(shape)
        angles.append(table.expand(frames, height, width, pairs))
    flat = torch.cat(angles, -1).view(frames * height * width, -1)
    return flat.cos().to(kind), flat.sin().to(kind)


def decoder(torch, device, kind, height, width):
    """The VAE's decoder on one latent picture, as it goes: four frames of video come of it."""
    functional = torch.nn.functional

    def kernel(out, into):
        return torch.randn(out, into, 3, 3, 3, device=device, dtype=kind) / (27 * into) ** 0.5

    def shrunk(channels):  # the CPU's toy is as deep, and narrower
        return channels if device == "cuda" else channels // 16

    latent = torch.randn(1, 16, 1, height, width, device=device, dtype=kind)
    first, last = kernel(shrunk(384), 16), kernel(3, shrunk(96))
    blocks = [
        [(kernel(shrunk(out), shrunk(out if n else into)), kernel(shrunk(out), shrunk(out))) for n in range(3)]
        for into, out, _ in LEVELS
    ]
    halves = [kernel(shrunk(out) // 2, shrunk(out)) for _, out, _ in LEVELS[:-1]]

    def active(x):
        return functional.silu(functional.normalize(x, dim=1) * x.shape[1] ** 0.5)

    def work():
        x = functional.conv3d(latent, first, padding=1)
        for number, (_, _, doubles) in enumerate(LEVELS):
            for one, two in blocks[number]:
                y = functional.conv3d(active(functional.conv3d(active(x), one, padding=1)), two, padding=1)
                x = x + y if x.shape == y.shape else y
            if doubles is not None:
                x = functional.interpolate(x, scale_factor=(2 if doubles else 1, 2, 2), mode="nearest")
                x = functional.conv3d(x, halves[number], padding=1)
        return functional.conv3d(active(x), last, padding=1)

    return work
