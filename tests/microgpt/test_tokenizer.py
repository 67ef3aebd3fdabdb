"""Characters to ids and back, to the last expectation."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError

import pytest

from microgpt.tokenizer import Tokenizer, UnknownCharacterError

E_ACUTE = "\u00e9"  # one code point
E_COMBINING = "e\u0301"  # two code points that look the same
ASTRAL = "\U0001f600\U00010348"  # beyond the 16-bit plane
FAMILY = "\U0001f468\u200d\U0001f469"  # joined by a zero-width joiner: three code points


def test_alphabet_is_sorted_without_repetition_over_all_documents() -> None:
    assert Tokenizer.from_documents(["cab", "bad", "zab"]) == Tokenizer("abcdz")


def test_order_and_repetition_of_documents_do_not_matter() -> None:
    documents = ["emma", "olivia", "ava", "emma"]
    assert Tokenizer.from_documents(documents) == Tokenizer.from_documents(reversed(documents))


def test_documents_may_be_a_generator() -> None:
    assert Tokenizer.from_documents(word for word in ("b", "a")).chars == "ab"


def test_bos_is_the_last_id_and_counts_in_the_vocabulary() -> None:
    tokenizer = Tokenizer("abcdefghijklmnopqrstuvwxyz")
    assert tokenizer.bos == 26
    assert tokenizer.vocab_size == 27


def test_encode_puts_bos_on_both_sides() -> None:
    tokenizer = Tokenizer("abcdefghijklmnopqrstuvwxyz")
    assert tokenizer.encode("emma") == [26, 4, 12, 12, 0, 26]
    assert tokenizer.encode("") == [26, 26]


def test_a_large_alphabet_is_not_looked_through_for_every_document() -> None:
    letters = [chr(0x4E00 + number) for number in range(5000)]
    tokenizer = Tokenizer("".join(letters))
    documents = [letters[(7 * at) % 5000] + letters[(11 * at) % 5000] for at in range(20_000)]
    began = time.process_time()
    encoded = [tokenizer.encode(document) for document in documents]
    assert time.process_time() - began < 1.0  # with a new table for each it took 5 s and more
    assert encoded == [[5000, (7 * at) % 5000, (11 * at) % 5000, 5000] for at in range(20_000)]


def test_encode_text_has_no_bos() -> None:
    tokenizer = Tokenizer("abc")
    assert tokenizer.encode_text("cab") == [2, 0, 1]
    assert tokenizer.encode_text("") == []


def test_decode_leaves_bos_out_wherever_it_is() -> None:
    tokenizer = Tokenizer("abc")
    assert tokenizer.decode([3, 2, 0, 3, 1, 3]) == "cab"
    assert tokenizer.decode([3, 3]) == ""
    assert tokenizer.decode([]) == ""


def test_one_character_is_an_alphabet() -> None:
    tokenizer = Tokenizer("a")
    assert (tokenizer.bos, tokenizer.vocab_size) == (1, 2)
    assert tokenizer.encode("aa") == [1, 0, 0, 1]


def test_order_is_by_code_point() -> None:
    tokenizer = Tokenizer.from_documents(["a B", E_ACUTE, "z", ASTRAL, "\uffee"])
    assert list(tokenizer.chars) == [
        " ",
        "B",
        "a",
        "z",
        E_ACUTE,
        "\uffee",
        "\U00010348",
        "\U0001f600",
    ]


def test_an_astral_character_is_one_token() -> None:
    tokenizer = Tokenizer.from_documents([ASTRAL])
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode(ASTRAL) == [2, 1, 0, 2]


def test_combining_marks_are_tokens_of_their_own_and_nothing_is_normalised() -> None:
    tokenizer = Tokenizer.from_documents([E_ACUTE, E_COMBINING])
    assert tokenizer.chars == "e" + E_ACUTE + "\u0301"
    assert tokenizer.encode_text(E_ACUTE) == [1]
    assert tokenizer.encode_text(E_COMBINING) == [0, 2]
    assert tokenizer.decode([0, 2]) == E_COMBINING


def test_joined_emoji_fall_into_code_points() -> None:
    tokenizer = Tokenizer.from_documents([FAMILY])
    assert tokenizer.chars == "\u200d\U0001f468\U0001f469"
    assert tokenizer.encode_text(FAMILY) == [1, 0, 2]


@pytest.mark.parametrize(
    "text", ["", "emma", "a\tb c", E_ACUTE, E_COMBINING, ASTRAL, FAMILY, "\u2028\x00\x0c", "山田"]
)
def test_round_trip(text: str) -> None:
    tokenizer = Tokenizer.from_documents([text, "x"])
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_unknown_character_is_named_once() -> None:
    with pytest.raises(UnknownCharacterError) as caught:
        Tokenizer("abc").encode("zazb\n")
    assert str(caught.value) == "the model knows no '\\n', 'z'; it knows 'abc'"


def test_the_unknown_may_be_astral() -> None:
    with pytest.raises(UnknownCharacterError, match="\U0001f600"):
        Tokenizer("abc").encode_text("a\U0001f600")


def test_many_unknown_characters_keep_the_message_short() -> None:
    with pytest.raises(UnknownCharacterError) as caught:
        Tokenizer("a").encode("bcdefghijklmnopqrstuvwxyz")
    message = str(caught.value)
    assert "'b'" in message
    assert "'k'" in message
    assert "'l'" not in message


def test_unknown_characters_are_a_value_error() -> None:
    assert issubclass(UnknownCharacterError, ValueError)


@pytest.mark.parametrize("token", [-1, 4, 1000])
def test_an_id_outside_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 3"):
        Tokenizer("abc").decode([0, token])


@pytest.mark.parametrize("chars", ["", "ba", "aab", "abA"])
def test_what_is_no_sorted_alphabet_is_refused(chars: str) -> None:
    with pytest.raises(ValueError, match="sorted text without repeated characters, not empty"):
        Tokenizer(chars)


@pytest.mark.parametrize("documents", [[], [""], ["", ""]])
def test_documents_without_characters_have_no_alphabet(documents: list[str]) -> None:
    with pytest.raises(ValueError, match="not empty"):
        Tokenizer.from_documents(documents)


def test_a_tokenizer_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Tokenizer("abc").chars = "abcd"  # type: ignore[misc]
