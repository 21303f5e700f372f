"""An arm64 board for tests: Debian's own sshd and python3 under qemu-user, in namespaces, on 127.0.0.1."""
