"""Measures a bundle on a board: connect, look, decide, copy, prepare, run, believe or refuse the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from edgevit.artifact import BundleFile
from edgevit.bench.samples import follows_from_samples
from edgevit.benchreport import DOCUMENT_KIND, BenchDocument, BenchReport, BenchSweep
from edgevit.board.engines import BUILD_SECONDS
from edgevit.board.options import BenchOptions
from edgevit.board.sweep import sweep_document
from edgevit.bundle import AGENT, MANIFEST, Bundle
from edgevit.catalog import list_devices, load_device
from edgevit.device import Device
from edgevit.errors import DeviceError, EdgevitError, InputError, MeasurementError, error_by_code
from edgevit.machine.localdevice import LOCAL
from edgevit.machine.wheels import RUNTIME_PACKAGES
from edgevit.progress import Progress
from edgevit.remote.complaints import printable, quoted
from edgevit.remote.connection import Cancellation, Connection, SshOptions, connect
from edgevit.remote.environment import NUMPY, Plan, WheelSource, plan_environment
from edgevit.remote.errands import AgentEnd, Content, look, run_agent, unpack, upload
from edgevit.remote.fitness import judge_fitness
from edgevit.remote.host import Host
from edgevit.store import sha256_file

# starting Python, importing the runtime and loading a large model from an SD card
OVERHEAD_SECONDS = 300.0
# Building an engine on the board first, as long as its agent gives it.
BUILDING_SECONDS = {"tensorrt": BUILD_SECONDS}
MEASURED = (0, MeasurementError.exit_code)
# Those that every agent has; one of an old bundle has no others.
OLDEST_OPTIONS = frozenset({"--min-seconds", "--min-runs", "--threads"})


@dataclass(frozen=True)
class RemoteOptions:
    """How a board is reached and how it measures."""

    ssh: SshOptions = field(default_factory=SshOptions)
    wheels: WheelSource = field(default_factory=WheelSource)
    bench: BenchOptions = field(default_factory=BenchOptions)


def bench_on_board(
    host: Host,
    bundle: Bundle,
    options: RemoteOptions,
    progress: Progress,
    cancellation: Cancellation | None = None,
) -> BenchDocument:
    """The report or sweep of a bundle on a board; look at its is_valid. Its notes say what the board is and is not.

    What was copied stays in ~/.cache/edgevit there, and nothing else. Raises DeviceError when the board is unreachable
    or unfit, MeasurementError when it did not finish, InputError and ParityError as the agent there does.
    """
    if AGENT not in bundle.manifest.files:
        raise InputError(f"{bundle.path}: has no {AGENT}, which runs on boards. Export the bundle again.")
    check_agent(bundle, options.bench)
    progress.stage(f"Connecting to {host}")
    with connect(host, options.ssh, cancellation) as connection:
        progress.stage(f"Looking at {host}")
        runtime = bundle.manifest.runtime.name
        facts = look(connection, [NUMPY, RUNTIME_PACKAGES.get(runtime, runtime)])
        fitness = judge_fitness(host, bundle.manifest.device, _profile(bundle), facts)
        try:
            plan = plan_environment(facts, bundle, options.wheels, progress.note)
        except DeviceError as error:
            raise DeviceError(f"{host}: {error}") from None
        progress.stage(f"Copying to {host}")
        files = bundle_files(bundle)
        contents = [Content(bundle.path / name, file) for name, file in files.items()]
        upload(connection, contents, progress.update)
        site = ""
        if plan.key:
            progress.stage(f"Preparing Python on {host}")
            site = _prepare(connection, plan, progress)
        progress.stage(f"Measuring on {host}")
        limit_s = options.bench.longest_s + OVERHEAD_SECONDS + BUILDING_SECONDS.get(runtime, 0.0)
        ended = run_agent(connection, files, site, options.bench.words(), limit_s, progress.update)
    document = believe(host, bundle, ended)

    def named(report: BenchReport) -> BenchReport:
        emulated = ("The board is emulated: this is no board's latency.",) if report.machine.is_emulated else ()
        is_target = fitness.is_target and not report.machine.is_emulated
        notes = (*report.notes, *fitness.notes, *emulated, *plan.notes, *connection.notes)
        name = bundle.manifest.device.name if is_target else str(host)
        return report.model_copy(update={"device": name, "host": str(host), "notes": notes})

    if isinstance(document, BenchReport):
        return named(document)
    return document.model_copy(update={"reports": tuple(map(named, document.reports))})


def check_agent(bundle: Bundle, options: BenchOptions) -> None:
    """Raises InputError when the bundle's agent, which runs on the board, is older than an option that it is to have.

    edgevit runs no other agent there than the one that the manifest vouches for.
    """
    options.check()
    source = (bundle.path / AGENT).read_text(encoding="utf-8", errors="replace")
    wanted = [(word, f'"{word}"') for word in options.words() if word.startswith("--") and word not in OLDEST_OPTIONS]
    wanted += [("--threads with several numbers", "bench-sweep")] if len(options.threads) > 1 else []
    for option, trace in wanted:
        if trace not in source:
            raise InputError(
                f"{bundle.path}: its {AGENT} is older than {option}. Export the bundle again, or measure without it."
            )


def bundle_files(bundle: Bundle) -> dict[str, BundleFile]:
    """Every file of a bundle, manifest.json too, by its path in it."""
    manifest = bundle.path / MANIFEST
    own = BundleFile(sha256=sha256_file(manifest), size=manifest.stat().st_size)
    return {**bundle.manifest.files, MANIFEST: own}


def believe(host: Host, bundle: Bundle, ended: AgentEnd) -> BenchDocument:
    """The report or sweep that an agent wrote, if it can be one of this bundle. Raises what the agent ended with."""
    if ended.code not in MEASURED or not ended.document:
        raise _failure(host, ended)
    try:
        document = DOCUMENT_KIND.validate_json(ended.document)
    except (ValidationError, RecursionError):
        raise DeviceError(
            f"{host}: wrote no report that edgevit can read ({quoted(ended.said) or 'no word'})."
        ) from None
    if isinstance(document, BenchReport):
        return _believed_report(host, bundle, document)
    reports = tuple(_believed_report(host, bundle, report) for report in document.reports)
    expected = _sweep_of(reports)
    if _swept(document) != _swept(expected):
        raise DeviceError(f"{host}: the figures of its sweep do not follow from its reports.")
    return expected


def _believed_report(host: Host, bundle: Bundle, report: BenchReport) -> BenchReport:
    if not follows_from_samples(report):
        raise DeviceError(f"{host}: its figures do not follow from its samples. Is its clock or its memory broken?")
    entry = bundle.manifest.files[bundle.manifest.runtime.entry]
    if report.artifact_sha256 != entry.sha256:
        raise DeviceError(f"{host}: measured another model than the one that was sent.")
    return _cleaned(report)


def _prepare(connection: Connection, plan: Plan, progress: Progress) -> str:
    upload(connection, plan.wheels, progress.update)
    return unpack(connection, plan.key, plan.wheels, plan.imports, progress.update)


def _sweep_of(reports: Sequence[BenchReport]) -> BenchSweep:
    """The sweep of these reports, worked out here."""
    return BenchSweep.model_validate(sweep_document([report.model_dump(mode="json") for report in reports]))


def _swept(sweep: BenchSweep) -> tuple[object, ...]:
    return tuple(row.threads for row in sweep.rows), sweep.best_threads, sweep.is_valid


def _profile(bundle: Bundle) -> Device | None:
    name = bundle.manifest.device.name
    return load_device(name) if name in list_devices() and name != LOCAL else None


def _failure(host: Host, ended: AgentEnd) -> EdgevitError:
    said = quoted(ended.said)
    if ended.code < 0:
        return DeviceError(
            f"{host}: the agent was killed by signal {-ended.code} "
            "(9: probably out of memory, 4: the runtime has instructions that this CPU lacks)."
        )
    return error_by_code(ended.code, said and f"{host}: {said}.") or EdgevitError(
        f"{host}: the agent ended with code {ended.code} ({said or 'no word'})."
    )


def _cleaned(report: BenchReport) -> BenchReport:
    """The report with its texts as a terminal may show them: a board's words must not steer it."""
    plain = report.model_dump(mode="json")

    def clean(value: object) -> object:
        if isinstance(value, str):
            return printable(value)[:1000]
        if isinstance(value, dict):
            return {name: clean(inner) for name, inner in value.items()}
        return [clean(inner) for inner in value] if isinstance(value, list) else value

    samples = plain.pop("samples_ms")
    cleaned = clean(plain)
    assert isinstance(cleaned, dict)
    return BenchReport.model_validate({**cleaned, "samples_ms": samples})
