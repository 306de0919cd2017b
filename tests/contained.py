"""A program as a container runs it, with nothing but what Linux has for that."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deploying import ROOT, in_image

_INSIDE = """
set -eu
mount --make-rprivate /
ip link set lo up
mount -t tmpfs -o mode=0755 tmpfs /mnt
for folder in {kept}; do
  mkdir -p "/mnt/kept$folder"
  mount --bind "$folder" "/mnt/kept$folder"
done
for folder in {closed}; do
  mount -t tmpfs -o mode=0755 tmpfs "$folder"
done
for folder in {kept}; do
  mkdir -p "$folder"
  mount --bind "/mnt/kept$folder" "$folder"
done
mkdir --mode=0700 /mnt/data /mnt/cache
chown {user} /mnt/data /mnt/cache
mount -t tmpfs -o mode=1777,size=64m tmpfs /tmp
mount -o remount,bind,ro /
cd /mnt/data
exec setpriv --reuid {number} --regid {group} --clear-groups --bounding-set=-all --no-new-privs "$@"
"""


def closed_to_others(folder: Path) -> list[Path]:
    """The outermost of a folder and those around it that other users cannot enter, if there is one."""
    around = [*reversed(folder.parents), folder]
    return [one for one in around if not one.stat().st_mode & 0o001][:1]


def inside() -> str:
    """What sets up a container: with Python and the project where they are, also where other users have no way to."""
    user = in_image("USER")[0].value
    number, _, group = user.partition(":")
    needed = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT}
    hidden = {folder for folder in needed if closed_to_others(folder)}
    kept = sorted(str(folder) for folder in hidden if not hidden & set(folder.parents))
    closed = sorted({str(one) for folder in hidden for one in closed_to_others(folder)})
    return _INSIDE.format(user=user, number=number, group=group, kept=shlex.join(kept), closed=shlex.join(closed))


@contextmanager
def contained(*command: str, environ: dict[str, str]) -> Generator[tuple[int, list[str]]]:
    """A program as a container runs it: process 1, a read-only root, the image's user, no capability, no network.

    Gives its number outside, and the words that run another program beside it.
    """
    number, _, group = in_image("USER")[0].value.partition(":")
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    whole = [*apart, "sh", "-c", inside(), "sh", *command]
    if os.geteuid() != 0 or subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        pytest.skip("only root may set up what a container is")
    with subprocess.Popen(whole, env=environ, stderr=subprocess.PIPE, text=True) as outer:
        try:
            children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
            while not (found := children.read_text().split()):
                time.sleep(0.01)
            enter = ["nsenter", f"--target={found[0]}", "--net", "--mount", "--pid"]
            yield int(found[0]), [*enter, f"--setuid={number}", f"--setgid={group}"]
            assert outer.wait(timeout=60) == 0
        except BaseException as problem:
            outer.kill()
            problem.add_note(outer.communicate()[1])
            raise
