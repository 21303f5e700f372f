"""`python -m edgevit` is the same as `edgevit`."""

from edgevit.cli import main

main()
