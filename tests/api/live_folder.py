"""What tests of live folders share: names that are served, waiting, and knowing that the folder was looked at."""
import shutil
import time

from conftest import DEMO, SLOW


def names(s):
    return [a["name"] for a in s.get("/v1/adapters")[1]["data"] if not a["draining"]]


def wait_for(what, timeout=10):
    end = time.monotonic() + timeout * SLOW
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def folder_looked(live):
    """What lay in the folder before this call was looked at: an adapter that was put there after it came and went."""
    live.marks = getattr(live, "marks", 0) + 1
    mark = f"mark{live.marks}"
    shutil.copytree(DEMO / "adapters/marketing", live.folder / mark)
    wait_for(lambda: mark in names(live))
    shutil.rmtree(live.folder / mark)
    wait_for(lambda: mark not in names(live))
