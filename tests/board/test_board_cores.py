"""Cores by the figures that kernels give of real boards, and a process that is really held to one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.board.cores import choose_cores, core_list, core_strengths, pin_to_cores, split_cores
from edgevit.errors import InputError
from edgevit.interpreter import child_environment

Machine = Callable[[dict[str, str]], Path]
CPUS = "sys/devices/system/cpu"
# Two Cortex-A57 at 1,100 MHz and four Cortex-A53 at 850 MHz.
# Source: Linux, Documentation/devicetree/bindings/cpu/cpu-capacity.txt, example 1 (Juno)
JUNO = {0: 446.0, 1: 1024.0, 2: 1024.0, 3: 446.0, 4: 446.0, 5: 446.0}
# Cores 0-3 Cortex-A53, 4-5 Cortex-A72; highest clocks in kHz. Source: Orange Pi 4, user manual, "CPU command"
RK3399_KHZ = {0: 1416000.0, 1: 1416000.0, 2: 1416000.0, 3: 1416000.0, 4: 1800000.0, 5: 1800000.0}
ALL = range(6)

pinning = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot hold a program to cores")


def test_cores_are_split_by_whether_they_are_nearer_to_the_strongest_or_the_weakest() -> None:
    assert split_cores(JUNO) == ([1, 2], [0, 3, 4, 5])
    assert split_cores(RK3399_KHZ) == ([4, 5], [0, 1, 2, 3])
    assert split_cores({0: 250.0, 4: 870.0, 7: 1024.0}) == ([4, 7], [0])  # three kinds, as on a phone


def test_cores_that_differ_by_a_tenth_at_most_are_of_one_kind() -> None:
    assert split_cores({0: 1024.0, 1: 1024.0}) == ([0, 1], [])
    assert split_cores({0: 4700.0, 1: 5100.0}) == ([0, 1], [])  # 400 of 5,100 is 8 %
    assert split_cores({0: 4500.0, 1: 5100.0}) == ([1], [0])  # 600 is 12 %
    assert split_cores({}) == ([], [])


def test_capacities_are_read_and_clocks_where_there_are_none(machine: Machine) -> None:
    root = machine({f"{CPUS}/cpu{core}/cpufreq/cpuinfo_max_freq": f"{khz:.0f}\n" for core, khz in RK3399_KHZ.items()})
    assert core_strengths(root) == RK3399_KHZ
    root = machine({f"{CPUS}/cpu{core}/cpu_capacity": f"{value:.0f}\n" for core, value in JUNO.items()})
    assert core_strengths(root) == JUNO


def test_a_figure_of_some_cores_only_does_not_count(machine: Machine) -> None:
    root = machine({f"{CPUS}/cpu0/cpu_capacity": "1024\n", f"{CPUS}/cpu1/online": "1\n", f"{CPUS}/cpufreq/x": ""})
    assert core_strengths(root) == {}


def test_cores_are_chosen_by_name_or_number() -> None:
    assert choose_cores("big", ALL, JUNO) == [1, 2]
    assert choose_cores("little", ALL, JUNO) == [0, 3, 4, 5]
    assert choose_cores("big", [0, 1, 3], JUNO) == [1]  # 2 may not be used
    assert choose_cores("4-5,0", ALL, {}) == [0, 4, 5]


@pytest.mark.parametrize("strengths", [{}, dict.fromkeys(ALL, 1024.0)])
@pytest.mark.parametrize("asked", ["big", "little"])
def test_big_and_little_need_two_kinds_of_core(asked: str, strengths: dict[int, float]) -> None:
    with pytest.raises(InputError, match=rf"^--cores {asked}: .* Name their numbers: --cores 0-5$"):
        choose_cores(asked, ALL, strengths)


def test_a_core_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"^--cores 4-7: there is no core 6 to use here. These are: 0-5$"):
        choose_cores("4-7", ALL, {})


def test_numbers_are_written_as_they_are_read() -> None:
    assert core_list([7, 0, 5, 4, 6]) == "0,4-7"
    assert core_list([3]) == "3"
    assert core_list([]) == ""


def test_a_system_that_cannot_hold_a_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(InputError, match="--cores needs Linux"):
        pin_to_cores([0])


@pinning
def test_what_the_kernel_does_not_allow_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task: int, cores: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pytest.raises(InputError, match=r"^--cores 0: is not allowed here \(Operation not permitted\)"):
        pin_to_cores([0])


@pinning
def test_every_thread_of_onnx_runtime_stays_on_the_cores_that_the_process_is_held_to(
    make_onnx: Callable[..., Path],
) -> None:
    core = max(os.sched_getaffinity(0))
    script = f"""
import os, pathlib, threading
from edgevit.board.cores import pin_to_cores
stay = threading.Event()
threading.Thread(target=stay.wait, daemon=True).start()  # one that was there before
pin_to_cores([{core}])
from edgevit.runtimes.onnxruntime import open_session
before = len(os.listdir("/proc/self/task"))
session = open_session({str(make_onnx())!r}, 4, {{}})
tasks = list(pathlib.Path("/proc/self/task").iterdir())
lists = {{line for task in tasks for line in (task / "status").read_text().splitlines() if "Cpus_allowed_list" in line}}
print(len(tasks) - before, sorted(lists))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert ended.stdout == f"3 ['Cpus_allowed_list:\\t{core}']\n"  # four threads, of which the main one is one
