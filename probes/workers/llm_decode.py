"""How soon comes the first token of a language model, and how many a second after it? Random weights. Imports torch."""

import math

# Llama 3.2 1B (https://huggingface.co/meta-llama/Llama-3.2-1B): 2.5 GB in two bytes a weight. On less than 7 GiB four of its
# layers; on the CPU a toy.
FULL = {"layers": 16, "width": 2048, "heads": 32, "shared": 8, "hidden": 8192, "words": 128256}
FEWER = {**FULL, "layers": 4}
TOY = {"layers": 2, "width": 64, "heads": 4, "shared": 2, "hidden": 128, "words": 512}
MODELS, PROMPTS = ((7 * 2**30, FULL), (0, FEWER)), ((0, 1024),)
CPU_PROMPT = 32
SECONDS = 8.0
DECODED = 64  # tokens after the prompt, again and again: the cache has room for these


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    _, kind = kit.native(torch)
    shape = kit.fitting(MODELS, TOY)
    prompt = params.get("prompt_tokens") or kit.fitting(PROMPTS, CPU_PROMPT)
    budget = kit.budget(params, SECONDS)
    with torch.no_grad():
        model = Model(torch, shape, prompt + DECODED, device, kind)
        words = torch.randint(shape["words"], (1, prompt), device=device)
        kit.progress(0, 2)
        # .item() waits for the token: the user sees it only then.
        first = kit.seconds(lambda: model.step(words, 0).item(), budget / 4)
        kit.fact("first_token_seconds", first, device=device)
        kit.fact("prefill_tokens_per_second", prompt / first, device=device)
        kit.progress(1, 2)
        state = {"word": model.step(words, 0), "at": prompt}

        def decode():
            state["word"] = model.step(state["word"], state["at"])
            state["at"] = prompt + (state["at"] + 1 - prompt) % DECODED

        kit.fact("decode_tokens_per_second", 1 / kit.seconds(decode, budget * 3 / 4), device=device)
    kit.progress(2, 2)


class Model:
    """A Llama: RMS norm, rotary positions, keys and values shared by several heads, SwiGLU, and a cache."""

    def __init__(self, torch, shape, longest, device, kind):
        self.torch, self.shape, self.head = torch, shape, shape["width"] // shape["heads"]
        width, hidden, small = shape["width"], shape["hidden"], shape["shared"] * self.head

        def weight(out, into):
            return torch.randn(out, into, device=device, dtype=kind) / math.sqrt(into)

        self.embedding = weight(shape["words"], width)  # of the last layer too, as there
        self.layers = [
            {
                "qkv": weight(width + 2 * small, width),
                "out": weight(width, width),
                "up": weight(2 * hidden, width),
                "down": weight(width, hidden),
                "keys": torch.zeros(1, shape["shared"], longest, self.head, device=device, dtype=kind),
                "values": torch.zeros(1, shape["shared"], longest, self.head, device=device, dtype=kind),
            }
            for _ in range(shape["layers"])
        ]
        turns = 500000.0 ** -(torch.arange(0, self.head, 2, device=device).float() / self.head)
        angles = torch.arange(longest, device=device).float()[:, None] * turns
        self.cos, self.sin = angles.cos().to(kind), angles.sin().to(kind)

    def step(self, words, at):
        """The next word after these, which stand from place `at` on; the places before are in the cache."""
        return self.scores(words, at)[:, -1:].argmax(-1)

    def scores(self, words, at):
        """The scores of every word of the vocabulary after the last of these."""
        functional = self.torch.nn.functional
        x = self.embedding[words]
        for layer in self.layers:
            x = x + self.attend(layer, self.norm(x), at)
            gate, up = functional.linear(self.norm(x), layer["up"]).chunk(2, -1)
            x = x + functional.linear(functional.silu(gate) * up, layer["down"])
        return functional.linear(self.norm(x[:, -1:]), self.embedding)

    def attend(self, layer, x, at):
        functional, (_, count, width) = self.torch.nn.functional, x.shape
        heads, shared, end = self.shape["heads"], self.shape["shared"], at + count
        parts = functional.linear(x, layer["qkv"]).split([width, shared * self.head, shared * self.head], -1)
        query, key, value = (part.view(1, count, -1, self.head).transpose(1, 2) for part in parts)
        layer["keys"][:, :, at:end] = self.turned(key, at)
        layer["values"][:, :, at:end] = value
        keys, values = (layer[name][:, :, :end].repeat_interleave(heads // shared, 1) for name in ("keys", "values"))
        seen = functional.scaled_dot_product_attention(self.turned(query, at), keys, values, is_causal=count > 1)
        return functional.linear(seen.transpose(1, 2).reshape(1, count, width), layer["out"])

    def turned(self, x, at):
        """Rotary positions (https://arxiv.org/abs/2104.09864), the halves of a head as pairs."""
        left, right = x.chunk(2, -1)
        cos, sin = (table[at : at + x.shape[2]] for table in (self.cos, self.sin))
        return self.torch.cat((left * cos - right * sin, left * sin + right * cos), -1)

    def norm(self, x):
        return x * (x.float().pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt().to(x.dtype)
