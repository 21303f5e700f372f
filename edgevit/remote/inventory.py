"""Inventory: the boards of a fleet, from a YAML file of edgevit's own or from what ansible-inventory prints as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from edgevit.errors import BadFileError, InputError
from edgevit.remote.host import Host, parse_host
from edgevit.schema import Record
from edgevit.units import MIB
from edgevit.yamlfile import read_yaml

MAX_BYTES = 4 * MIB
MAX_HOSTS = 1000
DEFAULT_PORT = 22


class HostsFile(Record):
    """hosts.yaml: `hosts:` and a list of user@board, each as for --host."""

    hosts: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_HOSTS)]


def read_inventory(path: Path) -> tuple[Host, ...]:
    """The hosts in a file, in its order. A name that ends in .json is read as ansible-inventory --list writes it.

    Raises BadFileError with the entry that cannot be a host.
    """
    texts = _ansible_hosts(path) if path.suffix.lower() == ".json" else read_yaml(path, HostsFile).hosts
    hosts = []
    for text in texts:
        try:
            hosts.append(parse_host(text))
        except InputError as error:
            raise BadFileError(path, str(error), where="hosts") from None
    return tuple(hosts)


def all_hosts(named: Iterable[str], inventory: Path | None) -> tuple[Host, ...]:
    """Those of --host and then those of --inventory. Raises InputError when one is named twice."""
    hosts = [parse_host(text) for text in named]
    hosts += read_inventory(inventory) if inventory else ()
    for index, host in enumerate(hosts):
        if host in hosts[:index]:
            raise InputError(f"{host}: is named twice.")
    return tuple(hosts)


def _ansible_hosts(path: Path) -> list[str]:
    """user@address of each host. Source: Ansible, "Developing dynamic inventory", and its connection variables."""
    document = _read_json(path)
    try:
        variables = dict(document["_meta"]["hostvars"])
        listed = [name for group in document.values() for name in _names(dict(group).get("hosts", []))]
    except (KeyError, TypeError, ValueError):
        problem = "is not what 'ansible-inventory --list' prints."
        raise BadFileError(path, problem, fix="Write it with: ansible-inventory --list > hosts.json") from None
    names = list(dict.fromkeys([*listed, *variables]))
    if not names:
        raise BadFileError(path, "has no hosts.")
    if len(names) > MAX_HOSTS:
        raise BadFileError(path, f"has {len(names)} hosts; {MAX_HOSTS} are the most.")
    return [_destination(path, name, variables.get(name)) for name in names]


def _names(hosts: Any) -> list[str]:
    """A group's hosts. Raises TypeError for what is no list of names: `[1, null]`, or one name as a text."""
    if not isinstance(hosts, list) or not all(isinstance(name, str) for name in hosts):
        raise TypeError("hosts")
    return hosts


def _destination(path: Path, name: str, variables: Any) -> str:
    known = variables if isinstance(variables, dict) else {}
    port = known.get("ansible_port", known.get("ansible_ssh_port", DEFAULT_PORT))
    if str(port) != str(DEFAULT_PORT):
        fix = "Name the port in ~/.ssh/config (Host, HostName, Port), and drop it here."
        raise BadFileError(path, f"has port {port!r}.", where=f"{name[:80]!r}", fix=fix)
    address = known.get("ansible_host", known.get("ansible_ssh_host", name))
    user = known.get("ansible_user", known.get("ansible_ssh_user"))
    return f"{user}@{address}" if user else str(address)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadFileError(path, f"cannot be read: {error.strerror}.") from None
    if len(content) > MAX_BYTES:
        raise BadFileError(path, f"is larger than {MAX_BYTES // MIB} MiB; that is no inventory.")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise BadFileError(path, "is not JSON.") from None
    if not isinstance(document, dict):
        raise BadFileError(path, "is not a JSON object.")
    return document
