"""Where a board's packages come from: its own, or wheels that are copied and unpacked there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from digits_shop import Told
from host_board import HostBoard, running_board
from installed_wheels import pack_wheels

from edgevit.artifact import BundleFile
from edgevit.board.amalgamate import agent_source
from edgevit.board.options import BenchOptions
from edgevit.bundle import Bundle, load_bundle
from edgevit.errors import DeviceError, InputError
from edgevit.remote.bench import RemoteOptions, bench_on_board
from edgevit.remote.connection import SshOptions, connect
from edgevit.remote.environment import Plan, WheelSource, plan_environment, read_requirements
from edgevit.remote.errands import BoardFacts, Content, unpack, upload
from edgevit.remote.host import parse_host
from edgevit.remote.wheelhouse import WheelTarget, find_wheels, platform_tags
from edgevit.store import sha256_file

BOARD = parse_host("board")
BARE_PYTHON = (getattr(sys, "_base_executable", sys.executable), "-S")
PI5 = WheelTarget("3.11", "aarch64", "2.36")
MakeBundle = Callable[..., Path]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ONNX Runtime and all that it needs, for this machine's Python."""
    folder = tmp_path_factory.mktemp("wheels")
    pack_wheels(folder, "onnxruntime", "numpy")
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostBoard]:
    """A board whose Python has its standard library only."""
    with running_board(tmp_path_factory.mktemp("bare"), BARE_PYTHON) as running:
        yield running


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Bundle:
    return load_bundle(make_bundle(agent=agent_source("onnxruntime")))


def facts(**changes: object) -> BoardFacts:
    values = {
        "python": "3.11.2", "implementation": "CPython", "machine": "aarch64", "system": "Linux", "glibc": "2.36",
        "cpuinfo": "", "packages": {}, "free_bytes": 10**9, "cache": "/home/pi/.cache/edgevit/board", **changes,
    }  # fmt: skip
    return BoardFacts.model_validate(values)


def test_a_bare_board_measures_with_wheels_and_reuses_them(bare: HostBoard, bundle: Bundle, wheels: Path) -> None:
    options = RemoteOptions(ssh=SshOptions(bare.config), wheels=WheelSource(wheels), bench=BenchOptions(min_seconds=0))
    first, second = Told(), Told()
    report = bench_on_board(BOARD, bundle, options, first)
    assert report.latency_ms.runs >= 64
    assert "Preparing Python on board" in first.stages
    (environment,) = (bare.cache / "environments").iterdir()
    assert (environment / "onnxruntime" / "__init__.py").exists()
    assert bench_on_board(BOARD, bundle, options, second).runtime_version == report.runtime_version
    assert not [update for update in second.updates if update[2] == "KiB"]
    names = {path.name for path in bare.home.iterdir()} | {path.name for path in bare.cache.iterdir()}
    assert names == {".cache", "objects", "environments", "work"}


def test_a_connection_cut_while_python_is_prepared_leaves_nothing(tmp_path: Path, bundle: Bundle, wheels: Path) -> None:
    from cable import cable_to
    from host_board import write_known_hosts

    class Cutting(Told):
        def update(self, done: int, total: int, detail: str = "") -> None:
            if self.stages[-1].startswith("Preparing") and detail.endswith(".whl"):
                cable.cut()

    with running_board(tmp_path / "bare", BARE_PYTHON) as board, cable_to(board.port) as cable:
        write_known_hosts(tmp_path / "known", cable.port, board.folder / "host_key.pub")
        config = board.config_with(tmp_path / "config", f"UserKnownHostsFile {tmp_path / 'known'}", port=cable.port)
        options = RemoteOptions(ssh=SshOptions(config), wheels=WheelSource(wheels), bench=BenchOptions(min_seconds=0))
        with pytest.raises(DeviceError, match="the connection was lost while preparing Python"):
            bench_on_board(BOARD, bundle, options, Cutting())
        options = replace(options, ssh=SshOptions(board.config))
        assert bench_on_board(BOARD, bundle, options, Told()).latency_ms.runs >= 64
        assert [path.name for path in (board.cache / "work").iterdir()] == [".lock"]


