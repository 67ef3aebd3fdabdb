"""A run as files that TensorBoard shows, written by tensorboardX: an extra, ``[tensorboard]``.

A file begins with a session's start at step 0: what an earlier export of the same run has left in
the folder does not count any more.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.export.rows import Row
from microgpt.support.cli import UserError

SCORES = ("loss", "validation_loss")  # by which settings are compared


class TensorBoard:
    """Writes into the folder, which is made. Raises UserError where that cannot be."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            from tensorboardX import summary
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import RecordWriter
        except ImportError as error:
            text = f"--tensorboard needs tensorboardX: pip install tensorboardX ({error})"
            raise UserError(text) from error
        self._summary, self._events, self._pb = summary, event_pb2, summary_pb2
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.microgpt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = RecordWriter(str(folder / name))
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from error
        self._now = time.time()
        self._put(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._put(step=0, session_log=start)
        self._describe(settings)

    def _describe(self, settings: Mapping[str, Any]) -> None:
        shown = {name: value for name, value in settings.items() if value is not None}
        for part in self._summary.hparams(shown, dict.fromkeys(SCORES, 0.0)):
            self._put(step=0, summary=part)
        table = ["| setting | value |", "| --- | --- |"]
        table += [f"| {_cell(name)} | {_cell(value)} |" for name, value in shown.items()]
        self._put(step=0, summary=self._summary.text("settings", "\n".join(table)))

    def write(self, row: Row) -> None:
        """Add what is known of a step. Raises OSError."""
        self._now = row.time if row.time is not None else self._now
        summary = self._pb.Summary()
        for name, value in row.values.items():
            summary.value.add(tag=name, simple_value=value)
        self._put(step=row.step, summary=summary)

    def write_samples(self, step: int, documents: Sequence[str]) -> None:
        """Add what the model invents after a step. Raises OSError."""
        lines = "\n".join(f"- {_cell(document) or '(nothing)'}" for document in documents)
        self._put(step=step, summary=self._summary.text("samples", lines))

    def flush(self) -> None:
        """Let others see it. Raises OSError."""
        self._file.flush()

    def close(self) -> None:
        """The end. Raises OSError."""
        self.flush()
        self._file.close()

    def _put(self, **fields: Any) -> None:
        event = self._events.Event(wall_time=self._now, **fields)
        self._file.write(event.SerializeToString())


def _cell(value: object) -> str:
    """As Markdown that means nothing by itself."""
    text = str(value).replace("\\", "\\\\").replace("\n", " ")
    return "".join(f"\\{char}" if char in "|`*_<>[]#" else char for char in text)
