from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevit.errors import BadFileError, InputError
from edgevit.remote.inventory import all_hosts, read_inventory

# What 'ansible-inventory --list' prints for two hosts in a group.
# Source: Ansible documentation, "ansible-inventory", and "Developing dynamic inventory", tuning the external script.
ANSIBLE = {
    "_meta": {"hostvars": {"pi-1": {"ansible_host": "192.168.1.11", "ansible_user": "pi"}, "pi-2": {"note": 1}}},
    "all": {"children": ["ungrouped", "boards"]},
    "boards": {"hosts": ["pi-1", "pi-2"]},
}


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_yaml_file_lists_hosts(tmp_path: Path) -> None:
    path = written(tmp_path, "hosts.yaml", "hosts:\n  - pi@pi-1\n  - board-2\n")
    assert [str(host) for host in read_inventory(path)] == ["pi@pi-1", "board-2"]


def test_what_ansible_prints_lists_hosts(tmp_path: Path) -> None:
    path = written(tmp_path, "hosts.json", json.dumps(ANSIBLE))
    assert [str(host) for host in read_inventory(path)] == ["pi@192.168.1.11", "pi-2"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("h.yaml", "hosts: []\n", "at least 1"),
        ("h.yaml", "host: [a]\n", "unknown key 'host'. Did you mean 'hosts'?"),
        ("h.yaml", "hosts: [-oProxyCommand=x]\n", "begins with '-'"),
        ("h.json", "{", "is not JSON"),
        ("h.json", "[" * 100_000, "is not JSON"),
        ("h.json", "[]", "is not a JSON object"),
        ("h.json", '{"all": {}}', "is not what 'ansible-inventory --list' prints"),
        ("h.json", '{"_meta": {"hostvars": 3}}', "is not what 'ansible-inventory --list' prints"),
        ("h.json", '{"_meta": {"hostvars": {}}, "all": {"hosts": [1, null]}}', "is not what 'ansible-inventory"),
        ("h.json", '{"_meta": {"hostvars": {}}, "all": {"hosts": "pi"}}', "is not what 'ansible-inventory"),
        ("h.json", '{"_meta": {"hostvars": {}}}', "has no hosts"),
        ("h.json", '{"_meta": {"hostvars": {"a": {"ansible_port": 2222}}}}', "has port 2222"),
        ("h.json", '{"_meta": {"hostvars": {"a": {"ansible_host": "a; reboot"}}}}', "no plain host name"),
        ("h.json", " " * (4 * 1024 * 1024 + 1), "is larger than 4 MiB"),
        ("h.json", json.dumps({"_meta": {"hostvars": {f"h{i}": {} for i in range(1001)}}}), "1000 are the most"),
    ],
)
def test_what_cannot_be_an_inventory_is_refused_by_name(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(BadFileError) as refusal:
        read_inventory(written(tmp_path, name, text))
    assert words in str(refusal.value)
    assert str(refusal.value).startswith(str(tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"hosts\.json: cannot be read: No such file"):
        read_inventory(tmp_path / "hosts.json")


def test_no_board_is_measured_twice(tmp_path: Path) -> None:
    path = written(tmp_path, "hosts.yaml", "hosts: [b, c]\n")
    assert [str(host) for host in all_hosts(["a"], path)] == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"^b: is named twice"):
        all_hosts(["b"], path)
