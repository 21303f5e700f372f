"""Wheels of packages that are installed here, packed again: a folder for an offline board, without a download."""

from __future__ import annotations

import re
import zipfile
from importlib import metadata
from pathlib import Path


def pack_wheels(folder: Path, *packages: str) -> list[Path]:
    """A wheel of each package and of all that it needs. Source: PEP 427, "The Wheel Binary Package Format"."""
    done: dict[str, Path] = {}
    todo = list(packages)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in done:
            continue
        distribution = metadata.distribution(name)
        done[name] = _pack(folder, distribution)
        for line in distribution.requires or ():
            if "extra" not in line and (found := re.match(r"[A-Za-z0-9._-]+", line)):
                todo.append(found[0])
    return list(done.values())


def _pack(folder: Path, distribution: metadata.Distribution) -> Path:
    tags = re.findall(r"(?m)^Tag: ([^-\s]+)-([^-\s]+)-(\S+)$", distribution.read_text("WHEEL") or "")
    python, abi = tags[0][:2]
    pythons = ".".join(sorted({tag[0] for tag in tags})) if abi == "none" else python
    platforms = ".".join(dict.fromkeys(tag[2] for tag in tags))
    name = re.sub(r"[-_.]+", "_", distribution.metadata["Name"])
    path = folder / f"{name}-{distribution.version}-{pythons}-{abi}-{platforms}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in distribution.files or ():
            if ".." not in file.parts and file.suffix != ".pyc" and Path(str(file.locate())).is_file():
                archive.write(str(file.locate()), file.as_posix())
    return path
