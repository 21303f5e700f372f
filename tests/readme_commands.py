"""README's list of commands, written from `edgevit --help` (make docs) or held against it (make check: --check)."""

from __future__ import annotations

import sys
from pathlib import Path

from edgevit.cli import COMMANDS

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- commands: written by make docs -->\n", "<!-- end of commands -->"


def main() -> int:
    text = README.read_text(encoding="utf-8")
    rows = "".join(f"| `{name}` | {entry.summary} |\n" for name, entry in COMMANDS.items())
    before, rest = text.split(START)
    current = f"{before}{START}| Command | What it does |\n|---|---|\n{rows}{END}{rest.split(END)[1]}"
    if "--check" in sys.argv:
        if current != text:
            print("README.md: its list of commands differs from 'edgevit --help'. Run: make docs", file=sys.stderr)
        return int(current != text)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
