"""Blocks on their way into the store, kept until the index of counted calls has them.

Only where the broker forgets (embedded): after a crash between a block's insert and its index nobody could
repeat the batch, and its sender, who was never answered, would send it again to be counted a second time.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from tokentide_common.database import Engine, insert_or, reading, writing
from tokentide_common.schema import unfinished_blocks


class UnfinishedBlock(NamedTuple):
    """What was about to be inserted, and under which token."""

    partition: int
    token: str
    content: bytes


def keep_block(engine: Engine, topic: str, partition: int, token: str, content: bytes) -> None:
    """Remember a block before it is inserted; a partition has one at a time."""
    values = {"token": token, "content": content}
    statement = insert_or(engine, unfinished_blocks).values(topic=topic, partition=partition, **values)
    with writing(engine) as connection:
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(unfinished_blocks.primary_key.columns), set_=values
            )
        )


def drop_block(engine: Engine, topic: str, partition: int) -> None:
    """Forget a partition's block: everything that it changes is written."""
    mine = (unfinished_blocks.c.topic == topic, unfinished_blocks.c.partition == partition)
    with writing(engine) as connection:
        connection.execute(sa.delete(unfinished_blocks).where(*mine))


def kept_blocks(engine: Engine, topic: str) -> list[UnfinishedBlock]:
    """Return the blocks that a crash left behind."""
    columns = (unfinished_blocks.c.partition, unfinished_blocks.c.token, unfinished_blocks.c.content)
    statement = sa.select(*columns).where(unfinished_blocks.c.topic == topic)
    with reading(engine) as connection:
        found = connection.execute(statement).all()
    return [UnfinishedBlock(number, token, raw) for number, token, raw in found]
