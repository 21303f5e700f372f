"""trtexec: where it is, which version, what it is to be asked, and running it so that nothing of it is left behind.

Source of its options: https://github.com/NVIDIA/TensorRT, samples/common/sampleOptions.cpp at 8.5.3, v8.6.1, v10.3.0
and v11.1. Python 3.8 and standard library only: this file is also a part of the bundle's agent.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Tuple

from edgevit.errors import DeviceError, EdgevitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Version = Tuple[int, int, int]

TRTEXEC_PLACES = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/TensorRT/bin/trtexec")
OLDEST_TENSORRT: Version = (8, 5, 0)
SKIP_INFERENCE_SINCE: Version = (8, 6, 0)  # --buildOnly before; 10 no longer has that
OPTIMIZATION_LEVEL_SINCE: Version = (8, 6, 0)
TYPED_BY_GRAPH_SINCE: Version = (11, 0, 0)  # no --fp16 and --int8 any more
OPTIMIZATION_LEVEL = 3  # TensorRT's default, said so that an engine's words say it
# Scratch memory that a kernel may take. The GPU of a Jetson shares the board's memory; the default is all of it.
WORKSPACE_MIB = 1024
VERSION_SECONDS = 60.0
POLL_SECONDS = 1.0
INSTALL_TENSORRT = "sudo apt install nvidia-jetpack python3-libnvinfer"
ERROR_LINES, ERROR_CHARACTERS = 3, 600


@dataclass(frozen=True)
class EngineRecipe:
    """precision: fp32, fp16, or int8, whose float part is fp16. float32_layers: names of those that stay in fp32."""

    precision: str = "fp32"
    float32_layers: Tuple[str, ...] = ()


def find_trtexec(places: Sequence[str] = TRTEXEC_PLACES) -> str | None:
    """Its path: the one in PATH, or where JetPack puts it."""
    found = shutil.which("trtexec")
    return found or next((path for path in places if os.access(path, os.X_OK)), None)


def version_text(version: Version) -> str:
    return ".".join(str(part) for part in version)


def parse_version(text: str) -> Version | None:
    """(10, 3, 0) of '10.3.0' or '10.3.0.30'; None for what is no version."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2)), int(found.group(3))) if found else None


def banner_version(output: str) -> Version | None:
    """The version in trtexec's first line: (8, 5, 3) of '[TensorRT v8503]', (10, 3, 0) of '[TensorRT v100300]'.

    Source: NV_TENSORRT_VERSION in NvInferVersion.h, major * 1000 up to 8 and major * 10000 from 10 on.
    """
    found = re.search(r"\[TensorRT v(\d{4,7})\]", output)
    if found is None:
        return None
    number = int(found.group(1))
    major = 1000 if number < 10_000 else 10_000
    return number // major, number % major // 100, number % 100


def trtexec_version(trtexec: str) -> Version:
    """As it says itself. Raises DeviceError when it does not start or says none."""
    try:
        ended = subprocess.run(
            [trtexec, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=VERSION_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{trtexec} does not start ({error}). Install TensorRT again: {INSTALL_TENSORRT}") from None
    output = ended.stdout.decode("utf-8", "replace")
    version = banner_version(output)
    if version is None:
        raise DeviceError(
            f"{trtexec} does not say its version ({tail_of(output)}). Install TensorRT again: {INSTALL_TENSORRT}"
        )
    return version


def require_known(version: Version, recipe: EngineRecipe) -> None:
    """Raises DeviceError for a version that cannot build such an engine."""
    if version < OLDEST_TENSORRT:
        raise DeviceError(
            f"TensorRT {version_text(version)} is older than {version_text(OLDEST_TENSORRT)}, the oldest that bundles "
            "are made for. Update JetPack, or export for --runtime onnxruntime."
        )
    if version >= TYPED_BY_GRAPH_SINCE and recipe.precision == "fp16":
        raise DeviceError(
            f"TensorRT {version_text(version)} takes its precisions from the graph alone, and this bundle asks for "
            "fp16 by an option. Export with --precision int8-static or fp32, or use TensorRT 10."
        )


def build_words(
    trtexec: str, version: Version, recipe: EngineRecipe, model: str, engine: str, timing_cache: str
) -> list[str]:
    """The command that builds `engine` and runs nothing, in this version's options. Raises as require_known does."""
    require_known(version, recipe)
    words = [trtexec, f"--onnx={model}", f"--saveEngine={engine}", f"--timingCacheFile={timing_cache}"]
    words.append(f"--memPoolSize=workspace:{WORKSPACE_MIB}")  # MiB without a suffix, in all of them
    words.append("--skipInference" if version >= SKIP_INFERENCE_SINCE else "--buildOnly")
    if version >= OPTIMIZATION_LEVEL_SINCE:
        words.append(f"--builderOptimizationLevel={OPTIMIZATION_LEVEL}")
    if version < TYPED_BY_GRAPH_SINCE:
        words += {"fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}.get(recipe.precision, [])
        if recipe.float32_layers:
            words.append("--precisionConstraints=obey")
            words.append("--layerPrecisions=" + ",".join(f"{name}:fp32" for name in recipe.float32_layers))
    return words


def run_trtexec(
    words: Sequence[str],
    timeout_s: float,
    tell: Callable[[float, float], object] = lambda seconds, limit_s: None,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """What it wrote. tell: is told the seconds since the start and timeout_s, once a second.

    It and its children end with this call, however that ends. Raises EdgevitError with trtexec's own last words.
    """
    began = clock()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(words), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise DeviceError(f"{words[0]} does not start ({error.strerror}).") from None
        try:
            while True:
                try:
                    code = process.wait(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    seconds = clock() - began
                    if seconds >= timeout_s:
                        raise EdgevitError(overdue_words(timeout_s)) from None
                    tell(seconds, timeout_s)
        finally:
            _end_group(process)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    if code != 0:
        raise EdgevitError(failure_words(code, text))
    return text


def failure_words(code: int, output: str) -> str:
    """Why trtexec ended with `code`, in its own words. code: negative when a signal killed it."""
    if code < 0:
        cause = " (9: probably out of memory; close other programs or add swap)" if code == -signal.SIGKILL else ""
        return f"trtexec was killed by signal {-code}{cause}. Its last words: {tail_of(output)}"
    return f"trtexec ended with code {code}: {tail_of(output)}"


def tail_of(output: str) -> str:
    """The last errors in trtexec's output, else its last lines; without their times, in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line]
    # the banner at the end says FAILED and the command, which tells nothing
    kept = (errors or [line for line in lines if not line.startswith("&&&&")])[-ERROR_LINES:]
    plain = [re.sub(r"^\[[^\]]*\] \[[A-Z]\] ", "", line) for line in kept]
    return (" | ".join(plain) or "it said nothing")[-ERROR_CHARACTERS:]


def overdue_words(timeout_s: float) -> str:
    return f"The engine was not built within {timeout_s:.0f} s. Give it longer with: agent.py build --timeout SECONDS"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started; nothing once it was waited for, when its group may be another's."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
