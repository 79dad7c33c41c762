"""What does any program take and say: its time, memory, exit code and the figures in its output? Standard library only."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from importlib import metadata

KEPT = 1024 * 1024  # bytes of the head, and of the tail, of a stream or file; figures are looked for in these
FIRST_LOOK, EVERY = 0.05, 1.0  # seconds until the first look at the processes, and at most between two
ROWS, OWN = "gpu-canary-rows.jsonl", 30000  # where a program may write rows, and how many characters of it count
ESCAPES = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")  # colours, and what else a terminal is told (ECMA-48, 5.4)
SHOWN, NOT_FOUND, NOT_EXECUTABLE = 2000, 127, 126  # characters that are quoted; exit codes as shells have them


def bench(kit, params):
    if params["interpreter"]:
        kit.data(torch=next((found.version for found in metadata.distributions(name="torch")), ""))
    rows, file = os.path.abspath(ROWS), params["file"] and os.path.join(params["directory"], params["file"])
    before = stamp(file)
    wall, outputs, code, peak, why = execute(kit, params, environment(params, rows))
    figures, missing, (text, errors) = {}, {}, map(plain, outputs)
    answer = (read(file) if stamp(file) != before else None) if file else text
    for name, wanted in params["figures"].items():
        said = answer if file or wanted["json_path"] else text + "\n" + errors  # progress bars speak on stderr
        figures[name], missing[name] = figure(wanted, said)
    head = text if len(text) <= OWN else text[:OWN].rpartition(" ")[0]  # no number is cut in two
    last = (errors.strip() or text.strip())[-SHOWN:]
    kit.data(code=code, why=why, seconds=wall, peak_rss=peak, head=head, last=last)
    kit.data(figures=figures, missing=missing, rows=(read(rows) or "")[:OWN])


def execute(kit, params, environ):
    """Its seconds, what it wrote to its two streams, its exit code, the peak RSS of its processes, why it did not start."""
    argv, outputs = list(params["command"]), (bytearray(), bytearray())
    if params["interpreter"] and argv[0] in ("python", "python3"):
        argv[0] = sys.executable
    argv[0] = shutil.which(argv[0], path=environ.get("PATH")) or argv[0]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environ}
    options["preexec_fn"] = die_with_us if sys.platform == "linux" else None
    at, peak, told, wait = kit.clock(), 0, 0, FIRST_LOOK
    try:
        process = subprocess.Popen(argv, cwd=params["directory"] or None, **options)  # of our group: it ends with us
    except OSError as error:
        return 0.0, outputs, NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE, None, str(error)
    calls = [(process.wait,), (drain, process.stdout, outputs[0]), (drain, process.stderr, outputs[1])]
    life, *readers = [threading.Thread(target=call, args=args, daemon=True) for call, *args in calls]
    for thread in (life, *readers):
        thread.start()
    while life.is_alive():
        peak = max(peak, resident())
        if peak > 1.1 * told:  # so that a program that is ended at its deadline leaves its peak behind
            kit.data(peak_rss=peak)
            told = peak
        life.join(wait)
        wait = min(2 * wait, EVERY)
    wall = kit.clock() - at
    for reader in readers:
        reader.join(EVERY)  # what went to the background may hold a stream
    return wall, outputs, process.returncode, peak or None, ""


def drain(pipe, kept):
    """Read a stream to its end, through to our own output; `kept` gets its head and its tail."""
    for chunk in iter(lambda: os.read(pipe.fileno(), 65536), b""):
        os.write(1, chunk)
        kept += chunk
        if len(kept) > 4 * KEPT:
            kept[KEPT:-KEPT] = b"\n"  # so that no number comes to be where the middle was


def resident():
    """The resident bytes of all processes below us or of our session, shared pages in each; 0 where nobody tells."""
    seen, me, session = {}, str(os.getpid()), str(os.getsid(0))
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc/self") else ()):
        with suppress(OSError), open("/proc/%s/stat" % pid, errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # proc_pid_stat(5): ppid is its 4th, session 6th, rss 24th
            seen[pid] = fields[1], fields[3] == session, int(fields[21])
    found, below = set(), {me, *(pid for pid in seen if seen[pid][1])}
    while found != below:  # torchrun gives each of its processes a session
        found, below = below, below | {pid for pid in seen if seen[pid][0] in below}
    return sum(seen[pid][2] for pid in found if pid in seen and pid != me) * os.sysconf("SC_PAGE_SIZE") if seen else 0


def environment(params, rows):
    environ = {**os.environ, **params["environ"], "GPU_CANARY_ROWS": rows}
    if params["interpreter"]:  # as if its environment were activated
        environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ.get("PATH", os.defpath)
    return environ


def plain(output):
    """Bytes as text: without colours, and of a progress bar each state is a line."""
    return ESCAPES.sub("", bytes(output).decode("utf-8", "replace")).replace("\r", "\n")


def stamp(path):
    """What changes when a file is written, whatever the clocks of this machine and of a file server do."""
    try:
        return os.stat(path)[:7], os.stat(path).st_mtime_ns
    except OSError:
        return None


def read(path):
    """A file's head; None where there is none."""
    with suppress(OSError), open(path, "rb") as file:
        return plain(file.read(2 * KEPT))


def figure(wanted, text):
    """(the number that a pattern's last match, or a JSON path, leads to; why there is none)."""
    try:
        if text is None:
            return None, "this run did not write the file"
        if wanted["regex"]:
            matches = deque(re.finditer(wanted["regex"], text), maxlen=1)  # the last one is what it came to
            if not matches:
                return None, "nothing in the output matches"
            value = float(matches[0][1 if matches[0].re.groups else 0])
        else:
            value = document(text)
            for key, index in re.findall(r"([^.\[\]]+)|\[([0-9]+)\]", wanted["json_path"]):
                value = value[int(index) if index else key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value * wanted["scale"]):
            return None, "%.80r is not a number" % (value,)
        return value * wanted["scale"], ""
    except (ValueError, LookupError, ArithmeticError, TypeError, RecursionError) as error:
        return None, "%s: %s" % (type(error).__name__, str(error)[:200])


def document(text):
    """The text as JSON, or else what stands there from its last line on that begins with a brace."""
    try:
        return json.loads(text)
    except ValueError:
        *_, last = [0, *(found.start() for found in re.finditer("^{", text, re.MULTILINE))]
        return json.JSONDecoder().raw_decode(text, last)[0]


def die_with_us():
    import ctypes

    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
