"""Processes that end with what started them."""

import subprocess

import psutil

from clients.lifetime import ending_all


def test_what_children_leave_running_ends_with_the_block_and_older_children_stay() -> None:
    with subprocess.Popen(["sleep", "60"]) as older:
        with ending_all():
            line = ["sh", "-c", "setsid sleep 60 >/dev/null & echo $!"]
            orphan = psutil.Process(int(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout))
            assert orphan.is_running()
        assert not orphan.is_running() and older.poll() is None
        older.kill()
