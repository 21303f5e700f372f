"""The study as it is kept: several workers at once, killed ones, and databases that cannot be used."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from arithmetic_bench import ArithmeticBench
from optuna.storages._rdb.models import TrialModel
from optuna.trial import TrialState
from search_process import GRACE_S, HEARTBEAT_S, IDENTITY, NAME, search_with

import edgevit
from edgevit.errors import EdgevitError, InputError
from edgevit.policy import Policy
from edgevit.search.records import lost_trials, read_trials, trial_of
from edgevit.search.study import SPACES, opened_study, shown, stored_spaces
from edgevit.search.trials import canonical
from edgevit.search.worker import run_search

WORKER = Path(__file__).with_name("search_process.py")


def _start(url: str, trials: int, seed: int, pause_s: float = 0.0) -> subprocess.Popen[str]:
    words = [sys.executable, WORKER, url, str(trials), str(seed), str(pause_s)]
    root = Path(edgevit.__file__).parents[1]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def test_two_workers_on_one_file_never_run_the_same_policy(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    workers = [_start(url, 12, seed=0), _start(url, 12, seed=0)]  # the same seed: they want the same
    built: list[list[str]] = []
    for worker in workers:
        out, err = worker.communicate(timeout=300)
        assert worker.returncode == 0, err
        built.append(out.splitlines())
    everything = built[0] + built[1]
    assert len(set(everything)) == len(everything)
    assert len(everything) >= 12
    with opened_study(url, NAME, IDENTITY) as study:
        trials = read_trials(study)
    ran = [canonical(trial.policy) for trial in trials if trial.was_run]
    assert sorted(ran) == sorted(everything)


def test_a_waiting_trial_is_taken_by_one_worker_only(tmp_path, monkeypatch):
    url, together = f"sqlite:///{tmp_path}/study.db", threading.Barrier(2)
    find = TrialModel.find_or_raise_by_id.__func__

    def find_together(cls, trial_id, session, for_update=False):
        found = find(cls, trial_id, session, for_update)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(1.0)  # both have seen it waiting, unless one locks the other out
        return found

    with opened_study(url, NAME, IDENTITY) as one, opened_study(url, NAME, IDENTITY) as other:
        one.enqueue_trial({})
        (waiting,) = one.get_trials()
        monkeypatch.setattr(TrialModel, "find_or_raise_by_id", classmethod(find_together))
        with ThreadPoolExecutor(2) as pool:
            taken = [
                pool.submit(study._storage.set_trial_state_values, waiting._trial_id, TrialState.RUNNING)
                for study in (one, other)
            ]
            assert sorted(each.result() for each in taken) == [False, True]


def test_a_killed_worker_loses_its_running_trial_and_nothing_else(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    worker = _start(url, 100, seed=0, pause_s=0.2)
    assert worker.stdout
    begun = [worker.stdout.readline() for _ in range(4)]  # three ended before the fourth began
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=300)
    with opened_study(url, NAME, IDENTITY, HEARTBEAT_S, GRACE_S) as study:
        kept = read_trials(study)
        assert len(kept) >= 3
        waiting = [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
        running = [trial for trial in waiting if trial_of(trial) is None]  # killed before it was told, one is whole
        assert len(running) <= 1
        _wait_for_the_grace_period()
        trials = run_search(study, search_with(ArithmeticBench(pictures=200), trials=20, seed=0))
        assert trials[: len(kept)] == kept
        assert lost_trials(study) == len(running)
        assert not [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
    ran = [canonical(trial.policy) for trial in trials if trial.was_run]
    assert len(set(ran)) == len(ran) == 20
    assert {line.strip() for line in begun} <= set(ran)  # the one that was lost is a seed, and was asked for again


def _wait_for_the_grace_period() -> None:
    """The database compares its own clock with the last heartbeat: there is none to inject."""
    time.sleep(GRACE_S + HEARTBEAT_S + 0.5)


def test_a_study_of_something_else_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    with opened_study(url, NAME, {"model": "a", "data": "digits"}):
        pass
    with opened_study(url, NAME, {"model": "a", "data": "digits"}) as study:
        assert study.study_name == NAME
    with (
        pytest.raises(InputError, match=r"the search 'search' there has another data and model\. Choose another fol"),
        opened_study(url, NAME, {"model": "b", "data": "pets"}),
    ):
        pass


@pytest.mark.parametrize(
    ("storage", "reason"),
    [
        ("study.db", "Could not parse"),
        ("sqlite:////nowhere/at/all/study.db", "unable to open database file"),
        ("oddbase://host/name", "oddbase"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(storage, reason):
    with pytest.raises(InputError, match=reason) as refused, opened_study(storage, NAME, {}):
        pass
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(f"{storage}: cannot be used as the search's database: ")


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    path = tmp_path / "study.db"
    path.write_bytes(b"not a database, and long enough to have a header of one" * 4)
    with pytest.raises(InputError, match="file is not a database"), opened_study(f"sqlite:///{path}", NAME, {}):
        pass


def test_a_password_is_not_shown():
    assert shown("postgresql://me:secret@host/studies") == "postgresql://me:***@host/studies"


@pytest.mark.parametrize("problem", ["attempt to write a readonly database", "database or disk is full"])
def test_a_database_that_fails_in_the_middle_is_one_line_and_keeps_what_it_had(tmp_path, problem):
    url = f"sqlite:///{tmp_path}/study.db"
    bench = ArithmeticBench(pictures=200)
    with opened_study(url, NAME, IDENTITY) as study:
        run_search(study, search_with(bench, trials=3, seed=0))
    with pytest.raises(EdgevitError) as ended, opened_study(url, NAME, IDENTITY) as study:
        run_search(_broken(study, problem), search_with(bench, trials=20, seed=0))
    assert str(ended.value).startswith(f"{url}: the search's database failed: {problem}. What it held until then is ")
    assert "\n" not in str(ended.value)
    assert ended.value.exit_code == 1
    with opened_study(url, NAME, IDENTITY) as study:
        assert len(read_trials(study)) == 3
        assert len(run_search(study, search_with(bench, trials=5, seed=0))) == 5


def test_a_database_that_fails_while_a_trial_is_written_is_one_line(tmp_path):
    """Optuna answers the failure to write how the trial ended with an AssertionError of its own."""
    url = f"sqlite:///{tmp_path}/study.db"

    class Breaking(ArithmeticBench):
        def cost(self, policy: Policy) -> float:
            if len(self.built) == 3:
                _broken(study, "database or disk is full")
            return super().cost(policy)

    words = "database failed: database or disk is full"
    with pytest.raises(EdgevitError, match=words), opened_study(url, NAME, IDENTITY) as study:
        run_search(study, search_with(Breaking(pictures=200), trials=20, seed=0))
    with opened_study(url, NAME, IDENTITY) as study:
        assert len(read_trials(study)) == 2


def _broken(study: optuna.Study, problem: str) -> optuna.Study:
    """The same, of which each statement that writes now fails as SQLite fails."""

    def refuse(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE"):
            raise sqlite3.OperationalError(problem)

    engine = study._storage._backend.engine  # type: ignore[attr-defined]
    sqlalchemy.event.listen(engine, "before_cursor_execute", refuse)
    return study


def test_a_heartbeat_that_cannot_be_written_ends_no_thread_in_a_traceback(tmp_path):
    with opened_study(f"sqlite:///{tmp_path}/study.db", NAME, IDENTITY) as study:
        with pytest.warns(UserWarning, match="Heartbeat"):
            trial = study.ask()
        _broken(study, "database is locked")
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


def test_an_error_of_the_search_itself_is_not_blamed_on_the_database(tmp_path):
    with pytest.raises(ZeroDivisionError), opened_study(f"sqlite:///{tmp_path}/study.db", NAME, IDENTITY):
        raise ZeroDivisionError


def test_the_spaces_of_the_same_search_are_found_again_and_of_another_not(tmp_path):
    url, spaces = f"sqlite:///{tmp_path}/study.db", {"": {"image_sizes": [224]}}
    assert stored_spaces(url, NAME, {"data": "digits"}) is None
    with opened_study(url, NAME, {"data": "digits", "sizes": (64, 32), SPACES: spaces}):
        pass
    assert stored_spaces(url, NAME, {"data": "digits", "sizes": (64, 32)}) == spaces
    assert stored_spaces(url, NAME, {"data": "pets", "sizes": (64, 32)}) is None
    assert stored_spaces(url, "another name", {"data": "digits", "sizes": (64, 32)}) is None
