"""What a push says while it runs and when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tokentide.collecting import Batch, Counts
from tokentide.failures import Failure
from tokentide.sending import Answer
from tokentide.terminal import explain, notes, results, write_json

_SHOWN_REJECTIONS: Final = 10


class Rejected(msgspec.Struct, frozen=True):
    """A call that the server will not take, by its id; for totals, of a session."""

    call_id: str
    code: str
    detail: str


class Summary(msgspec.Struct):
    """What was read and what the server made of it."""

    counts: Counts
    batches: int = 0
    accepted: int = 0
    rejections: list[Rejected] = []
    verdicts: Counter[str] = msgspec.field(default_factory=Counter)
    retries: int = 0

    @property
    def rejected(self) -> int:
        """How many events and totals the server refused."""
        return len(self.rejections)

    def add(self, batch: Batch, answer: Answer) -> None:
        """Count what became of a batch."""
        self.batches += 1
        self.accepted += answer.accepted
        self.verdicts.update(v if isinstance(v, str) else v.verdict for v in answer.verdicts)
        calls = [event.call_id for event in batch.events]
        sessions = [f"totals of {totals.session_id}" for totals in batch.totals]
        for names, refused in ((calls, answer.rejected), (sessions, answer.rejected_totals)):
            self.rejections += [
                Rejected(names[no.index] if no.index < len(names) else "", no.code, no.detail)
                for no in refused
            ]

    def as_json(self, failure: Failure | None) -> dict[str, Any]:
        """Return the summary as one flat object."""
        return {
            **msgspec.structs.asdict(self.counts),
            "batches": self.batches,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "rejections": self.rejections,
            "verdicts": dict(self.verdicts),
            "retries": self.retries,
            "error": failure.message if failure else None,
        }


@contextmanager
def progress_over(files: int, summary: Summary) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal; yield what moves it. Nothing is shown where nobody looks."""
    columns = (
        TextColumn("reading logs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[sent]} calls sent"),
        TimeElapsedColumn(),
    )
    console = notes()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=files, sent=0)
        yield lambda: bar.update(task, completed=summary.counts.files, sent=summary.accepted)


def report(summary: Summary, failure: Failure | None, *, as_json: bool) -> None:
    """Say what was done, and why it ended early if it did."""
    if as_json:
        write_json(summary.as_json(failure))
    else:
        results().print(_sentence(summary), highlight=False)
    _warn(summary)
    if failure is not None:
        explain(failure)


def _sentence(summary: Summary) -> str:
    counts = summary.counts
    told = (
        f"{summary.accepted} calls sent in {summary.batches} batches"
        f" from {counts.files_read} of {counts.files} files"
    )
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(summary.verdicts.items()))
    return f"{told} ({verdicts})" if verdicts else told


def _warn(summary: Summary) -> None:
    console = notes()
    counts = summary.counts
    if counts.unreadable_lines or counts.unreadable_files:
        console.print(
            f"[yellow]skipped:[/] {counts.unreadable_lines} lines and {counts.unreadable_files} files"
            " that could not be read"
        )
    for no in summary.rejections[:_SHOWN_REJECTIONS]:
        console.print(f"[yellow]refused:[/] {escape(f'{no.call_id}: {no.detail} ({no.code})')}")
    if summary.rejected > _SHOWN_REJECTIONS:
        console.print(f"[yellow]refused:[/] {summary.rejected - _SHOWN_REJECTIONS} more")
