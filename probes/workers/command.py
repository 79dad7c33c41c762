"""What does any program take and say: its time, memory, exit code and the figures in its output? Standard library only.

Its process group is ours, so it ends when we are ended; what it prints goes through to the log that the parent keeps.
"""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib import metadata

KEPT = 1024 * 1024  # bytes of the head, and of the tail, of a stream or file; figures are looked for in these
FIRST_LOOK, EVERY = 0.05, 1.0  # seconds until the first look at the processes, and at most between two
ROWS, OWN = "gpu-canary-rows.jsonl", 30000  # where a program may write rows of its own, and how many characters count
SHOWN, NOT_FOUND, NOT_EXECUTABLE = 2000, 127, 126  # characters that are quoted; exit codes as shells have them


def bench(kit, params):
    if params["interpreter"]:
        kit.data(torch=next((found.version for found in metadata.distributions(name="torch")), ""))
    rows, began = os.path.join(os.getcwd(), ROWS), time.time()
    at = kit.clock()
    outputs, code, peak, why = execute(kit, params, environment(params, rows))
    wall, figures, missing = kit.clock() - at, {}, {}
    text, errors = (bytes(output).decode("utf-8", "replace") for output in outputs)
    file = params["file"] and os.path.join(params["directory"] or "", params["file"])
    answer = read(file, began) if file else text
    for name, wanted in params["figures"].items():
        said = answer if file or wanted["json_path"] else text + "\n" + errors  # progress bars speak on stderr
        figures[name], missing[name] = figure(wanted, said)
    last = (errors.strip() or text.strip())[-SHOWN:]
    kit.data(code=code, why=why, seconds=wall, peak_rss=peak, head=text[:SHOWN], last=last)
    kit.data(figures=figures, missing=missing, rows=(read(rows, 0.0) or "")[:OWN])


def execute(kit, params, environ):
    """What it wrote to its two streams, its exit code, the peak RSS of all its processes, why it did not start."""
    argv, outputs = list(params["command"]), (bytearray(), bytearray())
    if params["interpreter"] and argv[0] in ("python", "python3"):
        argv[0] = sys.executable
    argv[0] = shutil.which(argv[0], path=environ.get("PATH")) or argv[0]
    options = {"preexec_fn": die_with_us} if sys.platform == "linux" else {}
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    try:
        process = subprocess.Popen(
            argv, cwd=params["directory"] or None, env=environ, stdin=subprocess.DEVNULL, **pipes, **options
        )
    except OSError as error:
        return outputs, NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE, None, str(error)
    pairs = zip((process.stdout, process.stderr), outputs)
    readers = [threading.Thread(target=drain, args=pair, daemon=True) for pair in pairs]
    for reader in readers:
        reader.start()
    peak, told, wait = 0, 0, FIRST_LOOK
    while process.poll() is None:
        peak = max(peak, resident())
        if peak > 1.1 * told:  # so that a program that is ended at its deadline leaves its peak behind
            kit.data(peak_rss=peak)
            told = peak
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            wait = min(2 * wait, EVERY)
    for reader in readers:
        reader.join(EVERY)  # what went to the background may hold a stream: it ends with us
    return outputs, process.returncode, peak or None, ""


def drain(pipe, kept):
    """Read a stream to its end, through to our own output; `kept` gets its head and its tail."""
    for chunk in iter(lambda: os.read(pipe.fileno(), 65536), b""):
        os.write(1, chunk)
        kept += chunk
        if len(kept) > 2 * KEPT:
            del kept[KEPT:-KEPT]


def resident():
    """The resident bytes of every process of our session but ourselves, shared pages in each; 0 where nobody tells."""
    found, session = 0, os.getsid(0)
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc/self") else ()):
        try:
            with open("/proc/%s/stat" % pid, errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()  # proc_pid_stat(5): session is its 6th, rss its 24th
        except OSError:
            continue
        if int(pid) != os.getpid() and int(fields[3]) == session:
            found += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return found


def environment(params, rows):
    environ = {**os.environ, **params["environ"], "GPU_CANARY_ROWS": rows}
    if params["interpreter"]:  # as if its environment were activated
        environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ.get("PATH", os.defpath)
    return environ


def read(path, since):
    """A file's head; None where it was not written since then."""
    try:
        with open(path, "rb") as file:
            fresh = os.fstat(file.fileno()).st_mtime >= since - 0.05  # file systems keep times in steps
            return file.read(2 * KEPT).decode("utf-8", "replace") if fresh else None
    except OSError:
        return None


def figure(wanted, text):
    """(the number that a pattern's last match, or a JSON path, leads to; why there is none)."""
    try:
        if text is None:
            return None, "this run did not write the file"
        value = found = None
        if wanted["regex"]:
            for found in re.finditer(wanted["regex"], text):  # noqa: B007 (the last one is what it came to)
                pass
            if found is None:
                return None, "nothing in the output matches"
            value = float(found[1] if found.re.groups else found[0])
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
    """The text as JSON, or else its last line that begins like an object."""
    try:
        return json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.lstrip().startswith("{")]
        return json.loads(lines[-1] if lines else text)


def die_with_us():
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
