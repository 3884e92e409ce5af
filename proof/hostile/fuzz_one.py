"""One target under atheris: `python -m proof.hostile.fuzz_one TARGET CORPUS [libFuzzer's options]`. See `fuzz.py`."""

import sys

import atheris

# The checks are instrumented, too: they tell kinds apart, which guides the fuzzer. The decoder is C, and cannot.
_CHECKS = [f"proof.hostile.{name}" for name in ("wire", "references", "notifications")]
with atheris.instrument_imports(include=["kvlease", *_CHECKS]):
    from proof.hostile.targets import TARGETS, conditions


def main() -> None:
    """Fuzzes one target, and does not return: the fuzzer ends the process."""
    with conditions():
        atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]].holds)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
