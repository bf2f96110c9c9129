"""The spool's files: order, bound, restart, damage, and who may read them."""

import os
import stat
from pathlib import Path

import pytest

from tokentide_common.outbox import Record
from tokentide_proxy.spool_format import framed
from tokentide_proxy.spool_log import SEGMENT_BYTES, Appended, SegmentLog

MIB = 2**20


def records(start: int, stop: int, size: int = 0) -> list[Record]:
    return [Record(b"call_%08d" % n, b"%08d" % n + bytes(size)) for n in range(start, stop)]


def opened(folder: Path, max_bytes: int = 64 * MIB, damaged: list[int] | None = None) -> SegmentLog:
    log = SegmentLog(folder, max_bytes, (damaged if damaged is not None else []).append)
    log.open()
    return log


def taken(log: SegmentLog, limit: int = 100) -> list[Record]:
    found = []
    while some := log.read(limit):
        found += some
        log.remove()
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.events"))


def test_what_is_appended_is_taken_in_order_once(tmp_path):
    log = opened(tmp_path)
    assert log.append(records(0, 250)) == Appended(250)
    assert log.append(records(250, 300)) == Appended(50)
    assert taken(log) == records(0, 300)
    assert log.waiting_bytes == log.held_bytes == 0
    log.close()


def test_what_was_read_comes_again_until_it_is_removed(tmp_path):
    log = opened(tmp_path)
    log.append(records(0, 10))
    assert log.read(4) == records(0, 4)
    assert log.read(4) == records(0, 4)
    log.remove()
    assert log.read(4) == records(4, 8)
    log.close()


def test_records_appended_between_reading_and_removing_go_behind(tmp_path):
    log = opened(tmp_path)
    log.append(records(0, 3))
    assert log.read(100) == records(0, 3)
    log.append(records(3, 5))
    log.remove()
    assert taken(log) == records(3, 5)
    log.append(records(5, 6))
    assert taken(log) == records(5, 6)
    log.close()


def test_large_backlogs_lie_in_files_of_bounded_size_that_go_when_they_are_done(tmp_path):
    log = opened(tmp_path)
    log.append(records(0, 5000, size=1000))
    sizes = [file.stat().st_size for file in files(tmp_path)]
    assert len(sizes) >= 5
    assert max(sizes) <= SEGMENT_BYTES
    assert sum(sizes) == log.held_bytes == log.waiting_bytes
    assert log.read(2000) == records(0, len(log.read(2000)), size=1000)
    log.remove()
    assert len(files(tmp_path)) == len(sizes) - 1
    assert taken(log, 1000)[-1] == records(4999, 5000, size=1000)[0]
    log.close()
    assert files(tmp_path) == []


def test_a_record_larger_than_a_file_should_be_has_one_of_its_own(tmp_path):
    log = opened(tmp_path)
    large = [Record(b"a", bytes(10)), Record(b"b", bytes(SEGMENT_BYTES)), Record(b"c", bytes(10))]
    assert log.append(large) == Appended(3)
    assert taken(log) == large
    log.close()


