"""A loaded checkpoint with the options, as a source of documents."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cached_property

from lab.remote.fetch import call, fetch, is_address
from lab.sampler.known import training_documents
from lab.sampler.options import Options
from lab.sampler.speed import choose
from lab.terminal import warn
from microgpt import sampling
from microgpt.checkpoint.format import Checkpoint
from microgpt.checkpoint.newest import load_newest
from microgpt.explain import Letter, explain
from microgpt.sampling import Odds


def load(options: Options) -> Checkpoint:
    """From the file, run or coordinator that is named. Raises CheckpointError and UserError."""
    if not is_address(options.checkpoint):
        return load_newest(options.checkpoint, report=warn)
    with call(options.checkpoint, options.curve) as line:
        return fetch(line).checkpoint


class Source:
    """What the subcommands need of one checkpoint. All samples come from one generator in turn.

    ``loaded`` is the checkpoint, None: that which the options name. Making one raises
    CheckpointError for the file, UserError and ValueError for the options.
    """

    def __init__(self, options: Options, loaded: Checkpoint | None = None) -> None:
        self.options = options
        self.checkpoint = loaded = loaded or load(options)
        self.model, self.tokenizer = loaded.training.model, loaded.tokenizer
        self.params = loaded.state_dict()
        self.rng = loaded.rng() if options.seed is None else random.Random(options.seed)
        # Interactive answers should be quick from the first one on.
        many = 0 if options.interactive else options.num_samples
        self.extend, self.engine = choose(options.engine, loaded, self.params, many)
        self._known: frozenset[str] = frozenset()
        self._generate(options.prompt)  # complains about the options before any data is looked for
        if options.not_in_training_data:
            self._known = training_documents(loaded, options.data)

    @cached_property
    def odds(self) -> Odds:
        """Probabilities of the next letter at the temperature."""
        return Odds(self.extend, self.model.vocab_size, self.options.temperature)

    def samples(self, prompt: str) -> Iterator[str]:
        """The documents asked for. Raises ValueError for the prompt."""
        endless = self._generate(prompt)
        options = self.options
        return sampling.wanted(endless, options.num_samples, self._known, options.unique)

    def explain(self, document: str) -> list[Letter]:
        """Why these letters."""
        return explain(self.params, self.model, self.tokenizer, document, self.options.temperature)

    def _generate(self, prompt: str) -> Iterator[str]:
        options = self.options
        if options.num_samples < 0:
            raise ValueError(
                f"the number of samples cannot be negative, as {options.num_samples} is"
            )
        return sampling.generate(
            self.params,
            self.model,
            self.tokenizer,
            self.rng,
            num_samples=None,
            temperature=options.temperature,
            prompt=prompt,
            top_k=options.top_k,
            top_p=options.top_p,
            extend=self.extend,
        )
