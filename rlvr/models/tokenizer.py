"""Tokenizers: one built here with a token per character, and the loading of a model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from rlvr.recipe.schema import ModelConfig

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"

# Plain text between the turns: the special tokens are never written out, so that no prompt can contain one.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def build_character_tokenizer(
    characters: str, directory: Path | None = None, chat_template: str | None = None
) -> PreTrainedTokenizerFast:
    """A tokenizer with one token per character, saved to `directory` when given.

    Ids: 0 <pad>, 1 <eos>, 2 <unk>, then the distinct characters in sorted order. pad and eos differ. Text over the
    alphabet survives encoding and decoding exactly; another character becomes <unk>. The text "<eos>" in a prompt is
    five characters, never the eos token.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([PAD, EOS, UNKNOWN, *sorted(set(characters))])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        padding_side="left",
    )
    tokenizer.chat_template = chat_template or CHAT_TEMPLATE
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(directory)
    return tokenizer


def load_tokenizer(
    path: str | Path, model: ModelConfig | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory or hub id, with the recipe's chat template where it writes one."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if model is not None:
        options = {"revision": model.revision or "main", "trust_remote_code": model.trust_remote_code}
    loader: Any = PreTrainedTokenizerFast if _is_generic(Path(path)) else AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(str(path), **options)
    if model is not None and model.chat_template is not None:
        tokenizer.chat_template = model.chat_template
    return tokenizer


def _is_generic(directory: Path) -> bool:
    """Whether a directory asks for the class that takes tokenizer.json as it is, as the one built here does.

    AutoTokenizer disregards that beside a qwen2 config and puts Qwen's own splitting in its place, which loses every
    space (transformers 5, MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS). TODO(transformers trusts the class): drop this.
    """
    try:
        settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return settings.get("tokenizer_class") == "TokenizersBackend" and (directory / "tokenizer.json").is_file()
