"""A process beside the coordinator that computes what workers contradict each other about.

It is started for one question and ends with it, so that the coordinator never loads an engine and
its loop never waits.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping

import msgpack

from coordinator.core.actions import Judge
from coordinator.core.inputs import Judged
from microgpt.protocol import messages
from microgpt.support.isolation import isolated

MODULE = "microgpt.engine.judge"
LIMIT_SECONDS = 300.0  # for one shard; compiling the fast engine takes some seconds


class JudgeProcess:
    """Computes one shard at a time of ``model`` (fields of GPTConfig) in a child process.

    ``recipe``: what replicas do, as ``microgpt.replicas.recipe`` writes it. ``report`` is called
    from a thread, once for each question: after ``limit`` seconds at the latest.
    """

    def __init__(
        self,
        model: Mapping[str, int],
        recipe: Mapping[str, str | int | float | bool],
        report: Callable[[Judged], None],
        limit: float = LIMIT_SECONDS,
    ) -> None:
        self._recipe = dict(recipe)
        self._model, self._report, self._limit = dict(model), report, limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def ask(self, question: Judge) -> None:
        """Start the process; returns at once."""
        threading.Thread(target=self._judge, args=(question,), name="judge", daemon=True).start()

    def close(self) -> None:
        """Ask nobody any more, and wait for nobody."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _judge(self, question: Judge) -> None:
        try:
            verdict = self._run(question)
        except Exception as error:  # whatever it is: the run waits for an answer
            verdict = Judged(None, f"{type(error).__name__}: {error}")
        self._report(verdict)

    def _run(self, question: Judge) -> Judged:
        request = msgpack.packb({
            "model": self._model,
            "weights": messages.encode(question.weights),
            "task": messages.encode(question.task),
            "before": [messages.encode(message) for message in question.before],
            "recipe": self._recipe,
        })  # fmt: skip
        process = self._start()
        try:
            output, words = process.communicate(request, self._limit)
        except subprocess.TimeoutExpired:
            return Judged(None, f"it takes longer than {self._limit:g} s")
        finally:
            with self._lock:
                self._process = None
            process.kill()
            process.wait()
        if process.returncode != 0:
            lines = words.decode(errors="replace").strip().splitlines()
            ended = f"the process ended with {process.returncode}"
            return Judged(None, lines[-1][:200] if lines else ended)
        verdict = messages.decode(output)
        if not isinstance(verdict, (messages.ShardResult, messages.Failure)):
            return Judged(None, f"a {type(verdict).__name__} is no verdict")
        return Judged(verdict)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise RuntimeError("the run is over")
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                isolated(MODULE, str(os.getpid())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
            return self._process
