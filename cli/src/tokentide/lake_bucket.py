"""A bucket of S3, or of what speaks like it, as the place of a lake's files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from pyarrow import (  # type: ignore[import-untyped]  # it ships no types
    ArrowInvalid,
    Buffer,
    fs,
    memory_map,
)

from tokentide.failures import Exit, Failure

_SCHEME: Final = "s3://"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")


class Bucket:
    """The objects under `s3://bucket/prefix`, with the credentials that the AWS command would take.

    Raises `Failure` for what the store does not let us do.
    """

    def __init__(self, address: str) -> None:
        self._root = address.removeprefix(_SCHEME).rstrip("/")
        self._address = f"{_SCHEME}{self._root}"
        bucket = self._root.partition("/")[0]
        if not bucket:
            raise Failure(f"{address} names no bucket", hint="--to s3://bucket/prefix", code=Exit.USAGE)
        with self._asking():
            self._store = _store_of(bucket)
            everything = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
            # Once for all: to ask for each of a year's hours would take minutes.
            found = self._store.get_file_info(everything)
        self._there = {
            info.path.removeprefix(f"{self._root}/") for info in found if info.type == fs.FileType.File
        }

    def __str__(self) -> str:
        return self._address

    def has(self, name: str) -> bool:
        """Tell whether the file is there."""
        return name in self._there

    def read(self, name: str) -> bytes | None:
        """Return the file, if it is there."""
        if not self.has(name):
            return None
        with self._asking(), self._store.open_input_stream(self._path(name)) as stream:
            return bytes(stream.read())

    def replace(self, name: str, content: bytes) -> None:
        """Put a small file in place."""
        self._put(name, content)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Give a file to write to; it becomes an object when all of it is there.

        It is written here first: a stream to the store that is left makes an object of what it has.
        """
        with tempfile.TemporaryDirectory(prefix="tokentide-") as folder:
            whole = Path(folder) / "whole"
            with whole.open("wb") as out:
                yield out
            with memory_map(str(whole)) as content:
                self._put(name, content.read_buffer())

    def _put(self, name: str, content: bytes | Buffer) -> None:
        # Not `copy_files`: it does not tell when the end of an upload, which is what makes the object, fails.
        with self._asking(), self._store.open_output_stream(self._path(name)) as stream:
            # In one call: nothing can come between and leave, and so close, half of it.
            stream.write(content)
        self._there.add(name)

    def remove(self, name: str) -> bool:
        """Remove the file; tell whether it was there."""
        there = self.has(name)
        if there:
            with self._asking():
                self._store.delete_file(self._path(name))
            self._there.discard(name)
        return there

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ArrowInvalid) as error:
            raise Failure(
                f"{self._address}: {error}",
                hint="credentials are those of the AWS command: AWS_PROFILE, AWS_ACCESS_KEY_ID and the like;"
                " of a store that is not Amazon's, AWS_ENDPOINT_URL is the address",
            ) from None


def _store_of(bucket: str) -> fs.S3FileSystem:
    """Return the store that has a bucket, in its region where the environment names no other."""
    endpoint, region = _first_of(_ENDPOINTS), _first_of(_REGIONS)
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        allow_delayed_open=True,  # what is small is put in one request, not in three
        background_writes=False,  # which would hold all of a file in memory
    )


def _first_of(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
