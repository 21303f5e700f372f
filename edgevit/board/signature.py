"""Who signed a bundle: OpenSSH's signature of manifest.json, which names the sha256 of every other file.

Python 3.8 and standard library only, and ssh-keygen of OpenSSH 8.2 or later. Source: PROTOCOL.sshsig, and ssh-keygen(1)
under "ALLOWED SIGNERS".
"""

from __future__ import annotations

import os
import re
import subprocess

from edgevit.board.integrity import MANIFEST, SIGNATURE
from edgevit.errors import BadFileError, InputError

# A signature that was made for something else, such as a commit, does not count for a bundle.
NAMESPACE = "edgevit"
SECONDS = 60


def signer_of(directory: str, allowed_signers: str, revoked: str = "") -> str:
    """The principal of `allowed_signers` whose key signed the bundle, as of now.

    revoked: a file of revoked keys, or of OpenSSH's own revocation list. Of the bundle manifest.json alone is read:
    check_bundle compares every other file with it.
    Raises InputError without ssh-keygen, BadFileError for a bundle that is unsigned, was changed since, or is signed by
    a key that is not allowed, not yet or no longer valid, or revoked; and for lists that cannot be read.
    """
    signature, manifest = os.path.join(directory, SIGNATURE), os.path.join(directory, MANIFEST)
    if not os.path.isfile(signature):
        raise BadFileError(directory, "is not signed.", fix="Sign it with 'edgevit sign'.")
    for path in (manifest, allowed_signers, *([revoked] if revoked else [])):
        if not os.path.isfile(path):
            raise BadFileError(path, "there is no such file.")
    key = _key_of(signature, manifest)
    found = run_ssh_keygen("-Y", "find-principals", "-s", signature, "-f", allowed_signers)
    if found.returncode:
        raise _not_allowed(signature, key, found.stderr, allowed_signers)
    principal = found.stdout.splitlines()[0].partition(",")[0]  # 8.2 gives a line's list of them as it stands
    verify = ("-Y", "verify", "-n", NAMESPACE, "-I", principal, "-s", signature, "-f", allowed_signers)
    allowed = run_ssh_keygen(*verify, stdin=manifest)
    if allowed.returncode:
        raise _not_allowed(signature, key, allowed.stderr, allowed_signers)
    if revoked and run_ssh_keygen(*verify, "-r", revoked, stdin=manifest).returncode:
        raise BadFileError(signature, f"is by {key}, which {revoked} revokes.")
    return principal


def run_ssh_keygen(*words: str, stdin: str = os.devnull) -> subprocess.CompletedProcess[str]:
    """What ssh-keygen did, with its words as text; it never asks on a terminal. Raises InputError without it."""
    command = ["ssh-keygen", *words]
    environment = {**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}
    try:
        with open(stdin, "rb") as file:
            return subprocess.run(
                command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS, check=False,
                env=environment, encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
    except FileNotFoundError:
        raise InputError("ssh-keygen is missing. Install it with: sudo apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"ssh-keygen did not answer within {SECONDS} s.") from None


def _key_of(signature: str, manifest: str) -> str:
    """'the ED25519 key SHA256:…' that made the signature, allowed or not. Raises BadFileError when it does not fit."""
    found = run_ssh_keygen("-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature, stdin=manifest)
    if found.returncode == 0:
        return "the " + found.stdout.strip().partition(" with ")[2]
    said = found.stderr
    if "namespace" in said:
        raise BadFileError(signature, f"was made for another purpose than '{NAMESPACE}'.")
    if "incorrect signature" in said:
        raise BadFileError(signature, "does not fit manifest.json: it was changed since, or is another bundle's.")
    raise BadFileError(signature, "is no signature of OpenSSH's.", fix="Sign the bundle again.")


def _not_allowed(signature: str, key: str, said: str, allowed_signers: str) -> BadFileError:
    """'… which FILE does not allow (line 1: key has expired)', from what ssh-keygen says of the file's lines."""
    lines = [line[len(allowed_signers) + 1 :] for line in said.splitlines() if line.startswith(allowed_signers + ":")]
    reasons = "; ".join("line " + re.sub(r":\s*verify time .*", "", line) for line in dict.fromkeys(lines))
    why = f" ({reasons})" if reasons else ""
    return BadFileError(signature, f"is by {key}, which {allowed_signers} does not allow{why}.")
