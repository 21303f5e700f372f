from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.device import Caches
from edgevit.errors import DeviceError
from edgevit.machine import localdevice
from edgevit.machine.localdevice import MachineFacts, choose_preset, device_from, local_device, read_machine

CAPTURES = Path(__file__).parent / "captures"


def facts(name: str, machine: str, cores: int = 4, **changes) -> MachineFacts:
    return replace(
        MachineFacts(
            cpuinfo=(CAPTURES / f"{name}.txt").read_text(encoding="utf-8"),
            machine=machine,
            cores=cores,
            ram_mib=4096,
            caches=Caches(l1d_kib=32),
            os_name="Debian GNU/Linux 12 (bookworm), kernel 6.6.31",
            glibc="2.36",
            python="3.11",
        ),
        **changes,
    )


def test_a_raspberry_pi_5_gets_signed_int8_and_lets_the_model_decide():
    device = device_from(facts("raspberry-pi-5", "aarch64", max_mhz=(2400,) * 4))

    assert device.title == "This machine: Raspberry Pi 5 Model B Rev 1.0"
    assert (device.arch, device.threads, device.sensors) == ("aarch64", 4, "raspberry-pi")
    assert device.cpu.clusters[0].clock_mhz == 2400
    assert device.toolchain is not None
    assert device.toolchain.triple == "aarch64-linux-gnu"
    preset = device.quantization
    assert (preset.precision, preset.activation, preset.weight, preset.reduce_range) == ("auto", "int8", "int8", False)


def test_a_raspberry_pi_4_ships_fp32_and_says_why():
    preset = device_from(facts("raspberry-pi-4", "aarch64")).quantization

    assert preset.precision == "fp32"
    assert "Without dot-product instructions" in preset.why


def test_a_jetson_is_known_by_its_kernel():
    device = device_from(facts("jetson-nano", "aarch64", os_name="Ubuntu 18.04.6 LTS, kernel 4.9.337-tegra"))

    assert device.sensors == "jetson"
    assert device.title == "This machine: Cortex-A57"


def test_x86_without_vnni_keeps_weights_to_7_bits():
    preset = device_from(facts("xeon-haswell", "x86_64", cores=16)).quantization

    assert (preset.activation, preset.weight, preset.reduce_range) == ("uint8", "int8", True)
    assert "saturate" in preset.why


def test_x86_with_vnni_uses_all_8_bits():
    device = device_from(facts("epyc-zen4", "x86_64", cores=2, has_rapl=True))

    assert device.quantization.reduce_range is False
    assert (device.threads, device.sensors) == (2, "rapl")


def test_avx_vnni_counts_as_vnni():
    assert choose_preset("x86_64", ("avx2", "avx_vnni")).reduce_range is False


def test_threads_are_the_fast_cores_that_the_process_may_use():
    assert device_from(facts("agilex-5", "aarch64", cores=4)).threads == 2
    assert device_from(facts("raspberry-pi-5", "aarch64", cores=1)).threads == 1


def test_an_assumed_clock_is_said():
    assumed = device_from(facts("raspberry-pi-4", "aarch64")).sources[0].note
    known = device_from(facts("raspberry-pi-4", "aarch64", max_mhz=(1800,) * 4)).sources[0].note

    assert "clock could not be read and is assumed" in assumed
    assert "assumed" not in known


@pytest.mark.parametrize(("machine", "arch"), [("armv7l", "armv7"), ("armv8l", "armv7"), ("arm64", "aarch64")])
def test_other_spellings_of_an_architecture_are_known(machine, arch):
    assert device_from(facts("raspberry-pi-4", machine)).arch == arch


def test_an_architecture_that_is_no_target_is_refused():
    with pytest.raises(DeviceError, match=r"architecture 'riscv64' is no target\. Name a board: --device rpi5"):
        device_from(facts("raspberry-pi-4", "riscv64"))


@pytest.mark.parametrize("glibc", ["", "1.2.5-musl"])
def test_a_machine_without_glibc_is_refused(glibc):
    with pytest.raises(DeviceError, match="'local' needs Linux with glibc, which this machine lacks"):
        device_from(facts("epyc-zen4", "x86_64", glibc=glibc))


def test_this_machine_is_a_valid_device():
    device = local_device()

    assert device.name == "local"
    assert 1 <= device.threads <= device.cpu.cores
    assert device.memory.ram_mib > 64


def test_the_machine_is_read_from_the_kernel():
    found = read_machine()

    assert found.cpuinfo.startswith("processor")
    assert found.cores >= 1
    assert "kernel" in found.os_name


def test_clocks_and_caches_are_read_from_sys(tmp_path):
    for cpu, khz, l1, l2 in (("cpu0", "1800000", "32K", "128K"), ("cpu10", "2400000", "64K", "512K")):
        (tmp_path / cpu / "cpufreq").mkdir(parents=True)
        (tmp_path / cpu / "cpufreq" / "cpuinfo_max_freq").write_text(f"{khz}\n")
        rows = (("1", "Data", l1), ("1", "Instruction", "99K"), ("2", "Unified", l2), ("3", "Unified", "0K"))
        for index, values in enumerate(rows):
            folder = tmp_path / cpu / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, value in zip(("level", "type", "size"), values, strict=True):
                (folder / name).write_text(f"{value}\n")

    assert localdevice._read_clocks(tmp_path) == (1800, 2400)
    assert localdevice._read_caches(tmp_path) == Caches(l1d_kib=64, l2_kib=512)


def test_a_kernel_that_shows_nothing_gives_no_clocks_and_no_caches(tmp_path):
    (tmp_path / "cpu0").mkdir()

    assert localdevice._read_clocks(tmp_path) == ()
    assert localdevice._read_caches(tmp_path) == Caches()


def test_a_system_without_os_release_is_named_by_its_kernel(monkeypatch):
    def missing():
        raise OSError

    monkeypatch.setattr("platform.freedesktop_os_release", missing)

    assert localdevice._os_name().startswith("Linux, kernel ")
