"""How does a worker run in the user's Python? `python kit.py bench.py params.json rows.jsonl`

A worker is a file with `def bench(kit, params)`. It says what it found with `kit.fact`, `kit.data` and `kit.progress`;
kit writes each as one line of rows.jsonl. Standard library only, Python 3.9 syntax: nothing of ours is installed there.
"""

# ruff: noqa: E402 (the path is put right before anything is imported from it)
import os
import sys

# Our folder is on the path because Python puts a script's folder there; a worker's file must shadow no module.
HERE = {os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.realpath(__file__))}
sys.path[:] = [entry for entry in sys.path if entry not in HERE]

import contextlib
import hashlib
import itertools
import json
import platform
import statistics
import time
import traceback

WARM_UP = 0.5  # seconds: a card needs some hundred milliseconds under load to reach its clocks
MINIMUM_CALLS = 5
EVENTS_AHEAD = 10  # calls queued between two synchronisations, so that the card never waits for Python
LONG_CALL = 0.05  # seconds; next to a call as long as this, what Python takes is nothing, and ten of them are too many
LOOKED_AT = 8  # places of a file at which we look whether the page cache still has it
L2_FLUSH_BYTES = 256 * 1024 * 1024  # twice the largest L2 there is: B200, 126 MB (developer.nvidia.com/blackwell)
with open(__file__, "rb") as itself:  # how all workers are measured: when that changes, figures may
    DIGEST = hashlib.sha256(itself.read()).hexdigest()[:12]


