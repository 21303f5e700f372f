"""Signed bundles, by real keys: who may sign, what may not be touched, and what is said otherwise."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ended

from edgevit.board.signature import signer_of
from edgevit.bundle import load_bundle
from edgevit.errors import BadFileError, InputError

if shutil.which("ssh-keygen") is None:
    pytest.skip("ssh-keygen is missing: apt-get install openssh-client", allow_module_level=True)


def make_key(path: Path, passphrase: str = "") -> str:
    """Writes a key pair; its public half as one line."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)]
    subprocess.run(words, check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    public = make_key(tmp_path / "key")
    (tmp_path / "allowed").write_text(f'ci@factory namespaces="edgevit" {public}\n')
    return tmp_path / "key"


@pytest.fixture
def bundle(key: Path, make_bundle: Callable[..., Path], command: Callable[..., Ended]) -> Path:
    """A signed one."""
    path = make_bundle("signed")
    ended = command("sign", path, "--key", key)
    assert ended.code == 0, ended.err
    return path


def refused(bundle: Path, allowed: Path, revoked: str = "") -> str:
    with pytest.raises(BadFileError) as caught:
        signer_of(str(bundle), str(allowed), revoked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_signed_bundle_is_verified_and_is_still_a_whole_one(
    bundle: Path, tmp_path: Path, command: Callable[..., Ended]
) -> None:
    ended = command("verify", bundle, "--allowed-signers", tmp_path / "allowed")
    assert (ended.code, ended.out) == (0, "Signed by ci@factory, and all 5 files are what was signed.\n")
    ended = command("verify", bundle, "--allowed-signers", tmp_path / "allowed", "--json")
    assert (ended.document["signer"], ended.document["files"]) == ("ci@factory", 5)
    assert load_bundle(bundle).manifest.model.name == "tiny"


def test_the_next_command_is_the_one_that_verifies(
    key: Path, make_bundle: Callable[..., Path], command: Callable[..., Ended]
) -> None:
    path = make_bundle("plain")
    ended = command("sign", path, "--key", key)
    assert ended.out.splitlines()[0] == f"Signature: {path / 'manifest.json.sig'}"
    assert ended.out.splitlines()[-1] == f"Next: edgevit verify {path} --allowed-signers allowed_signers"


def test_an_unsigned_bundle_is_refused(key: Path, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    path = make_bundle("plain")
    assert refused(path, tmp_path / "allowed") == f"{path}: is not signed. Sign it with 'edgevit sign'."


def test_a_manifest_that_was_changed_since_is_refused(bundle: Path, tmp_path: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', '"tinier"'))
    assert "does not fit manifest.json: it was changed since, or is another" in refused(bundle, tmp_path / "allowed")


def test_another_file_that_was_changed_since_is_refused(
    bundle: Path, tmp_path: Path, command: Callable[..., Ended]
) -> None:
    (bundle / "labels.txt").write_text("a\nb\nc\nd\n")
    ended = command("verify", bundle, "--allowed-signers", tmp_path / "allowed")
    assert ended.code == 2
    assert "labels.txt: has" in ended.err


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("other@factory {other}", "does not allow."),
        ('ci@factory valid-before="20200101" {key}', "does not allow (line 1: key has expired)."),
        ('ci@factory valid-after="20990101" {key}', "does not allow (line 1: key is not yet valid)."),
        ('ci@factory namespaces="git" {key}', 'line 1: key is not permitted for use in signature namespace "edgevit")'),
        ("nonsense", "does not allow (line 1: missing key)."),
    ],
)
def test_a_signer_who_may_not_is_refused_with_the_reason(bundle: Path, tmp_path: Path, line: str, why: str) -> None:
    other = make_key(tmp_path / "other")
    text = line.format(key=(tmp_path / "key.pub").read_text().strip(), other=other)
    (tmp_path / "allowed").write_text(text + "\n")
    said = refused(bundle, tmp_path / "allowed")
    assert "is by the ED25519 key SHA256:" in said
    assert why in said


def test_a_revoked_key_is_refused_as_a_key_and_in_openssh_s_own_list(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", tmp_path / "krl", tmp_path / "key.pub"], check=True)
    for revoked in ("krl", "key.pub"):
        said = refused(bundle, tmp_path / "allowed", str(tmp_path / revoked))
        assert said.endswith(f"which {tmp_path / revoked} revokes.")
    make_key(tmp_path / "other")
    assert signer_of(str(bundle), str(tmp_path / "allowed"), str(tmp_path / "other.pub")) == "ci@factory"


def test_a_signature_for_something_else_does_not_count(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.json.sig").unlink()
    words = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", tmp_path / "key", bundle / "manifest.json"]
    subprocess.run(words, check=True, capture_output=True)
    assert refused(bundle, tmp_path / "allowed").endswith("was made for another purpose than 'edgevit'.")


@pytest.mark.parametrize(
    "content", [b"", b"junk\n", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"]
)
def test_what_is_no_signature_is_refused(bundle: Path, tmp_path: Path, content: bytes) -> None:
    (bundle / "manifest.json.sig").write_bytes(content)
    assert "is no signature of OpenSSH's. Sign the bundle again." in refused(bundle, tmp_path / "allowed")


@pytest.mark.parametrize("missing", ["allowed", "krl"])
def test_a_list_that_is_not_there_is_refused(bundle: Path, tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).unlink(missing_ok=True)
    assert (
        refused(bundle, tmp_path / "allowed", str(tmp_path / "krl")) == f"{tmp_path / missing}: there is no such file."
    )


def test_of_a_line_with_several_names_the_first_signs(bundle: Path, tmp_path: Path) -> None:
    public = (tmp_path / "key.pub").read_text()
    (tmp_path / "allowed").write_text(f"a@factory,b@factory {public}")
    assert signer_of(str(bundle), str(tmp_path / "allowed")) == "a@factory"


def test_a_key_that_cannot_sign_leaves_the_bundle_as_it_was(
    bundle: Path, tmp_path: Path, command: Callable[..., Ended]
) -> None:
    before = (bundle / "manifest.json.sig").read_bytes()
    make_key(tmp_path / "locked", passphrase="secret")
    (tmp_path / "junk").write_text("junk\n")
    for name, words in (
        ("locked", "incorrect passphrase supplied to decrypt private key). Add it to the agent with 'ssh-add'"),
        ("junk", "cannot sign ("),
        ("none", "there is no such file. Make a key with: ssh-keygen -t ed25519 -f KEY"),
    ):
        ended = command("sign", bundle, "--key", tmp_path / name)
        assert ended.code == 2
        assert words in ended.err
        assert len(ended.err.splitlines()) == 1
    assert (bundle / "manifest.json.sig").read_bytes() == before
    assert sorted(path.name for path in bundle.iterdir() if path.name.startswith(".")) == []


def test_a_damaged_bundle_is_not_signed(
    key: Path, make_bundle: Callable[..., Path], command: Callable[..., Ended]
) -> None:
    path = make_bundle("damaged")
    (path / "labels.txt").write_text("a\n")
    ended = command("sign", path, "--key", key)
    assert ended.code == 2
    assert not (path / "manifest.json.sig").exists()


def test_a_public_key_signs_by_the_agent(
    make_bundle: Callable[..., Path], key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgevit.signing import sign_bundle

    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            deadline = time.monotonic() + 60
            while not socket.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            subprocess.run(["ssh-add", "-q", key], check=True, timeout=60)
            key.unlink()
            path = make_bundle("by-agent")
            sign_bundle(load_bundle(path), key.with_suffix(".pub"))
            assert signer_of(str(path), str(tmp_path / "allowed")) == "ci@factory"
        finally:
            agent.kill()


def test_without_ssh_keygen_its_package_is_named(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"ssh-keygen is missing\. Install it with: sudo apt"):
        signer_of(str(bundle), str(tmp_path / "allowed"))