def test_a_folder_without_the_wheel_is_refused_before_anything_is_copied(
    bare: HostBoard, bundle: Bundle, wheels: Path, tmp_path: Path
) -> None:
    for path in wheels.glob("[!o]*.whl"):
        (tmp_path / path.name).hardlink_to(path)
    options = RemoteOptions(
        ssh=SshOptions(bare.config), wheels=WheelSource(tmp_path), bench=BenchOptions(min_seconds=0)
    )
    told = Told()
    with pytest.raises(DeviceError, match=r"^board: .* has no wheel of onnxruntime for Python 3.* Nothing was copied"):
        bench_on_board(BOARD, bundle, options, told)
    assert not [title for title in told.stages if title.startswith("Copying")]


def test_wheels_that_cannot_be_imported_are_no_environment(bare: HostBoard, tmp_path: Path) -> None:
    wheel = tmp_path / "broken-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("broken.py", "import no_such_module")
    with pytest.raises(DeviceError, match=r"cannot be imported.*no_such_module"):
        unpacked(bare, wheel, "broken")
    assert not (bare.cache / "environments" / "key-of-broken").exists()


@pytest.mark.parametrize("name", ["../outside.py", "/tmp/outside.py", "a/../../outside.py", "a//b.py", "."])
def test_a_wheel_cannot_write_outside_of_its_folder(bare: HostBoard, tmp_path: Path, name: str) -> None:
    wheel = tmp_path / "hostile-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, "x = 1")
    with pytest.raises(DeviceError, match="is no plain name"):
        unpacked(bare, wheel, "hostile")
    assert not list(bare.cache.rglob("outside.py"))


def unpacked(board: HostBoard, wheel: Path, module: str) -> str:
    content = Content(wheel, BundleFile(sha256=sha256_file(wheel), size=wheel.stat().st_size))
    with connect(BOARD, SshOptions(board.config)) as connection:
        upload(connection, [content], lambda done, total, text: None)
        return unpack(connection, f"key-of-{module}", [content], [module], lambda done, total, text: None)


# decided without a board


def test_a_runtime_that_is_there_in_the_pinned_version_is_used(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]
) -> None:
    bundle = pinned_bundle(make_bundle, sign_bundle, "onnxruntime==1.23.2\nnumpy==2.2.6\n")
    own = facts(packages={"onnxruntime": "1.23.2", "numpy": "1.26.4"})
    assert plan_environment(own, bundle, WheelSource()).wheels == ()
    assert plan_environment(own, bundle, WheelSource()).notes == ()


def test_jetpacks_python_38_has_no_wheel_and_is_told_so_before_a_copy(bundle: Bundle) -> None:
    board = facts(python="3.8.10", glibc="2.26")
    with pytest.raises(DeviceError, match=r"onnxruntime has no wheel for Python 3\.8 with glibc 2\.26 on aarch64"):
        plan_environment(board, bundle, WheelSource())


def test_where_no_wheel_exists_the_boards_own_runtime_serves_and_is_noted(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]
) -> None:
    bundle = pinned_bundle(make_bundle, sign_bundle, "onnxruntime==1.31.1\nnumpy==2.4.6\n")
    own = facts(python="3.8.10", glibc="2.26", packages={"onnxruntime": "1.16.0", "numpy": "1.19.4"})
    (note,) = plan_environment(own, bundle, WheelSource()).notes
    assert note.startswith("The board's own onnxruntime 1.16.0 was used: onnxruntime has no wheel for Python 3.8")


def test_tensorrt_is_the_boards_own_and_nothing_is_copied(
    make_bundle: MakeBundle, sign_bundle: Callable[[Path], None]
) -> None:
    spec = {"name": "tensorrt", "version": "10.3", "entry": "model.onnx", "session": {}}
    bundle = load_bundle(make_bundle("trt", agent=agent_source("tensorrt"), runtime=spec))
    jetson = facts(python="3.10.12", glibc="2.35", packages={"tensorrt": "10.3.0", "numpy": "1.21.5"})
    assert plan_environment(jetson, bundle, WheelSource()) == Plan()
    with pytest.raises(DeviceError, match=r"has no numpy\. Install it there: sudo apt install python3-numpy"):
        plan_environment(facts(packages={"tensorrt": "10.3.0"}), bundle, WheelSource())


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"glibc": None}, "its C library is not glibc"), ({"implementation": "PyPy"}, "its Python is PyPy")],
)
def test_boards_without_wheels_of_any_kind_are_told_why(bundle: Bundle, changes: dict[str, object], words: str) -> None:
    with pytest.raises(DeviceError, match=words):
        plan_environment(facts(**changes), bundle, WheelSource())


