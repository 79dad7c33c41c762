"""How many floating-point operations a second does attention reach, at the shapes of pictures, video and text? Imports torch."""

# What one layer of a real model asks for: heads, width of a head, tokens, and whether a token sees only those before it.
# image: FLUX.1 at 1024x1024, 4096 patches and 512 tokens of text (https://huggingface.co/black-forest-labs/FLUX.1-dev).
# video: Wan2.1 1.3B, 81 frames of 832x480, 21 x 30 x 52 patches (https://github.com/Wan-Video/Wan2.1).
# text: the prompt of an 8B Llama 3, its shared keys and values repeated (https://huggingface.co/meta-llama/Meta-Llama-3-8B).
SHAPES = {"image": (24, 128, 4608, False), "video": (12, 128, 32760, False), "text": (32, 128, 8192, True)}
# Less than 7 GiB, and the CPU: the same layers with fewer tokens.
SHARE_OF_TOKENS, CPU_SHARE = ((7 * 2**30, 1), (0, 4)), 32
SECONDS = 8.0


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    dtype, kind = kit.native(torch)
    shapes = params.get("shapes") or list(SHAPES)
    budget = kit.budget(params, SECONDS) / len(shapes)
    share = params.get("share_of_tokens") or kit.fitting(SHARE_OF_TOKENS, CPU_SHARE)
    for done, shape in enumerate(shapes):
        kit.progress(done, len(shapes))
        heads, width, tokens, causal = SHAPES[shape]
        tokens //= share
        query = key = value = None  # else those of the round before hold their memory beside the new ones
        query, key, value = (torch.randn(1, heads, tokens, width, device=device, dtype=kind) for _ in "qkv")
        median = kit.seconds(lambda: attend(torch, query, key, value, causal), budget)  # noqa: B023 (called at once)
        kit.fact(
            "flops_per_second",
            operations(heads, width, tokens, causal) / median,
            shape=shape,
            dtype=dtype,
            device=device,
        )
    kit.progress(len(shapes), len(shapes))


def attend(torch, query, key, value, causal):
    with torch.no_grad():
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)


def operations(heads, width, tokens, causal):
    """Two products, of queries with keys and of weights with values: 2 operations each, a pair of tokens and a width.

    The softmax between them is not counted, nor are the pairs that a causal mask forbids.
    """
    pairs = tokens * (tokens + 1) // 2 if causal else tokens * tokens
    return 4 * heads * width * pairs
