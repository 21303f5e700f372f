"""Signing: OpenSSH's signature of a bundle, by a key in a file or in the agent."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgevit.board.integrity import MANIFEST, SIGNATURE
from edgevit.board.signature import NAMESPACE, run_ssh_keygen
from edgevit.bundle import Bundle
from edgevit.errors import BadFileError
from edgevit.store import write_bytes


def sign_bundle(bundle: Bundle, key: Path) -> Path:
    """manifest.json.sig in the bundle, instead of one that was there.

    key: a private key without a passphrase, or a public one whose private half ssh-agent holds.
    Raises InputError without ssh-keygen, BadFileError when the key cannot sign; then the bundle is as it was.
    """
    if not key.is_file():
        raise BadFileError(key, "there is no such file.", fix="Make a key with: ssh-keygen -t ed25519 -f KEY")
    with tempfile.TemporaryDirectory(prefix="edgevit-sign-") as folder:
        manifest = Path(folder, MANIFEST)
        manifest.write_bytes((bundle.path / MANIFEST).read_bytes())
        ended = run_ssh_keygen("-Y", "sign", "-n", NAMESPACE, "-f", str(key), str(manifest))
        if ended.returncode:
            raise BadFileError(key, f"cannot sign ({_reason(ended.stderr)}).", fix=_fix(ended.stderr))
        target = bundle.path / SIGNATURE
        write_bytes(target, manifest.with_name(SIGNATURE).read_bytes())
    return target


def _reason(said: str) -> str:
    lines = [line.removeprefix("Enter passphrase: ").strip() for line in said.splitlines()]
    lines = [line for line in lines if line and not line.startswith("Signing file")]
    return lines[-1].rstrip(".") if lines else "ssh-keygen says nothing"


def _fix(said: str) -> str:
    if "passphrase" not in said:
        return ""
    return "Add it to the agent with 'ssh-add', and name its .pub file here."