class Kit:
    """What a worker may use. `rows` is an open text file; a test brings its own clock."""

    def __init__(self, rows, revision, clock=time.perf_counter):
        self.rows, self.clock, self.revision, self.started = rows, clock, revision, False
        self.cuda = self.flush = None  # torch.cuda and a buffer larger than the L2, once the work runs there

    def torch(self, device="auto"):
        """(torch, "cuda" or "cpu"). A torch that cannot be imported is the worker's error row. RuntimeError: no CUDA."""
        began = self.clock()
        import torch

        self.import_seconds = self.clock() - began
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        facts = {"torch": torch.__version__, "cuda": torch.version.cuda or getattr(torch.version, "hip", None) or ""}
        facts["processor"] = processor()  # whose random numbers, and on the CPU whose sums, may be others
        if device == "cuda":
            self.cuda = torch.cuda
            self.cuda.init()  # the driver's own words where CUDA does not start
            card = self.cuda.get_device_properties(0)
            flushed = max(L2_FLUSH_BYTES, 2 * getattr(card, "L2_cache_size", 0))  # torch tells it from 2.3 on
            self.flush = torch.empty(flushed, dtype=torch.int8, device=device)
            facts.update(device_name=card.name, capability="%d.%d" % (card.major, card.minor))
            facts["device_memory"] = "%.0f GiB" % (card.total_memory / 2**30)  # some models share a name
        self._start(device=device, threads=torch.get_num_threads(), **facts)
        return torch, device

    def fact(self, metric, value, **labels):
        """One measurement, of a metric that the probe declares."""
        self._row("fact", metric=metric, value=float(value), labels={k: str(v) for k, v in labels.items()})

    def data(self, **data):
        """Anything that is no number."""
        self._row("data", data=data)

    def progress(self, done, total):
        """How far: `done` of `total`, in any one unit."""
        self._row("progress", done=float(done), total=float(total))

    def fitting(self, classes, cpu):
        """What suits this device: `cpu`, or of ((least bytes, value), ...) the first whose memory the card has."""
        if self.cuda is None:
            return cpu
        memory = self.cuda.get_device_properties(0).total_memory
        return next(value for least, value in classes if memory >= least)

    def budget(self, params, cuda, cpu=2.0):
        """The seconds to spend measuring: those asked for, or the benchmark's own on this device."""
        return params.get("seconds") or (cpu if self.cuda is None else cuda)

    def native(self, torch):
        """(name, dtype) of the numbers that models run in here: bf16 from Ampere on, fp16 on other cards, fp32 on the CPU."""
        if self.cuda is None:
            return "fp32", torch.float32
        bf16 = torch.version.cuda is not None and self.cuda.get_device_capability() >= (8, 0)
        return ("bf16", torch.bfloat16) if bf16 else ("fp16", torch.float16)

    @staticmethod
    def dropped(file):
        """`dropped` when the page cache let go of the file, `kept` when it did not, `asked` where nobody can tell."""
        if not hasattr(os, "posix_fadvise"):
            return "kept"
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        if not hasattr(os, "RWF_NOWAIT"):
            return "asked"
        size = os.fstat(file).st_size
        seen = {_cached(file, size * at // LOOKED_AT) for at in range(LOOKED_AT)}
        return "kept" if True in seen else "asked" if None in seen else "dropped"

    def seconds(self, work, budget, warm_up=WARM_UP):
        """The median time of one call of `work`, from as many calls as fit into `budget` seconds after the warm-up."""
        if self.cuda is not None:
            self._batch(work, 1)  # loads its kernels
        end, taken = self.clock() + warm_up, self._batch(work, 1)
        while self.clock() < end:
            taken = self._batch(work, _ahead(taken))
        ahead, taken, end = _ahead(taken), [], self.clock() + budget
        while len(taken) < MINIMUM_CALLS or self.clock() < end:
            taken.extend(self._batch(work, ahead))
        median = statistics.median(taken)
        if not median > 0:
            raise RuntimeError("%d calls took a median of %r seconds: no clock can say that" % (len(taken), median))
        return median

    def peak_bytes(self, work, resident):
        """The most bytes of tensors that were on the device at once during one call of `work`.

        `resident`: bytes of those that were there before, which on the CPU the caller must know.
        """
        if self.cuda is not None:
            self.cuda.synchronize()
            self.cuda.reset_peak_memory_stats()
            work()
            self.cuda.synchronize()
            return self.cuda.max_memory_allocated() - self.flush.numel()
        import torch.profiler as profiler  # the CPU's allocator counts no peak, but the profiler hears of all it does

        with profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True) as heard:
            work()
        return resident + _most(e for e in heard.profiler.kineto_results.events() if e.name() == "[memory]")

    def starved(self, error):
        """Did memory run out, or is something broken?"""
        kinds = tuple(filter(None, (getattr(self.cuda, "OutOfMemoryError", None), MemoryError)))
        # the last is what cuDNN says when no memory is left for any of its ways
        words = ("out of memory", "can't allocate memory", "alloc_failed", "unable to find an engine")
        return isinstance(error, kinds) or any(word in str(error).lower() for word in words)

    def _batch(self, work, ahead):
        """The seconds that some calls took: one on the CPU, `ahead` on a card."""
        if self.cuda is None:
            began = self.clock()
            work()
            return [self.clock() - began]
        pairs = [[self.cuda.Event(enable_timing=True) for _ in "ab"] for _ in range(ahead)]
        for start, stop in pairs:
            self.flush.zero_()  # no call finds its data in the L2 of the one before
            start.record()
            work()
            stop.record()
        self.cuda.synchronize()
        return [start.elapsed_time(stop) / 1000 for start, stop in pairs]

    def _start(self, **facts):
        self.started = True
        versions = {"python": platform.python_version(), "executable": sys.executable}
        self._row("start", data={**versions, "revision": self.revision, "kit": DIGEST, **facts})

    def _row(self, kind, **fields):
        if not self.started:
            self._start()
        self.rows.write(json.dumps({"kind": kind, **fields}, ensure_ascii=False) + "\n")
        self.rows.flush()


def _ahead(taken):
    return 1 if taken[-1] > LONG_CALL else EVENTS_AHEAD


def _cached(file, at):
    """Is that place in the page cache? None: this file system does not tell."""
    try:
        return os.preadv(file, [bytearray(1)], at, os.RWF_NOWAIT) > 0
    except BlockingIOError:  # it would have to ask the disk
        return False
    except OSError:
        return None


def _most(events):
    """The highest sum on the way, of bytes that were taken and given back."""
    when = sorted(((getattr(e, "start_ns", None) or e.start_us)(), e.nbytes()) for e in events)
    return max(itertools.accumulate((size for _, size in when), initial=0))


def processor():
    """The processor's model, as far as the system tells it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_rss():
    """The most memory this process ever held, in bytes; None where the system does not tell."""
    # ru_maxrss would start at the parent's size on Linux; gVisor's status has no VmHWM
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")), None)
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def die_with_parent():
    """A worker whose exporter was killed must not keep the card. Linux only; a Python without ctypes still measures."""
    with contextlib.suppress(ImportError, OSError, AttributeError, TypeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


def main(bench, params, rows):
    with open(bench, "rb") as file:
        source = file.read()
    with open(params, encoding="utf-8") as file:
        wanted = json.load(file)
    with open(rows, "a", encoding="utf-8", errors="replace") as file:
        kit = Kit(file, hashlib.sha256(source).hexdigest()[:12])
        try:
            names = {"__name__": "bench", "__file__": bench}
            exec(compile(source, bench, "exec"), names)
            names["bench"](kit, wanted)
            kit._row("end", data={"peak_rss_bytes": peak_rss()})
            return 0
        except BaseException as error:  # whatever ended it is a row, also SystemExit
            missing = error.name if isinstance(error, ModuleNotFoundError) else ""
            text = {"message": str(error)[:2000], "traceback": traceback.format_exc()[-8000:]}
            kit._row("error", type=type(error).__name__, missing=missing, **text)
            return 1


if __name__ == "__main__":
    die_with_parent()
    sys.stdout.reconfigure(line_buffering=True)  # the last words of a worker that is killed are the interesting ones
    code = main(*sys.argv[1:])
    print(end="", flush=True)
    os._exit(code)  # a quarter faster than unloading torch, and no destructor of a broken driver can hang
