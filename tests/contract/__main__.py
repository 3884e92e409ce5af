"""`python -m tests.contract [MINOR] [--accept]` lists the work that a vLLM needs of kvlease, from its text.

Without a minor it judges the vLLM that is installed, and those beside it. Exit status 1: there is something to do.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from kvlease.vllm.text import Text
from tests.contract.installed import folders
from tests.contract.judge import Found, accepted_minors, judge

DOWNLOADS = Path("out/contract")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__)
    parser.add_argument("minor", nargs="?", help="such as 0.34: that release is fetched")
    parser.add_argument("--accept", action="store_true", help="somebody has read it all: keep what was found as known")
    chosen = parser.parse_args()
    texts = {chosen.minor: Text(fetched(chosen.minor))} if chosen.minor else {m: Text(p) for m, p in folders().items()}
    if not texts:
        print("no vLLM is installed here: `make contract VLLM=0.34` fetches one")
        return 1
    return max([_tell(minor, text, chosen.accept) for minor, text in texts.items()])


def _tell(minor: str, text: Text, accept: bool) -> int:
    known = minor if minor in accepted_minors() else accepted_minors()[-1]
    said = judge(text, Found.accepted(known))
    print(f"vLLM {minor}, beside what is accepted of {known}: {len(said) or 'nothing'} to do")
    print("".join(f"  {statement}\n" for statement in said), end="")
    if accept:
        Found.of(text).accept(minor)
    return 1 if said and not accept else 0


def fetched(minor: str) -> Path:
    """The folder that is installed, or else the text of the newest release of that minor, kept in `out/contract`."""
    folder = folders().get(minor, DOWNLOADS / minor)
    if folder.exists():
        return folder
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
        arguments = ["download", "--no-deps", "--disable-pip-version-check", "--dest", scratch, f"vllm=={minor}.*"]
        if subprocess.run([sys.executable, "-m", "pip", *arguments]).returncode:
            raise SystemExit(f"there is no vLLM {minor} to be fetched: pip says why. A minor is such as 0.34")
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            wheel.extractall(Path(scratch) / "text", Text(Path(str(wheel.filename))).names)
        # The folder is renamed at the end: an interrupted download leaves no part of one.
        (Path(scratch) / "text").rename(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
