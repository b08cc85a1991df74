"""Prompts are tokenised once, without a second bos (R11); overlong ones are counted and left out (R16)."""

import json

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from rlvr.errors import RecipeError
from rlvr.models.tokenizer import build_character_tokenizer
from rlvr.recipe.schema import AdditionSource, JsonlSource, TemplateConfig
from rlvr.tasks.alphabet import PRINTABLE
from rlvr.tasks.prompts import build_prompts, demonstration_ids

ASCII = build_character_tokenizer(PRINTABLE)
ADDITION = AdditionSource(source="addition", size=20)


def rows(tmp_path, *found):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, found)))
    return JsonlSource(source="jsonl", path=str(path))


def tokenizer_with_bos():
    """Adds <s> in front of every text, as Llama's tokenizer does; its chat template writes <s> itself."""
    backend = Tokenizer(
        WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2, "hello": 3, "user": 4, "bot": 5}, unk_token="<unk>")
    )
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "<s>{% for m in messages %}user {{ m['content'] }}{% endfor %} bot"
    return tokenizer


def test_prompts_carry_what_the_row_knows():
    built = build_prompts(ADDITION, TemplateConfig(), ASCII, 16)
    prompt, demonstration = built.prompts[0], built.demonstrations[0]
    assert ASCII.decode(list(prompt.token_ids)) == prompt.text
    a, b = prompt.columns["operands"]
    assert (prompt.text, prompt.answer, prompt.domain) == (f"{a}+{b}=", str(a + b), "default")
    assert demonstration.endswith(f"\\boxed{{{a + b}}}")
    assert built.num_overlong == 0
    assert prompt.columns["hint"] == f"{a % 10}+{b % 10}={a % 10 + b % 10}"
    assert set(prompt.columns) == {"hint", "operands"}


def test_the_template_wraps_the_question():
    [first, *_] = build_prompts(ADDITION, TemplateConfig(text="Q: {prompt} {x}\nA:"), ASCII, 99).prompts
    a, b = first.columns["operands"]
    assert first.text == f"Q: {a}+{b}= {{x}}\nA:"


def test_overlong_prompts_are_counted_and_left_out(tmp_path):
    source = rows(tmp_path, *({"prompt": "x" * length, "answer": "1"} for length in (3, 9, 4, 5)))
    built = build_prompts(source, TemplateConfig(), ASCII, 4)
    assert [len(prompt.token_ids) for prompt in built.prompts] == [3, 4]
    assert built.num_overlong == 2
    assert built.demonstrations is None
    with pytest.raises(RecipeError, match=r"rollout.max_prompt_tokens=2: all 4 prompts"):
        build_prompts(source, TemplateConfig(), ASCII, 2)


def test_ids_depend_on_content_and_position_only(tmp_path):
    source = rows(
        tmp_path, {"prompt": "long" * 9, "answer": "1"}, {"prompt": "a", "answer": "2"}, {"prompt": "a", "answer": "2"}
    )
    everything = build_prompts(source, TemplateConfig(), ASCII, 99).prompts
    short = build_prompts(source, TemplateConfig(text="{prompt}!"), build_character_tokenizer("a"), 9).prompts
    assert [prompt.id for prompt in short] == [prompt.id for prompt in everything[1:]]
    assert len({prompt.id for prompt in everything}) == 3


def test_one_bos_with_and_without_a_chat_template(tmp_path):
    source = rows(tmp_path, {"prompt": "hello", "answer": "1"})
    tokenizer = tokenizer_with_bos()
    assert build_prompts(source, TemplateConfig(), tokenizer, 9).prompts[0].token_ids == (0, 3)
    assert build_prompts(source, TemplateConfig(chat=True), tokenizer, 9).prompts[0].token_ids == (0, 4, 3, 5)
    assert build_prompts(source, TemplateConfig(text="<s> {prompt}"), tokenizer, 9).prompts[0].token_ids == (0, 3)


def test_chat_messages_system_and_template(tmp_path):
    source = rows(
        tmp_path, {"prompt": [{"role": "system", "content": "old"}, {"role": "user", "content": "hi"}], "answer": "1"}
    )
    template = TemplateConfig(chat=True, system="be brief", text="{prompt}?")
    [prompt] = build_prompts(source, template, ASCII, 99).prompts
    assert prompt.text == "system: be brief\nuser: hi?\nassistant: "
    with pytest.raises(RecipeError, match=r"task.template.chat=false: the rows hold chat messages"):
        build_prompts(source, TemplateConfig(), ASCII, 99)


def test_a_missing_chat_template_is_named(tmp_path):
    tokenizer = tokenizer_with_bos()
    tokenizer.chat_template = None
    with pytest.raises(RecipeError, match="the tokenizer has no chat template"):
        build_prompts(rows(tmp_path, {"prompt": "a", "answer": "1"}), TemplateConfig(chat=True), tokenizer, 99)


def test_a_demonstration_ends_in_eos():
    ids = demonstration_ids("1+1", ASCII)
    assert ids[-1] == ASCII.eos_token_id
    assert ASCII.decode(ids[:-1]) == "1+1"