def test_requirements_are_those_of_the_boards_python(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text('onnxruntime==1.19.2; python_version == "3.8"\nonnxruntime==1.31.1; python_version == "3.11"\n')
    path.write_text(path.read_text() + "# a comment\n\nnumpy==1.24.4\n")
    assert read_requirements(path, "3.8") == ("onnxruntime==1.19.2", "numpy==1.24.4")
    assert read_requirements(path, "3.11") == ("onnxruntime==1.31.1", "numpy==1.24.4")


def test_tags_go_from_the_boards_glibc_down() -> None:
    tags = platform_tags(PI5)
    assert tags[0] == "manylinux_2_36_aarch64"
    assert tags.index("manylinux_2_17_aarch64") + 1 == tags.index("manylinux2014_aarch64")
    assert tags[-1] == "linux_aarch64"
    assert "manylinux_2_37_aarch64" not in tags


def answering(code: int, said: str) -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    return lambda words: subprocess.CompletedProcess(words, code, "", said)


# the last lines of pip 24 and 26, taken from real runs
NO_MATCH = (
    "ERROR: Could not find a version that satisfies the requirement onnxruntime==9.9 (from versions: 1.16.0)\n"
    "ERROR: No matching distribution found for onnxruntime==9.9\n"
)
NO_NETWORK = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': Failed to establish a new "
    "connection: [Errno -3] Temporary failure in name resolution')': /simple/numpy/\n" + NO_MATCH
)


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        (
            NO_MATCH,
            DeviceError,
            r"the package index has no wheel of onnxruntime==9\.9 for Python 3\.11 with glibc 2\.36",
        ),
        (NO_NETWORK, InputError, r"cannot be downloaded\. Go online once, or pass --wheels DIR"),
        ("python: No module named pip\n", InputError, "python3 -m ensurepip --upgrade"),
        ("ERROR: something else\n", DeviceError, "ERROR: something else"),
    ],
)
def test_what_pip_refuses_is_said_in_one_line(said: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        find_wheels(["onnxruntime==9.9"], PI5, run=answering(1, said))


def test_offline_is_kept_and_says_how_to_fill_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--offline forbids .* pip download -d DIR --only-binary=:all: .* numpy==2"):
        find_wheels(["numpy==2.4.6"], PI5, offline=True, run=answering(0, ""))
    with pytest.raises(InputError, match=r"holds no wheels\. Fill it with: pip download"):
        find_wheels(["numpy==2.4.6"], PI5, tmp_path, run=answering(0, ""))


def test_what_was_downloaded_once_is_not_downloaded_again(own_cache: Path) -> None:
    notes: list[str] = []

    def download(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        folder = Path(words[words.index("--dest") + 1])
        folder.mkdir()
        (folder / "numpy-2.4.6-cp311-cp311-manylinux_2_28_aarch64.whl").write_bytes(b"wheel")
        return subprocess.CompletedProcess(words, 0, "", "")

    (found,) = find_wheels(["numpy==2.4.6"], PI5, note=notes.append, run=download)
    assert found.read_bytes() == b"wheel"
    assert find_wheels(["numpy==2.4.6"], PI5, offline=True, run=answering(1, "not asked")) == (found,)
    assert notes == ["Downloading wheels for Python 3.11 with glibc 2.36 on aarch64: numpy==2.4.6"]
    assert [path.name for path in (own_cache / "edgevit" / "wheels").iterdir()] == [found.parent.name]


def pinned_bundle(make_bundle: MakeBundle, sign_bundle: Callable[[Path], None], pins: str) -> Bundle:
    root = make_bundle(agent=agent_source("onnxruntime"))
    (root / "requirements.txt").write_text(pins)
    sign_bundle(root)
    return load_bundle(root)
