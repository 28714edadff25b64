"""Compares models that the importer made with tf2onnx's files of the same SavedModels.

`make bench-import` runs it with the Python of the import environment. Both files of a model run in one
process with one thread, call by call in turn. It prints for each model the medians and their ratio, the
time of the import, and its peak memory relative to the weights, and writes
`target/bench/import.json`. The status is 1 if a bound does not hold.

`BENCH_ROUNDS` (7) and `BENCH_SECONDS` (1 for each round of a model) make it longer. Arguments are names
of models; all of them without one.

Not here: how the models are made (`models.py`).
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

from models import INPUT, MODELS, SAVED_MODEL, TF2ONNX

ROUNDS = int(os.environ.get("BENCH_ROUNDS", 7))
ROUND_SECONDS = float(os.environ.get("BENCH_SECONDS", 1))
IMPORTS = 5
SIGNATURE = "serving_default"

# The bounds: of a model's ratio; of the median of all ratios; of the import of MobileNetV2 in addition to
# the reading of its files, as processor time, because it has one thread and other programs do not count; of
# the peak memory relative to the weights, without that of the program itself, for models that are large
# enough for it.
RATIO = 1.10
MEDIAN_RATIO = 1.00
IMPORT_MS = {"MobileNetV2": 100}
MEMORY = 2.2
LARGE_WEIGHTS = 10_000_000

# Runs a command, and prints its seconds, its seconds of processor time and its peak memory in KiB. Linux
# counts the memory of the process that starts another to the other's peak, so this is a small process, not
# the bench itself.
TIMED_RUN = """
import os, sys, time
begin = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--server", required=True, help="the program, whose `import` is measured")
    parser.add_argument("--target", required=True, type=pathlib.Path, help="the build folder")
    parser.add_argument("names", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    arguments = parser.parse_args()
    folders = [make(name, arguments.target / "bench-import") for name in arguments.names or MODELS]

    head = "model | ours ms | tf2onnx ms | ratio | difference | import ms | CPU ms | read ms | weights MB"
    print(f"| {head} | peak / weights |\n{'| --- ' * 10}|")
    rows = [measure(folder, arguments.server) for folder in folders]
    measured = [row["ratio"] for row in rows if "ratio" in row]
    report = {"models": rows, "median_ratio": statistics.median(measured) if measured else None}
    broken = [text for row in rows for text in complaints(row)]
    if measured and round(report["median_ratio"], 2) > MEDIAN_RATIO:
        broken.append(f"the median of the ratios is above {MEDIAN_RATIO}")
    report["broken"] = broken
    if measured:
        print(f"\nmedian of the ratios: {report['median_ratio']:.3f}")
    for text in broken:
        print(f"NOT MET: {text}")
    path = arguments.target / "bench" / "import.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1))
    return 1 if broken else 0


def make(name, cache):
    """The folder of a model; it is made only if it is not there yet."""
    folder = cache / name
    if not folder.is_dir():
        print(f"making {name}", flush=True)
        unfinished = cache / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        maker = pathlib.Path(__file__).with_name("models.py")
        subprocess.run(
            [sys.executable, maker, name, unfinished.resolve()],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if "BENCH_VERBOSE" not in os.environ else None,
        )
        unfinished.rename(folder)
    return folder


def measure(folder, server):
    """One row of the table; it is printed, too."""
    saved_model, output = folder / SAVED_MODEL, folder / "imported"
    row = {"model": folder.name, "weights": weights(saved_model), "read_ms": read_ms(saved_model)}
    try:
        row |= run_import(server, saved_model, output)
        row |= compare(folder, onnx_file(output), onnx_file(folder / TF2ONNX))
        print(
            "| {model} | {ours_ms:.2f} | {tf2onnx_ms:.2f} | {ratio:.3f} | {difference:.1e} "
            "| {import_ms:.0f} | {import_cpu_ms:.0f} | {read_ms:.0f} | {megabytes:.1f} "
            "| {memory:.2f} |".format(
                megabytes=row["weights"] / 1e6, **row
            ),
            flush=True,
        )
    except Failed as error:
        row["failed"] = str(error)
        print(f"| {folder.name} | {error} |", flush=True)
    return row


class Failed(Exception):
    """A model that could not be measured, and why."""


def run_import(server, saved_model, output):
    """The import's median times, and its peak memory relative to the weights."""
    idle = timed([server, "--version"])[2]
    runs = []
    for _ in range(IMPORTS):
        shutil.rmtree(output, ignore_errors=True)
        runs.append(timed([server, "import", saved_model, "--output", output]))
    times, cpu_times, peaks = zip(*runs)
    return {
        "import_ms": statistics.median(times) * 1e3,
        "import_cpu_ms": statistics.median(cpu_times) * 1e3,
        "memory": (statistics.median(peaks) - idle) * 1024 / weights(saved_model),
    }


def timed(command):
    """The seconds, the seconds of processor time and the peak memory in KiB of a command that succeeds."""
    command = [sys.executable, "-S", "-E", "-c", TIMED_RUN, *command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"not imported: {(done.stdout + done.stderr).strip()[-1000:]}")
    return [float(number) for number in done.stdout.split()[-3:]]


def weights(saved_model):
    return sum(path.stat().st_size for path in saved_model.glob("variables/variables.data-*"))


def read_ms(saved_model):
    """How long it takes to read the files of a SavedModel."""

    def once():
        begin = time.perf_counter()
        for path in saved_model.rglob("*"):
            if path.is_file():
                path.read_bytes()
        return (time.perf_counter() - begin) * 1e3

    return statistics.median(once() for _ in range(IMPORTS))


def onnx_file(folder):
    """The file of the signature, or the only one, which serves all signatures."""
    files = sorted(folder.glob("**/*.onnx"))
    named = [path for path in files if path.stem == SIGNATURE]
    return (named or files)[0]


def compare(folder, ours, theirs):
    """The medians of both files' calls, and their ratio: its median over the rounds."""
    described = json.loads((folder / INPUT).read_text())
    random = np.random.RandomState(0)
    shape, dtype = described["shape"], np.dtype(described["dtype"])
    tensor = random.randint(0, 1000, shape) if dtype.kind == "i" else random.uniform(size=shape)
    calls = [call(path, tensor.astype(dtype)) for path in (ours, theirs)]
    answers = [run() for run in calls]
    if answers[0].shape != answers[1].shape:
        raise Failed(f"answers of different shapes: {[it.shape for it in answers]}")
    rounds = [one_round(calls) for _ in range(ROUNDS)]
    return {
        "ours_ms": statistics.median(ours for ours, _ in rounds),
        "tf2onnx_ms": statistics.median(theirs for _, theirs in rounds),
        "ratio": statistics.median(ours / theirs for ours, theirs in rounds),
        "difference": float(np.abs(answers[0] - answers[1]).max() / np.abs(answers[1]).max()),
    }


def call(path, tensor):
    """A function that runs the file once in bare ONNX Runtime with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes of errors have no common base
        raise Failed(f"ONNX Runtime does not load {path}: {error}") from error
    feeds = {session.get_inputs()[0].name: tensor}
    fetched = [session.get_outputs()[0].name]
    return lambda: session.run(fetched, feeds)[0]


def one_round(calls):
    """The median milliseconds of each, called in turn."""
    times = [[] for _ in calls]
    end = time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < end or len(times[0]) < 5:
        for run, taken in zip(calls, times):
            begin = time.perf_counter()
            run()
            taken.append((time.perf_counter() - begin) * 1e3)
    return [statistics.median(taken) for taken in times]


def complaints(row):
    if "failed" in row:
        yield f"{row['model']} was not measured"
        return
    if round(row["ratio"], 2) > RATIO:
        yield f"{row['model']} has a ratio above {RATIO}"
    most = IMPORT_MS.get(row["model"])
    if most and row["import_cpu_ms"] > most + row["read_ms"]:
        yield f"the import of {row['model']} took more than {most} ms and the reading of its files"
    if row["weights"] > LARGE_WEIGHTS and row["memory"] > MEMORY:
        yield f"the import of {row['model']} needed more than {MEMORY} times the weights"


if __name__ == "__main__":
    sys.exit(main())
