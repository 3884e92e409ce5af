"""Coverage-guided fuzzing of what strangers can reach (`python -m proof fuzz-bytes`).

What was learnt is kept in out/fuzz/<target>/corpus, and the inputs that broke something in out/fuzz/<target>/broken.
"""

import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proof import ROOT, program
from proof.hostile.targets import TARGETS, Target, conditions

OUT = ROOT / "out" / "fuzz"
SEEDS = 24
"""The number of random inputs in a new corpus: the fuzzer alone takes long to grow inputs long enough to do much."""
MEMORY_MB = 1024
SLOW_S = 120
"""An input that takes longer is broken. Each takes milliseconds, but a busy machine was seen to take 30 s."""
PROGRESS_S = 10.0
_STATUS = re.compile(r"#(\d+)\s.*cov: (\d+).*corp: (\d+)/")


@dataclass
class FuzzOutcome:
    target: str
    runs: int = 0
    branches: int = 0
    corpus: int = 0
    seconds: float = 0.0
    broken: bool = False

    def __str__(self) -> str:
        what = "BROKEN" if self.broken else "holds"
        return (
            f"{self.target:13} {what:6} {self.runs:>10} inputs in {self.seconds:4.0f} s, "
            f"{self.branches} branches, {self.corpus} inputs kept"
        )


def fuzz(targets: Sequence[str], minutes: float, seed: int) -> list[FuzzOutcome]:
    """Fuzzes these targets in turn, in `minutes` together; `seed` is of the fuzzers' chance (0: another each time)."""
    share_s = minutes * 60 / sum(TARGETS[name].share for name in targets)
    return [_run(name, max(1, round(share_s * TARGETS[name].share)), seed) for name in targets]


def replay(target: str, file: Path) -> None:
    """Plays one input once more, without atheris. Raises whatever it breaks."""
    with conditions():
        TARGETS[target].holds(file.read_bytes())


def _run(target: str, seconds: int, seed: int) -> FuzzOutcome:
    """Fuzzes a target in a process of its own, since the fuzzer ends the one that it runs in."""
    corpus, broken = OUT / target / "corpus", OUT / target / "broken"
    for folder in (corpus, broken):
        folder.mkdir(parents=True, exist_ok=True)
    _sow(corpus, TARGETS[target])
    command = [sys.executable, "-m", "proof.hostile.fuzz_one", target, str(corpus)]
    command += [f"-max_total_time={seconds}", f"-max_len={TARGETS[target].largest}", "-len_control=0", "-reload=0"]
    command += [f"-artifact_prefix={broken}/", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={SLOW_S}", f"-seed={seed}"]
    started = time.monotonic()
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    outcome = FuzzOutcome(target)
    try:
        lines = _follow(child, outcome)
    finally:
        child.kill()
    outcome.seconds, outcome.broken = time.monotonic() - started, child.wait() != 0
    print(outcome, flush=True)
    if outcome.broken:
        _say_what_broke(target, broken, lines)
    return outcome


def _sow(corpus: Path, target: Target) -> None:
    if any(corpus.iterdir()):
        return
    chance = random.Random(1)
    seeds = [*target.seeds, *(chance.randbytes(chance.randrange(1, target.largest)) for _ in range(SEEDS))]
    for i, seed in enumerate(seeds):
        (corpus / f"seed-{i}").write_bytes(seed)


def _follow(child: "subprocess.Popen[str]", outcome: FuzzOutcome) -> list[str]:
    """Prints the fuzzer's progress now and then, and returns its last lines."""
    assert child.stdout is not None
    shown = time.monotonic()
    lines: list[str] = []
    for line in child.stdout:
        lines = [*lines[-60:], line.rstrip()]
        if status := _STATUS.search(line):
            outcome.runs, outcome.branches, outcome.corpus = (int(number) for number in status.groups())
            if time.monotonic() > shown + PROGRESS_S:
                shown = time.monotonic()
                print(f"  {outcome.target}: {outcome.runs} inputs, {outcome.branches} branches", flush=True)
    child.wait()
    return lines


def _say_what_broke(target: str, broken: Path, lines: list[str]) -> None:
    print("\n".join(line for line in lines if not _STATUS.search(line)))
    for file in sorted(broken.iterdir(), key=lambda file: file.stat().st_mtime)[-1:]:
        print(f"replay: {program()} fuzz-bytes {target} --replay {file}")
