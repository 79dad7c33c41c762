"""How many bytes a second does this directory take and give, past the page cache? Standard library only.

The file has no name: it is unlinked as soon as it is open, so the kernel frees it however we end.
"""

import errno
import mmap
import os
import tempfile

ALIGNED = 4096  # bytes: what O_DIRECT wants of offsets, sizes and memory on any usual disk; mmap gives such memory
DIRECT = getattr(os, "O_DIRECT", 0)


def bench(kit, params):
    path, size = params["path"], params["size"]
    chunk = min(params["chunk"], params["size"]) // ALIGNED * ALIGNED or ALIGNED
    buffer = mmap.mmap(-1, chunk)
    buffer.write(os.urandom(chunk))  # a disk that compresses or deduplicates must have nothing to gain
    try:
        file, direct = nameless(path, buffer)
    except OSError as error:
        kit.data(refused="%s: %s" % (path, error.strerror))
        return
    try:
        written, seconds = write(kit, file, buffer, size, params["seconds"] / 2, params["keep_free"])
        kit.fact("write_bytes_per_second", written / seconds, cache="direct" if direct else "flushed")
        kit.progress(1, 2)
        cache = "direct" if direct else kit.dropped(file)
        kit.fact("read_bytes_per_second", written / read(kit, file, buffer, written), cache=cache)
        kit.progress(2, 2)
        kit.data(written=written)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kit.data(full="%s: %s" % (path, error.strerror))
    finally:
        os.close(file)


def nameless(path, buffer):
    """(an open file without a name, is it past the page cache)."""
    file, name = tempfile.mkstemp(prefix=".gpu-canary-", dir=path)
    try:
        if DIRECT:
            try:
                straight = os.open(name, os.O_RDWR | DIRECT)
            except OSError:  # this file system has no O_DIRECT
                return file, False
            try:
                os.pwrite(straight, memoryview(buffer)[:ALIGNED], 0)
                os.close(file)
                return straight, True
            except OSError:  # it has, with wider blocks than ours
                os.close(straight)
        return file, False
    finally:
        os.unlink(name)


def write(kit, file, buffer, size, budget, keep_free):
    """(bytes written, seconds): `size` bytes, or what the budget allows, until they are on the disk."""
    began, written = kit.clock(), 0
    while written < size and (not written or kit.clock() < began + budget):
        seen = os.fstatvfs(file)
        if seen.f_bavail * seen.f_frsize < keep_free:
            raise OSError(errno.ENOSPC, "somebody else fills it")
        written += whole(os.pwrite, file, buffer, written)
    os.fsync(file)
    return written, kit.clock() - began


def read(kit, file, buffer, size):
    """Seconds."""
    began = kit.clock()
    for at in range(0, size, len(buffer)):
        whole(lambda descriptor, view, offset: os.preadv(descriptor, [view], offset), file, buffer, at)
    return kit.clock() - began


def whole(call, file, buffer, at):
    """All of the buffer, from that offset on; a call may do less."""
    done = 0
    while done < len(buffer):
        moved = call(file, memoryview(buffer)[done:], at + done)
        if moved <= 0:
            raise OSError(errno.EIO, "the file ended early")
        done += moved
    return done
