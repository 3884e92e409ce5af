"""vLLM's own tests, from its source distribution. They are kept in `.venv/upstream`, never in this repository.

`python -m tests.upstream.fetch MINOR FOLDER TOOLS` fetches them.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def fetch_tests(minor: str, folder: Path, tools: Path) -> None:
    """Puts vLLM's `tests/` of the newest release of this minor into `folder`; does nothing where they are already.

    pip builds what it downloads as source, and vLLM takes hours to build. `unearth`, in `tools`, finds and
    downloads as pip does.
    """
    if (folder / "tests").is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    # The folder is renamed at the end: an interrupted run leaves no folder that looks like vLLM's tests.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "unearth", f"vllm=={minor}.*", "--no-binary", "--link-only"]
        subprocess.run([*command, "--download", scratch], env=os.environ | {"PYTHONPATH": str(tools)}, check=True)
        with tarfile.open(next(Path(scratch).glob("vllm-*.tar.gz"))) as archive:
            top = archive.getnames()[0].split("/")[0]
            wanted = [member for member in archive.getmembers() if member.name.startswith(f"{top}/tests/")]
            archive.extractall(scratch, wanted, filter="data")
        shutil.move(Path(scratch) / top / "tests", folder)


if __name__ == "__main__":
    fetch_tests(sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]).resolve())
