"""A trtexec that behaves as those of TensorRT 8.5, 8.6 and 10.3 do, argument errors included, and needs no GPU.

Options, wording, exit codes and streams are those of https://github.com/NVIDIA/TensorRT, samples/trtexec/trtexec.cpp
and samples/common/{sampleOptions,sampleEngines,sampleReporting}.cpp at 8.5.3, v8.6.1 and v10.3.0. Standard library
only: a test writes it into a directory as `trtexec`. The environment says which version it is (FAKE_TRTEXEC) and what
goes wrong (FAKE_TRTEXEC_DOES).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

VERSIONS = {"8.4": "8400", "8.5": "8503", "8.6": "8601", "10.3": "100300", "11.1": "110100"}
EVERY = {
    "onnx", "saveEngine", "loadEngine", "memPoolSize", "timingCacheFile", "precisionConstraints", "layerPrecisions",
    "warmUp", "duration", "iterations", "useSpinWait", "exportTimes", "exportProfile", "dumpProfile",
    "separateProfileRun", "verbose", "help",
}  # fmt: skip
OPTIONS = {
    "8.4": EVERY | {"fp16", "int8", "buildOnly", "workspace"},
    "8.5": EVERY | {"fp16", "int8", "buildOnly", "workspace", "explicitBatch", "preview", "heuristic"},
    "8.6": EVERY | {
        "fp16", "int8", "buildOnly", "skipInference", "workspace", "explicitBatch", "builderOptimizationLevel",
        "heuristic", "versionCompatible",
    },
    "10.3": EVERY | {"fp16", "int8", "skipInference", "builderOptimizationLevel", "stronglyTyped", "versionCompatible"},
    "11.1": (EVERY | {"skipInference", "builderOptimizationLevel"}) - {"precisionConstraints", "layerPrecisions"},
}  # fmt: skip
NEEDS_VALUE = {"onnx", "saveEngine", "loadEngine", "memPoolSize", "timingCacheFile"}
STAMP = "[11/21/2026-19:30:00]"
COUNT, LATENCY_MS = 1200, 2.5


def main(argv: list[str]) -> int:
    version, does = os.environ["FAKE_TRTEXEC"], os.environ.get("FAKE_TRTEXEC_DOES", "build")
    name = f"TensorRT.trtexec [TensorRT v{VERSIONS[version]}] # {' '.join(argv)}"
    if does == "silent":
        return 0
    print(f"&&&& RUNNING {name}", flush=True)
    given = dict(word.lstrip("-").partition("=")[::2] for word in argv[1:])
    if "help" in given:
        print("=== Model Options ===\n  --onnx=<file>               ONNX model")
        return 0
    if log := os.environ.get("FAKE_TRTEXEC_LOG"):
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(argv) + "\n")
    wrong = wrong_options(given, version)
    for message in wrong:
        error(message)
    code = 1 if wrong else act(given, version, does)
    print(f"&&&& {'FAILED' if code else 'PASSED'} {name}", flush=True)
    return code


def wrong_options(given: dict[str, str], version: str) -> list[str]:
    if version.startswith("10"):
        for option in NEEDS_VALUE & set(given):
            if not given[option]:
                return [f"Invalid argument: --{option}"]
    if "onnx" not in given and "loadEngine" not in given:
        return ["Model missing or format not recognized"]
    pools = [pool.partition(":")[0] for pool in given.get("memPoolSize", "").split(",") if pool]
    unknown_pools = [pool for pool in pools if pool not in ("workspace", "dlaSRAM", "dlaLocalDRAM", "dlaGlobalDRAM")]
    if unknown_pools:
        return [f"Unknown memory pool: {unknown_pools[0]}"]
    if given.get("precisionConstraints", "none") not in ("none", "obey", "prefer"):
        return [f"Unknown precision constraints: {given['precisionConstraints']}"]
    return [f"Unknown option: --{option} {given[option]}" for option in given if option not in OPTIONS[version]]


def act(given: dict[str, str], version: str, does: str) -> int:
    info(f"TensorRT version: {version}.0" if version == "10.3" else f"TensorRT version: {version}.3")
    info("Selected Device: Orin")
    info("Compute Capability: 8.7")
    return run(given, does) if "loadEngine" in given else build(given, version, does)


def build(given: dict[str, str], version: str, does: str) -> int:
    if "workspace" in given:
        warning("--workspace flag has been deprecated by --memPoolSize flag.")
    if "buildOnly" in given and version == "8.6":
        warning("--buildOnly flag has been deprecated by --skipInference flag.")
    with open(given["onnx"], "rb") as file:
        model = file.read()
    if does == "refuse-model":
        error('ModelImporter.cpp:726: While parsing node number 2 [QuantizeLinear -> "q"]:')
        error("Failed to parse onnx file")
        error("Parsing model failed")
        error("Failed to create engine from model or file.")
        error("Engine set up failed")
        return 1
    with open(given["saveEngine"], "wb") as file:
        file.write(b"FAKE ENGINE\n" + model[: len(model) // 2])
        file.flush()
        if does == "hang":
            print("", flush=True)
            child = os.fork()  # the real one has helpers, too
            time.sleep(600)
            return child
        if does == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if does == "full-disk":
            error("Saving engine to file failed.")
            error("Engine set up failed")
            return 1
        if does == "empty":
            file.truncate(0)
        else:
            file.write(model[len(model) // 2 :])
    if "timingCacheFile" in given:
        with open(given["timingCacheFile"], "ab") as file:
            file.write(b"timings ")
    info("Engine built in 12.3456 sec.")
    info("Created engine with size: 5.78431 MiB")
    skipped = "buildOnly" if "buildOnly" in given else "skipInference"
    info(f"Skipped inference phase since --{skipped} is added.")
    return 0


def run(given: dict[str, str], does: str) -> int:
    if does == "refuse-engine":
        error("IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion failed.)")
        error("Engine deserialization failed")
        return 1
    info("Engine deserialized in 0.0123 sec.")
    if "exportTimes" in given:
        with open(given["exportTimes"], "w", encoding="utf-8") as file:
            file.write("[\n" + ", ".join(query(index) for index in range(COUNT)) + "]\n")
    if "exportProfile" in given:
        with open(given["exportProfile"], "w", encoding="utf-8") as file:
            file.write('[\n  { "count" : 400 }\n')
            for layer, ms in (("Conv_0 + Relu_1", 1.5), ('Reformat "x" \\ y', 0.5), ("PWN(Erf_2)", 0.25)):
                file.write(
                    f', {{ "name" : "{layer}", "timeMs" : {400 * ms}, "averageMs" : {ms}, "medianMs" : {ms}, '
                    f'"percentage" : {100 * ms / 2.25} }}\n'
                )
            file.write("]\n")
    info("")
    info("=== Performance summary ===")
    info("Throughput: 397.123 qps")
    for title in ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency"):
        figures = "min = 2.5 ms, max = 2.5 ms, mean = 2.5 ms, median = 2.5 ms"
        info(f"{title}: {figures}, percentile(90%) = 2.5 ms, percentile(95%) = 2.5 ms, percentile(99%) = 2.5 ms")
    info("Total Host Walltime: 3.00161 s")
    info("Total GPU Compute Time: 2.96536 s")
    warning("* GPU compute time is unstable, with coefficient of variance = 1.72%.")
    warning("  If not already in use, locking GPU clock frequency or adding --useSpinWait may improve the stability.")
    return 0


def query(index: int) -> str:
    start = index * LATENCY_MS
    latency = 40.0 if index == 0 else LATENCY_MS
    return (
        f'{{ "startEnqMs" : {start}, "endEnqMs" : {start + 0.1}, "startH2dMs" : {start}, "endH2dMs" : {start + 0.1}, '
        f'"startComputeMs" : {start + 0.1}, "endComputeMs" : {start + 2.4}, "startD2hMs" : {start + 2.4}, '
        f'"endD2hMs" : {start + 2.5}, "h2dMs" : 0.1, "computeMs" : 2.3, "d2hMs" : 0.1, "latencyMs" : {latency} }}\n'
    )


def info(text: str) -> None:
    print(f"{STAMP} [I] {text}", flush=True)


def warning(text: str) -> None:
    print(f"{STAMP} [W] {text}", file=sys.stderr, flush=True)


def error(text: str) -> None:
    print(f"{STAMP} [E] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
