"""A bundle on a board that is not here: its programs and wheels, run by qemu on this machine. Never timed."""
