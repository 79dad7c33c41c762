"""How fast does a safetensors file get from the disk to the device? Imports torch; the file has no name.

The format: 8 bytes with the header's length, the header as JSON, then the tensors one after the other
(https://huggingface.co/docs/safetensors/index#format).
"""

import errno
import json
import mmap
import os
import statistics
import struct
import tempfile

TENSOR, BYTES = (4096, 4096), 4096 * 4096 * 2  # a projection of a large model in bf16: 32 MiB
LEAST = 3  # warm loads


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    try:
        file, name = tempfile.mkstemp(prefix=".gpu-canary-", dir=params["path"])
        os.unlink(name)  # the kernel frees it however we end
    except OSError as error:
        kit.data(refused="%s: %s" % (params["path"], error.strerror))
        return
    try:
        number = max(1, params["size"] // BYTES)
        write(file, number, params["keep_free"])
        kit.progress(1, 3)
        place = [torch.empty(TENSOR, dtype=torch.bfloat16, device=device) for _ in range(number)]
        del place  # the allocator keeps it: what is timed is the way of the bytes, not the driver's search for room
        state = kit.dropped(file)
        cold = timed(kit, torch, file, device)
        if state != "kept":
            names = {"dropped": "cold", "asked": "asked"}
            kit.fact("bytes_per_second", number * BYTES / cold, cache=names[state], device=device)
        kit.progress(2, 3)
        taken, end = [], kit.clock() + kit.budget(params, 3.0, 1.0)
        while len(taken) < LEAST or kit.clock() < end:
            taken.append(timed(kit, torch, file, device))
        kit.fact("bytes_per_second", number * BYTES / statistics.median(taken), cache="warm", device=device)
        kit.data(loaded="%d tensors, %d MiB, page cache %s" % (number, number * BYTES >> 20, state))
        kit.progress(3, 3)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kit.data(full="%s: %s" % (params["path"], error.strerror))
    finally:
        os.close(file)


def header(number):
    """The file's beginning. The header is padded with blanks, so that tensors begin at a multiple of 8."""
    entries = {
        "layers.%d.weight" % at: {
            "dtype": "BF16",
            "shape": list(TENSOR),
            "data_offsets": [at * BYTES, (at + 1) * BYTES],
        }
        for at in range(number)
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write(file, number, keep_free):
    """Random bytes as tensors: a disk that compresses must have nothing to gain."""
    with open(file, "wb", closefd=False) as out:
        out.write(header(number))
        for _ in range(number):
            seen = os.fstatvfs(file)
            if seen.f_bavail * seen.f_frsize < keep_free:
                raise OSError(errno.ENOSPC, "somebody else fills it")
            out.write(os.urandom(BYTES))
    os.fsync(file)


def timed(kit, torch, file, device):
    """The seconds until every tensor is on the device."""
    began = kit.clock()
    tensors = load(torch, file, device)
    if device == "cuda":
        torch.cuda.synchronize()
    taken = kit.clock() - began
    del tensors
    return taken


def load(torch, file, device):
    """The file's tensors by name, as safetensors' own loaders do it: the file is mapped, each tensor copied from there."""
    mapped = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)  # torch warns of memory that nobody may write
    size = struct.unpack("<Q", mapped[:8])[0]
    entries = json.loads(mapped[8 : 8 + size])
    tensors = {}
    for name, entry in entries.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            flat = torch.frombuffer(mapped, dtype=torch.bfloat16, count=(end - begin) // 2, offset=8 + size + begin)
            tensors[name] = flat.reshape(entry["shape"]).to(device, copy=True)
    return tensors
