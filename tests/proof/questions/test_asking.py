"""A question counts as answered where the output says what was asked, in time."""

from dataclasses import replace

from proof.questions.asking import LIMIT_S, OperatorQuestion, ask
from proof.questions.report import MOST_LINES, shortened, shown, table

ASKED = OperatorQuestion("Is it there?", "echo it is here; echo and more >&2", r"is here.*more")


def test_the_output_of_a_shell_and_its_errors_are_the_answer() -> None:
    answered = ask(ASKED)
    assert answered.output == "it is here\nand more"
    assert answered.told
    assert answered.held


def test_an_output_that_does_not_say_it_is_no_answer() -> None:
    answered = ask(replace(ASKED, expects="is gone"))
    assert not answered.told
    assert not answered.held


def test_an_answer_after_the_limit_does_not_hold() -> None:
    answered = replace(ask(ASKED), took_s=LIMIT_S)
    assert answered.told
    assert not answered.held


def test_the_programs_of_this_python_are_found_first() -> None:
    assert ask(OperatorQuestion("", "command -v python", r"/python$")).told


def test_a_long_output_is_cut_and_says_so() -> None:
    long = "\n".join(map(str, range(MOST_LINES + 3)))
    assert shortened(long).splitlines()[-2:] == [str(MOST_LINES - 1), "[... 3 more lines]"]
    assert shortened("short") == "short"


def test_the_report_has_command_output_and_time() -> None:
    answered = replace(ask(ASKED), took_s=1.5)
    assert shown(answered).startswith("# Is it there?\n$ echo it is here")
    (line,) = table([answered]).cells
    assert [cell.text for cell in line[2:]] == ["1.5 s", "yes"]


def test_the_table_tells_late_answers_from_none() -> None:
    answered = ask(ASKED)
    late = replace(answered, took_s=LIMIT_S)
    silent = replace(answered, output="")
    assert [list(line)[-1].text for line in table([answered, late, silent]).cells] == ["yes", "no", "no answer"]
