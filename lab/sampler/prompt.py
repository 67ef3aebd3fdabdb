"""The prompt line with completion while typing. Needs prompt_toolkit."""

from __future__ import annotations

from collections.abc import Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_or_none
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from lab.sampler.show import next_line
from lab.sampler.source import Source
from microgpt.explain import completions, next_letters
from microgpt.sampling import check_prompt


class Names(Completer):
    """The likeliest documents that begin with what has been typed."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterator[Completion]:
        """Called by prompt_toolkit while the user types."""
        typed, source = document.text_before_cursor, self.source
        try:
            beginning = check_prompt(typed, source.model, source.tokenizer)
            found = completions(source.odds, source.tokenizer, source.model.block_size, beginning)
        except (ValueError, ArithmeticError):
            return  # the line below the prompt says what is wrong
        for text, probability in found:
            meta = f"{100 * probability:.1f}%"
            yield Completion(text, start_position=-len(typed), display_meta=meta)


def toolbar(source: Source, typed: str) -> str:
    """The line below the prompt: live probabilities of the next letter, or what is wrong."""
    try:
        beginning = check_prompt(typed, source.model, source.tokenizer)
        return "next: " + next_line(next_letters(source.odds, source.tokenizer, beginning))
    except ArithmeticError:
        return "the model's numbers overflow: its weights are of no use"
    except ValueError as error:
        return str(error)


def prompts(source: Source) -> Iterator[str]:
    """Lines as they are typed, until Ctrl-D."""

    def below() -> str:
        app = get_app_or_none()
        return toolbar(source, app.current_buffer.text if app else "")

    session: PromptSession[str] = PromptSession(
        "> ", completer=Names(source), complete_while_typing=True, bottom_toolbar=below
    )
    while True:
        try:
            yield session.prompt()
        except EOFError:
            return
