"""Puts Prometheus and promtool into a folder: `python requirements/prometheus.py FOLDER`.

They are linked where they are installed; on Debian and its relatives they are unpacked from the package `prometheus`,
for which nobody has to be root; elsewhere it says what to install.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("prometheus", "promtool")
PACKAGE = "prometheus"
INSTALL = f"""\
{" and ".join(PROGRAMS)} are not installed, and this is no Debian to take its package from.
Install Prometheus 2.42 or later (https://prometheus.io/download), so that both are in PATH, and run this again."""
UPDATE = f"apt-get cannot fetch the package {PACKAGE} (see above): install Prometheus, and run this again."


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    # The folder is renamed at the end: an interrupted run leaves none that looks complete.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "programs"
        made.mkdir()
        if all(map(shutil.which, PROGRAMS)):
            for name in PROGRAMS:
                (made / name).symlink_to(str(shutil.which(name)))
        else:
            unpack(Path(scratch), made)
        made.rename(folder)


def unpack(scratch: Path, folder: Path) -> None:
    if not all(map(shutil.which, ("apt-get", "dpkg"))):
        sys.exit(INSTALL)
    if not any(download(scratch, lists) for lists in (None, scratch / "lists")):
        sys.exit(UPDATE)
    archive = next(scratch.glob(f"{PACKAGE}_*.deb"))
    subprocess.run(["dpkg", "--extract", str(archive), str(scratch / "package")], check=True)
    for name in PROGRAMS:
        shutil.move(scratch / "package/usr/bin" / name, folder / name)


def download(into: Path, lists: Path | None) -> bool:
    """Fetches the package; tells whether it could. `lists`: a folder for lists of what there is, which are fetched
    first; None: the machine's own, which a container image often lacks."""
    # As root, apt-get downloads as another user, who cannot write here, and warns that it does not.
    command = ["apt-get", "--quiet", "-o", "APT::Sandbox::User=root"]
    if lists is not None:
        (lists / "partial").mkdir(parents=True)
        command += ["-o", f"Dir::State::Lists={lists}"]
        if subprocess.run([*command, "update"], check=False).returncode:
            return False
    return not subprocess.run([*command, "download", PACKAGE], cwd=into, check=False).returncode


if __name__ == "__main__":
    main(Path(sys.argv[1]))