def test_a_full_spool_keeps_what_it_has_and_says_how_much_more_it_took(tmp_path):
    log = opened(tmp_path, MIB)
    appended = log.append(records(0, 2000, size=1000))
    assert appended == Appended(MIB // len(framed(records(0, 1, size=1000)[0])), "spool_full")
    assert log.append(records(5000, 5001, size=1000)) == Appended(0, "spool_full")
    assert log.held_bytes <= MIB
    assert taken(log) == records(0, appended.kept, size=1000)
    assert log.append(records(0, 10)) == Appended(10), "there is room again"
    log.close()


def test_the_next_process_goes_on_where_the_last_one_was_and_writes_behind_it(tmp_path):
    log = opened(tmp_path)
    log.append(records(0, 3000, size=1000))
    assert log.read(1) == records(0, 1, size=1000)
    log.close()
    log = opened(tmp_path)
    log.append(records(3000, 3010, size=1000))
    assert taken(log) == records(0, 3010, size=1000)
    log.close()


@pytest.mark.parametrize("cut", range(1, len(framed(records(0, 1)[0])) + 1))
def test_a_tail_torn_at_any_byte_is_skipped_and_reported_and_all_before_and_after_it_is_there(tmp_path, cut):
    log = opened(tmp_path)
    log.append(records(0, 10))
    log.close()
    (file,) = files(tmp_path)
    os.truncate(file, file.stat().st_size - cut)
    damaged: list[int] = []
    log = opened(tmp_path, damaged=damaged)
    log.append(records(10, 12))
    assert taken(log) == records(0, 9) + records(10, 12)
    rest = len(framed(records(9, 10)[0])) - cut
    assert damaged == ([rest] if rest else [])
    assert log.waiting_bytes == log.held_bytes == 0
    log.close()


def test_damage_in_the_middle_costs_one_record_and_is_reported_once_however_often_it_is_read(tmp_path):
    log = opened(tmp_path)
    log.append(records(0, 10))
    log.close()
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    damaged: list[int] = []
    log = opened(tmp_path, damaged=damaged)
    assert log.read(100) == log.read(100)
    found = taken(log)
    assert len(found) == 9
    assert damaged == [len(framed(records(0, 1)[0]))]
    log.close()


def test_files_that_someone_deleted_are_reported_and_do_not_stop_the_rest(tmp_path):
    damaged: list[int] = []
    log = opened(tmp_path, damaged=damaged)
    log.append(records(0, 3000, size=1000))
    first = files(tmp_path)[0]
    size = first.stat().st_size
    first.unlink()
    assert taken(log, 1000)[-1] == records(2999, 3000, size=1000)[0]
    assert damaged == [size]
    for file in files(tmp_path):
        file.unlink()
    assert log.append(records(0, 1)) == Appended(1)
    assert taken(log) == records(0, 1)
    log.close()


def test_garbage_in_the_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    log = opened(tmp_path)
    log.append(records(0, 1))
    assert taken(log) == records(0, 1)
    log.close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_only_the_user_may_read_it(tmp_path):
    log = opened(tmp_path / "spool")
    log.append(records(0, 1))
    for path in (tmp_path / "spool").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    log.close()


def test_two_processes_share_a_folder_and_what_a_dead_one_left_is_taken_over(tmp_path):
    one, other = opened(tmp_path), opened(tmp_path)
    one.append(records(0, 5))
    other.append(records(5, 10))
    assert taken(other) == records(5, 10)
    assert one.read(100) == records(0, 5)
    other.append(records(10, 15))
    other.close()  # as its end would
    one.close()
    third = opened(tmp_path)
    assert taken(third) == records(0, 5) + records(10, 15)
    third.close()


def test_a_folder_that_cannot_be_used_is_a_problem_of_the_disk_until_it_can(tmp_path):
    (tmp_path / "spool").write_text("a file is in the way")
    log = SegmentLog(tmp_path / "spool", MIB, lambda _bytes: None)
    appended = log.append(records(0, 1))
    assert (appended.kept, appended.problem) == (0, "disk_error")
    assert log.read(10) == []
    (tmp_path / "spool").unlink()
    assert log.append(records(0, 1)) == Appended(1)
    assert taken(log) == records(0, 1)
    log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_costs_what_did_not_fit_and_leaves_no_half_records(tmp_path, monkeypatch):
    log = opened(tmp_path)
    assert log.append(records(0, 5)) == Appended(5)
    full = os.open("/dev/full", os.O_WRONLY)
    assert log._file is not None
    os.dup2(full, log._file)
    os.close(full)
    appended = log.append(records(5, 10))
    assert (appended.kept, appended.problem) == (0, "disk_error")
    assert log.append(records(10, 15)) == Appended(5)
    assert taken(log) == records(0, 5) + records(10, 15)
    log.close()
