"""One target under atheris: `python tests/hostile/fuzz_one.py TARGET CORPUS [libFuzzer's options]`. See `fuzz.py`."""

import sys

import atheris

# The checks are instrumented, too: they tell kinds apart, which guides the fuzzer. The decoder is C, and cannot.
with atheris.instrument_imports(include=["kvlease", "wire", "references", "notifications"]):
    from targets import TARGETS, conditions


def main() -> None:
    """Fuzzes one target, and does not return: the fuzzer ends the process."""
    with conditions():
        atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]].holds)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
