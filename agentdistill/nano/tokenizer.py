"""The nano models' tokenizer: a byte-level BPE of about a thousand tokens, trained on the environments' own text.

Three things make an episode cheap and arithmetic learnable:

* digits, and where expressions are read operators and brackets, are always tokens of their own, so that a number is read digit by digit
  and an expression symbol by symbol;
* everything else may merge, across blanks and line ends too, so that a fixed phrase such as ``"name": "calculator", "arguments": ``
  costs one token;
* the header of a turn (``assistant`` and its line end) never merges with what follows, so that the text after a generation prompt has
  the same tokens wherever it is encoded.

Every byte is in the vocabulary: any Unicode text survives encoding and decoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
SPECIAL_TOKENS = (
    PADDING,
    "<|im_start|>",
    END_OF_TURN,
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
"""Single tokens, ids 0 to 8 in this order."""

_HEADER = r"\A(?:system|user|assistant|tool)\n"
_TAG = r"</?tools>"
DIGITS = "0123456789"
OPERATORS = "+-*/%=<>^&|~!"
SYMBOLS = f"{DIGITS}{OPERATORS}()[]{{}}"
_SMALLEST = len(SPECIAL_TOKENS) + 256


def chat_template() -> str:
    """The nano models' chat template: ChatML turns, tools in the system turn, calls and responses as Hermes and Qwen write them."""
    return Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 1024, single: str = SYMBOLS, words: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Train the tokenizer and attach the chat template.

    Args:
        texts: rendered conversations, best in the proportion in which the models will see them.
        vocab_size: upper bound of the number of tokens, special ones included; small corpora give fewer.
        single: characters that are always tokens of their own.
        words: never merge with what is around them, so that each is the same token, or tokens, wherever it stands.

    Raises:
        ValueError: ``vocab_size`` has no room for the bytes and special tokens.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < _SMALLEST:
        raise ValueError(f"vocab_size={vocab_size} is too small: {_SMALLEST} tokens are needed for the bytes and special tokens")
    tokenizer = Tokenizer(models.BPE())
    whole = "".join(rf"|\b{re.escape(word)}\b" for word in words)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{_HEADER}|{_TAG}|[{re.escape(single)}]{whole}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    tokenizer.add_special_tokens(specials)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_segments(texts), trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        chat_template=chat_template(),
        clean_up_tokenization_spaces=False,
        model_max_length=1_000_000,
    )


def _segments(texts: Iterable[str]) -> Iterable[str]:
    """What lies between special tokens: the trainer itself does not cut there."""
    border = re.compile("|".join(re.escape(token) for token in SPECIAL_TOKENS))
    for text in texts:
        yield from (piece for piece in border.split(text) if piece)
