"""Messages to tokens and back, for one tokenizer.

    messages ──start──> TokenBuffer ──context──> policy ──ids──> parse ──> Message
                            ^ commit(ids), extend(replies) ─────────────────┘

A renderer is cheap to share: all running episodes of one model use the same one. It never makes ids of sampled text again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from agentdistill.errors import ConfigError, unknown
from agentdistill.render.buffer import TokenBuffer
from agentdistill.render.drift import Drift, replaced
from agentdistill.render.fingerprint import TokenizerFingerprint, fingerprint
from agentdistill.render.history import HistoryProbe
from agentdistill.render.parsers import ToolCallParser, get_parser
from agentdistill.render.parsers.base import THINK
from agentdistill.render.template import ChatTemplate
from agentdistill.types import Message, ToolSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

History = Literal["append", "template"]
_OTHER_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<end_of_turn>", "<turn|>")


class Renderer:
    """Renders the conversations of one model.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        parser: how the model writes tool calls: a name (``hermes``, ``llama3``, ``mistral``, or a registered one) or a parser.
        history: what happens where the template would rewrite earlier turns (Qwen3 drops the reasoning of turns before the last
            question). ``append``: nothing is rewritten, the sampled tokens stay. ``template``: the template has its way, and a new
            segment begins with the whole rewritten context.
        template_options: further variables of the template, for instance ``{"enable_thinking": False}``.

    Raises:
        ConfigError: no such parser or history, no chat template, or a template in which a turn has no end.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        parser: str | ToolCallParser = "hermes",
        history: History = "append",
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        if history not in ("append", "template"):
            raise ConfigError(unknown("history", history, ("append", "template")))
        self.tokenizer = tokenizer
        self.parser = get_parser(parser) if isinstance(parser, str) else parser
        self.history: History = history
        self.template = ChatTemplate(tokenizer, self.parser, template_options or {})
        self.probe = HistoryProbe(self.template)
        self.stop_ids = self._find_stops()
        self.vocab_size: int = max(tokenizer.get_vocab().values()) + 1
        """Ids that mean something. A model's head may be padded beyond them."""

    def start(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> TokenBuffer:
        """A buffer for a conversation that begins with ``messages``."""
        return TokenBuffer(self, messages, tools)

    def parse(self, token_ids: Sequence[int]) -> Message:
        """The message that a completion says; an end-of-turn token at its end is not part of it. Malformed calls carry ``error``."""
        return self._parse_text(self.template.decode_inside(self.without_stop(token_ids)))

    def encode(self, message: Message) -> tuple[int, ...]:
        """Ids of a completion that says ``message``, as the template writes it behind the generation prompt, end-of-turn token included.

        Raises:
            ConfigError: the template cannot write this message.
        """
        return tuple(self.template.encode_inside(self.template.body(message) + self.template.closing))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens written out."""
        return self.template.decode(ids)

    def without_stop(self, ids: Sequence[int]) -> Sequence[int]:
        return ids[:-1] if ids and ids[-1] in self.stop_ids else ids

    def fingerprint(self, model_vocab: int | None = None) -> TokenizerFingerprint:
        """What must agree between student and teacher. ``model_vocab``: rows of the model's output matrix, which may be padded."""
        return fingerprint(self.tokenizer, model_vocab)

    def drift(self, ids: Sequence[int], message: Message) -> tuple[Drift, int]:
        """What re-encoding the completion would have done, and to how many of its tokens."""
        said = list(self.without_stop(ids))
        text = self.template.decode_inside(said)
        again = self.template.encode_inside(text)
        try:
            written = self.template.body(message)
        except ConfigError:
            return "forked", len(said)
        lost = again != said and ("\ufffd" in text or self.template.decode_inside(again) != text)
        if lost or text not in (written, written.removeprefix(self.template.lead)):
            return "forked", max(replaced(said, self.template.encode_inside(written)), 1)
        return ("clean", 0) if again == said else ("realigned", max(replaced(said, again), 1))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _parse_text(self, text: str) -> Message:
        if self.template.opens_thinking:
            return self.parser.parse(THINK + text)
        return self.parser.parse(text.removeprefix(self.template.lead))

    def _find_stops(self) -> frozenset[int]:
        special = {token.content: id for id, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        stops = {special[token] for token in _OTHER_ENDS if token in special} | {self.template.end_id}
        return frozenset(stops if self.tokenizer.eos_token_id is None else stops | {self.tokenizer.eos_token_id})
