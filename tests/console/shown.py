"""The text of tables, as people see it."""

from io import StringIO

from rich.console import Console, RenderableType


def shown(*renderables: RenderableType, width: int = 120) -> str:
    """The lines that a console of this width shows of these, without the blanks at their ends."""
    file = StringIO()
    console = Console(file=file, width=width)
    for renderable in renderables:
        console.print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
