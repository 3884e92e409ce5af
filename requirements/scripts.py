"""Fetches the scripts that the pages of `make site` run in a browser: `python requirements/scripts.py FOLDER`.

They are no Python, so pip does not have them. What has come is compared with what is expected before any of it is used.
"""

import hashlib
import io
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple


class Script(NamedTuple):
    """A file of a package in npm's registry."""

    url: str
    sha256: str
    """The SHA-256 of the package, in hex digits."""
    member: str
    """The script's path in it."""


SCRIPTS = {
    "mermaid.js": Script(
        "https://registry.npmjs.org/mermaid/-/mermaid-11.16.0.tgz",
        "ff48c94a0a0458b377a5187ad01407184d2a182e6476c2015b7068ff58355fae",
        "package/dist/mermaid.min.js",
    ),
    "worker.js": Script(
        "https://registry.npmjs.org/iframe-worker/-/iframe-worker-1.0.4.tgz",
        "e8c5d12d87829c503afba01d67772ea9f4aba5b7ae57a0c98e1917711030efbb",
        "package/shim/index.js",
    ),
}
"""The script that draws the diagrams, and the one that lets the search run where pages are read from a disk."""


def main(folder: Path) -> None:
    """Writes every script into `folder`. Raises ValueError where something else has come than was expected."""
    folder.mkdir(exist_ok=True)
    for name, script in SCRIPTS.items():
        (folder / name).write_bytes(fetch(script))


def fetch(script: Script) -> bytes:
    """Returns the script's text. Raises ValueError where its package is another one."""
    with urllib.request.urlopen(script.url, timeout=60) as answer:
        package: bytes = answer.read()
    found = hashlib.sha256(package).hexdigest()
    if found != script.sha256:
        raise ValueError(
            f"{script.url} has the SHA-256 {found}, and not {script.sha256}; find out why, and do not use it"
        )
    with tarfile.open(fileobj=io.BytesIO(package)) as members:
        text = members.extractfile(script.member)
        assert text is not None, script.member
        return text.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
