"""Writes the parts of the documentation that come from the code."""

from docs.made import monitoring, vectors
from docs.made.pages import PAGES, written

for page, parts in PAGES.items():
    page.write_text(written(page.read_text(), parts))
for file, content in (vectors.FILES | monitoring.FILES).items():
    file.write_text(content())
