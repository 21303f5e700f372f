"""Study: a search's trials in a database, for many workers and after any interruption."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from edgevit.errors import EdgevitError, InputError
from edgevit.search.records import read_trials
from edgevit.search.trials import Trial

IDENTITY = "searches"
SPACES = "spaces"  # key of the identity: what there is to search for each model
DIRECTIONS = (StudyDirection.MINIMIZE, StudyDirection.MINIMIZE)  # latency, points lost
HEARTBEAT_SECONDS = 10
# A trial whose worker said nothing for so long is lost: a killed process, a lost connection.
GRACE_SECONDS = 60
SQLITE_TIMEOUT_SECONDS = 60  # two workers write to one file, and each waits for the other

CONNECTION_TRIES = 5
CONNECTION_PAUSE_SECONDS = 0.5


@contextmanager
def opened_study(
    storage: str, name: str, identity: Mapping[str, Any], heartbeat_s: int = HEARTBEAT_SECONDS,
    grace_s: int = GRACE_SECONDS,
) -> Iterator[optuna.Study]:  # fmt: skip
    """The study called `name`, made when it is not there yet; its connections are closed at the end.

    storage: any database's URL that Optuna knows. identity: what is searched (model, data, spaces); in JSON.
    Raises InputError when the database cannot be used, or holds under this name a search for something else, and
    EdgevitError when it fails in the middle of the work: what was written until then stays.
    """
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)  # what is worth saying is in the trials' records
    with _translated(storage):
        database = _connect(storage, heartbeat_s, grace_s)
    if database.engine.name == "sqlite":
        _configure_sqlite(database.engine)
    try:
        with _translated(storage):
            study = _load(name, database)
            _require_same(study, _plain(identity), storage, name)
        yield study
    except Exception as error:
        failure = _database_failure(error)
        if failure is None:
            raise
        raise EdgevitError(
            f"{shown(storage)}: the search's database failed: {_reason(failure)}. What it held until then is kept. "
            "See to the disk or the server, and give the same command again to go on."
        ) from None
    finally:
        _close(database)


def stored_spaces(storage: str, name: str, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a study of the same identity searches in, by model; None where there is no such study.

    identity: without the spaces. They follow from all the rest, at the price of exporting each model. Raises as
    opened_study.
    """
    with _translated(storage):
        database = _connect(storage, HEARTBEAT_SECONDS, GRACE_SECONDS)
        try:
            known = database.get_study_user_attrs(database.get_study_id_from_name(name)).get(IDENTITY, {})
        except KeyError:
            return None
        finally:
            _close(database)
    rest = {key: value for key, value in known.items() if key != SPACES}
    spaces: dict[str, Any] | None = known.get(SPACES)
    return spaces if rest == _plain(identity) else None


def stored_trials(storage: str, name: str) -> tuple[Trial, ...]:
    """Every trial of a study that came to an end, by any worker. Raises as opened_study."""
    with _translated(storage):
        database = _connect(storage, HEARTBEAT_SECONDS, GRACE_SECONDS)
        try:
            return read_trials(optuna.load_study(study_name=name, storage=database))
        finally:
            _close(database)


def require_reachable(storage: str) -> None:
    """Raises InputError when the database cannot be used. A file that is not there yet is made."""
    with _translated(storage):
        database = _connect(storage, HEARTBEAT_SECONDS, GRACE_SECONDS)
    _close(database)


def shown(storage: str) -> str:
    """The URL without its password."""
    try:
        return sqlalchemy.engine.make_url(storage).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return storage


class _Storage(RDBStorage):
    """Optuna's own, whose heartbeats do not end in a thread's traceback: the next write says what is wrong."""

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(SQLAlchemyError, StorageInternalError):
            super().record_heartbeat(trial_id)


def _close(database: RDBStorage) -> None:
    database.remove_session()
    database.engine.dispose()


def _connect(storage: str, heartbeat_s: int, grace_s: int) -> RDBStorage:
    is_sqlite = sqlalchemy.engine.make_url(storage).get_backend_name() == "sqlite"
    options = {"connect_args": {"timeout": SQLITE_TIMEOUT_SECONDS}} if is_sqlite else {}
    for left in reversed(range(CONNECTION_TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return _Storage(storage, engine_kwargs=options, heartbeat_interval=heartbeat_s, grace_period=grace_s)
        except (SQLAlchemyError, StorageInternalError) as error:
            if not left or not _made_by_another(error):
                raise
        time.sleep(CONNECTION_PAUSE_SECONDS)
    raise AssertionError("the last try either returns or raises")


def _configure_sqlite(engine: sqlalchemy.Engine) -> None:
    """One transaction at a time, from its first look on: SQLite has no locks of rows, and two workers that look for a
    waiting trial at the same moment would both take it. Source: SQLAlchemy's documentation of pysqlite, "Serializable
    isolation / Savepoints / Transactional DDL".

    And a commit does not wait for the disk, of which a trial has thirty (28 ms each on a busy one).

    A killed process still loses nothing, a power cut the last trials at most. Where a file system has no write-ahead
    log, as shared ones, everything stays as it was. Source: SQLite's documentation, "Write-Ahead Logging".
    """

    def configure(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins and ends transactions
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError:  # locked: another worker is just doing it
            return
        if mode == "wal":
            connection.execute("PRAGMA synchronous=NORMAL")

    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(engine, "connect", configure)
    sqlalchemy.event.listen(engine, "begin", begin)
    engine.dispose()  # connections that were made before do not know it


def _made_by_another(error: Exception) -> bool:
    """Whether another worker made the tables of a new database at the same moment."""
    return isinstance(error, IntegrityError) or "already exists" in str(error)


def _load(name: str, database: RDBStorage) -> optuna.Study:
    try:
        return optuna.create_study(storage=database, study_name=name, directions=DIRECTIONS)
    except DuplicatedStudyError:
        return optuna.load_study(storage=database, study_name=name)


def _require_same(study: optuna.Study, identity: dict[str, Any], storage: str, name: str) -> None:
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        study.set_user_attr(IDENTITY, identity)
        known = study.user_attrs[IDENTITY]
    different = [key for key in sorted({*known, *identity}) if known.get(key) != identity.get(key)]
    if different:
        raise InputError(
            f"{shown(storage)}: the search '{name}' there has another {' and '.join(different)}. "
            "Choose another folder with -o, or another --storage."
        )


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from the database."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(identity)))
    return plain


@contextmanager
def _translated(storage: str) -> Iterator[None]:
    """A database's errors, as one line."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OptunaError, ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"{shown(storage)}: cannot be used as the search's database: {_reason(error)}. "
            "Choose another folder with -o, or another --storage."
        ) from None


def _database_failure(error: BaseException | None) -> BaseException | None:
    """The database's own error behind `error`; Optuna hides some behind its own, one even behind an assertion."""
    found = None
    while error is not None:
        if isinstance(error, (SQLAlchemyError, sqlite3.Error, StorageInternalError)):
            found = error
        error = error.__cause__ or error.__context__
    return found


def _reason(error: BaseException) -> str:
    """The first line of what the driver says."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
