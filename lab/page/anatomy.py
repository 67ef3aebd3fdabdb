"""The anatomy of a document in one of the run's checkpoints, for the second view of the page.

A process of its own computes it (``lab/anatomy.py``), one at a time: it may take seconds, and the
page must not stand still meanwhile, nor hold memory for it afterwards.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from lab.page.plain_json import PlainResponse
from microgpt.checkpoint.newest import NEWEST, step_path, stored_steps
from microgpt.support.isolation import isolated

PAGE = Path(__file__).parent / "static" / "anatomy.html"
MOST_LETTERS = 128  # of a document: what is drawn grows with their square
MOST_WAITING = 8  # requests
MOST_KEPT = 64  # answers
MOST_BYTES = 32 << 20  # of an answer
SECONDS = 60.0  # after which one is given up


class RefusedError(Exception):
    """A request cannot be fulfilled: an HTTP status, and one sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Anatomist:
    """Answers for the run in ``run_dir``."""

    run_dir: Path
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0
    _kept: OrderedDict[tuple[object, ...], bytes] = field(default_factory=OrderedDict)

    async def page(self, request: Request) -> Response:
        """The view."""
        return FileResponse(PAGE)

    async def checkpoints(self, request: Request) -> Response:
        """``{"checkpoints": [steps]}`` of files, the earliest first; the newest may have none."""
        return PlainResponse({"checkpoints": await asyncio.to_thread(self._steps)})

    async def anatomy(self, request: Request) -> Response:
        """What ``microgpt anatomy --json`` prints, for ``checkpoint=STEP`` and ``document=TEXT``.

        Without a step it is the newest one's, without a document one that the model invents.
        """
        try:
            step, document = read_query(request)
            body = await self._find(step, document)
        except RefusedError as error:
            return PlainResponse({"error": str(error)}, error.status)
        return Response(body, media_type="application/json")

    def _steps(self) -> list[int]:
        try:
            return sorted(stored_steps(self.run_dir))
        except OSError:
            return []

    async def _find(self, step: int | None, document: str | None) -> bytes:
        key = (step, document, self._stamp(step))
        if (known := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return known
        if self._waiting >= MOST_WAITING:
            raise RefusedError(503, "too many ask at once: try again")
        self._waiting += 1
        try:
            async with self._turn:
                # Somebody before us may have asked for the same.
                found = self._kept.get(key) or await self._compute(step, document)
        finally:
            self._waiting -= 1
        self._kept[key] = found
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def _stamp(self, step: int | None) -> object:
        """Another one when the checkpoint in question is."""
        path = self.run_dir / NEWEST if step is None else step_path(self.run_dir, step)
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    async def _compute(self, step: int | None, document: str | None) -> bytes:
        flags = ["--json"] if step is None else ["--json", f"--step={step}"]
        given = [] if document is None else [document]
        command = isolated("lab.anatomy", *flags, "--", str(self.run_dir), *given)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MOST_BYTES,
        )
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            raise RefusedError(503, "it took too long: try a shorter document") from None
        finally:
            if process.returncode is None:  # nobody waits any more
                process.kill()
                await process.wait()
        if process.returncode:
            raise RefusedError(400, last_words(err))
        if len(out) > MOST_BYTES:
            raise RefusedError(400, "there would be too much to draw: try a shorter document")
        return out


def read_query(request: Request) -> tuple[int | None, str | None]:
    """The step and the document that are asked for, None where any will do. Raises RefusedError."""
    query = request.query_params
    text = query.get("checkpoint", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise RefusedError(400, "checkpoint: the number of a step is wanted")
    document = query.get("document")
    if document is not None and len(document) > MOST_LETTERS:
        raise RefusedError(400, f"the document is longer than {MOST_LETTERS} letters")
    if document is not None and "\0" in document:
        raise RefusedError(400, "the document has a letter that no model knows")
    return int(text) if text else None, document


def last_words(err: bytes) -> str:
    """The sentence with which a program of ours has ended."""
    lines = err.decode(errors="replace").strip().splitlines()
    found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return found[-1] if found else "it could not be computed"
