"""Writes the parts of the documentation that come from the code."""

from docs.made.pages import PAGES, written
from docs.made.vectors import FILES

for page, parts in PAGES.items():
    page.write_text(written(page.read_text(), parts))
for file, content in FILES.items():
    file.write_text(content())
