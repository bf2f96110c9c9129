"""A process killed while it writes its spool: all that it was told to be on disk is there, nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tokentide_proxy.spool_log import SegmentLog

WRITER = """
import sys
from pathlib import Path
from tokentide_common.outbox import Record
from tokentide_proxy.spool_log import SegmentLog

log = SegmentLog(Path(sys.argv[1]), 2**30, lambda _bytes: None)
log.open()
number = 0
while True:
    batch = [Record(b"call", b"%d" % n + bytes(n % 5000)) for n in range(number, number + 37)]
    assert not log.append(batch).problem
    number += 37
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("rounds", [1, 7, 40, 150])
def test_what_was_appended_outlives_a_kill_in_the_middle_of_the_next_write(tmp_path: Path, rounds: int):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(rounds)][-1]
        writer.kill()
        said = max([said, *map(int, writer.stdout.read().splitlines()[:-1])])
    damaged: list[int] = []
    log = SegmentLog(tmp_path, 2**30, damaged.append)
    log.open()
    found = []
    while some := log.read(1000):
        found += [int((record.value or b"").rstrip(b"\0")) for record in some]
        log.remove()
    log.close()
    assert found == list(range(len(found))), "in order, without a gap"
    assert said <= len(found) <= said + 2 * 37
    assert len(damaged) <= 1, "at most the record that was being written"
