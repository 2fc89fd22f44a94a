"""Gemma's tokenizer: BPE with bytes to fall back on, and its chat templates.

A small one, made as theirs is: spaces are written as a mark and text is cut
after them, unknown characters are bytes, runs of newlines are words.
"""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import tokenizers as library

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import chat, templates
from tests import pretrained_tokenizers_test as others

SPECIAL = (
  "<pad>",
  "<eos>",
  "<bos>",
  "<unk>",
  "<start_of_turn>",
  "<end_of_turn>",
)
PAD, EOS, BOS, UNKNOWN, START, END = range(6)
ALPHABET = (
  "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'<>_|"
)
MERGES = (
  ("t", "h"),
  ("th", "e"),
  ("▁", "▁"),
  ("u", "s"),
  ("us", "e"),
  ("use", "r"),
  ("m", "o"),
  ("d", "e"),
  ("mo", "de"),
  ("mode", "l"),
)
ADDED = ("\n", "\n\n", "\n\n\n", "▁▁▁")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
MERGED = ["".join(pair) for pair in MERGES]
IDS = {
  word: i
  for i, word in enumerate([*SPECIAL, *ADDED, *BYTES, *ALPHABET, *MERGED])
}
# As they are published.
GEMMA2 = (
  "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception("
  "'System role not supported') }}{% endif %}{% for message in messages %}"
  "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
  "{{ raise_exception('Conversation roles must alternate user/assistant/"
  "user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}"
  "{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
  "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim"
  " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
  "{{'<start_of_turn>model\n'}}{% endif %}"
)
GEMMA3 = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""  # noqa: E501


def files(folder, template=GEMMA2):
  """tokenizer.json and what stands beside it, as Gemma's are."""
  folder.mkdir(exist_ok=True)
  made = library.Tokenizer(
    library.models.BPE(
      IDS,
      list(MERGES),
      unk_token="<unk>",
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  made.normalizer = library.normalizers.Replace(" ", "▁")
  made.pre_tokenizer = library.pre_tokenizers.Split(" ", "merged_with_previous")
  made.decoder = library.decoders.Sequence(
    [
      library.decoders.Replace("▁", " "),
      library.decoders.ByteFallback(),
      library.decoders.Fuse(),
    ]
  )
  made.post_processor = library.processors.TemplateProcessing(
    single="<bos> $A",
    pair="<bos> $A <bos>:1 $B:1",
    special_tokens=[("<bos>", BOS)],
  )
  made.add_special_tokens(list(SPECIAL))
  made.add_tokens([library.AddedToken(x, normalized=False) for x in ADDED])
  made.save(str(folder / "tokenizer.json"))
  names = dict(zip(("pad", "eos", "bos", "unk"), SPECIAL))
  about = {f"{name}_token": text for name, text in names.items()}
  about |= {"add_bos_token": True, "add_eos_token": False}
  about |= {"tokenizer_class": "GemmaTokenizer", "chat_template": template}
  (folder / "tokenizer_config.json").write_text(json.dumps(about))
  stops = {"eos_token_id": [EOS, END], "bos_token_id": BOS, "pad_token_id": PAD}
  (folder / "generation_config.json").write_text(json.dumps(stops))
  return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
  return tokenizers.load(files(tmp_path_factory.mktemp("gemma") / "t"))


@pytest.mark.parametrize("text", [*others.TEXTS, *others.ODD])
def test_every_text_comes_back(gemma, text):
  ids = gemma.encode(text)
  # The mark that spaces are written as is a space when it is read.
  assert gemma.decode(ids) == text.replace("▁", " ")
  assert not set(ids) & set(range(6))


def test_what_starts_and_ends_a_text(gemma):
  assert gemma.start_ids == (BOS,)
  assert (gemma.eot_id, gemma.pad_id) == (EOS, PAD)
  assert gemma.stop_ids == (EOS, END)
  assert gemma.encode("the\n\n é") == [
    IDS["the"],
    IDS["\n\n"],
    *(IDS[x] for x in ("▁", "<0xC3>", "<0xA9>")),
  ]


def test_a_prompt_in_its_template(gemma):
  prompt = "the\n\nAssistant: <end_of_turn>\n\nHuman: user"
  (ids,) = templates.encode([prompt], gemma, "chat_template")
  newline, the, user, model = (IDS[x] for x in ("\n", "the", "user", "model"))
  assert ids == [
    *(BOS, START, user, newline, the, END, newline),
    *(START, model, newline, *gemma.encode("<end_of_turn>"), END, newline),
    *(START, user, newline, user, END, newline),
    *(START, model, newline),
  ]


@pytest.mark.parity
@pytest.mark.parametrize("template", [GEMMA2, GEMMA3], ids=["2", "3"])
def test_transformers_has_the_same_ids(template, tmp_path):
  transformers = pytest.importorskip("transformers")
  ours = tokenizers.load(files(tmp_path / "in", template))
  ours.export(tmp_path / "out")
  for folder in ("in", "out"):
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / folder)
    for text in [*others.TEXTS[:-1], *others.ODD]:
      assert theirs(text)["input_ids"] == [BOS, *ours.encode(text)], text
    prompts = ["hi", " spaces \n", "a\n\nAssistant: b \n\nHuman: c"]
    rows = templates.encode(prompts, ours, "chat_template")
    for prompt, ids in zip(prompts, rows):
      expected = theirs.apply_chat_template(
        templates.messages(prompt),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
      )
      assert ids == list(expected), prompt


def test_a_template_without_a_system_role_says_so():
  names = (("bos_token", "<bos>"),)
  with pytest.raises(errors.UserError, match="System role not supported"):
    chat.slotted(GEMMA2, ("system", "user"), names)


def test_a_system_turn_is_folded_into_the_first_of_the_user():
  names = (("bos_token", "<bos>"),)
  text = chat.slotted(GEMMA3, ("system", "user"), names)
  assert chat.filled(text, ["Be kind.", " hi "]) == (
    "<bos><start_of_turn>user\nBe kind.\n\nhi<end_of_turn>\n"
    "<start_of_turn>model\n"
  )
