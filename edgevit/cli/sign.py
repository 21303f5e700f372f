"""edgevit sign and edgevit verify: who made a bundle, by OpenSSH's signatures."""

from __future__ import annotations

from pathlib import Path

import click

from edgevit.cli import options
from edgevit.cli.output import Output, speaking


@click.command("sign")
@click.argument("bundle", type=options.OUTPUT_PATH)
@click.option("--key", required=True, type=options.OUTPUT_PATH, help="Private key, or the .pub of one in ssh-agent.")
@speaking
def sign_command(output: Output, bundle: Path, key: Path) -> None:
    """Signs a whole BUNDLE with an OpenSSH key: manifest.json.sig, which stands for every file of it."""
    from edgevit.bundle import load_bundle
    from edgevit.signing import sign_bundle

    signature = sign_bundle(load_bundle(bundle), key)
    if output.is_json:
        output.document({"kind": "signature", "signature": str(signature)})
        return
    output.text(f"Signature: {signature}")
    output.next("edgevit", "verify", bundle, "--allowed-signers", "allowed_signers")


@click.command("verify")
@click.argument("bundle", type=options.OUTPUT_PATH)
@click.option("--allowed-signers", required=True, type=options.OUTPUT_PATH, help="OpenSSH's list of who may sign.")
@click.option("--revoked", type=options.OUTPUT_PATH, help="Keys that no longer count, or OpenSSH's revocation list.")
@speaking
def verify_command(output: Output, bundle: Path, allowed_signers: Path, revoked: Path | None) -> None:
    """Whether a BUNDLE is signed by one who may, and is what was signed, file by file.

    A line of --allowed-signers is: NAME namespaces="edgevit" [valid-before="20271231"] KEYTYPE KEY
    """
    from edgevit.board.signature import signer_of
    from edgevit.bundle import load_bundle

    signer = signer_of(str(bundle), str(allowed_signers), str(revoked or ""))
    files = len(load_bundle(bundle).manifest.files)
    if output.is_json:
        output.document({"kind": "verification", "bundle": str(bundle), "signer": signer, "files": files})
        return
    output.text(f"Signed by {signer}, and all {files} files are what was signed.")
