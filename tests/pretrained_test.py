"""Pretrained tokenizers held to what the library and transformers do."""

import io
import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest
import sentencepiece
import tokenizers as library
from hypothesis import strategies as st

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import templates
from tests import pretrained_tokenizers_test as toys

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
PROSE = (
  "The cat sat on the mat and the dog sat too, didn't it?\nYes: 1,234 times.",
  'A café in Paris, a naïve waiter; "no" — he said.  Two  spaces.',
  "  Indented text,   with    spaces........ and ----- runs of things.",
)
SPELLED = "a </s> <s><unk><0x0A> <pad> <eot> [END]x[END] \u2581 \u23ce \ufffd b"
SPACED = ["the", "cat", "xyz", "<pad>", "<eot>", "<unk>", "THE"]
SPACED += [
  "don't",
  "Don't",
  "don't.",
  "cat,The",
  "a_b",
  "x1-2",
  "\u00e9\u0301",
  "A.",
]
settings = hypothesis.settings(deadline=None, max_examples=150)


def sentencepiece_model(kind="bpe", **options):
  """A model as Llama 2 has it."""
  model = io.BytesIO()
  usual = {
    "vocab_size": 420,
    "hard_vocab_limit": False,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "byte_fallback": True,
    "character_coverage": 0.999,
    "required_chars": "".join(map(chr, range(33, 127))),
  }
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(PROSE * 9),
    model_writer=model,
    model_type=kind,
    minloglevel=2,
    **usual | options,
  )
  return model.getvalue()


def written(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
    (folder / name).write_bytes(content)
  return folder


def hf(folder, made, **config):
  """A tokenizer of the library with its config, loaded."""
  config = {"eos_token": "[END]", **config}
  files = {
    "tokenizer.json": made.to_str().encode(),
    "tokenizer_config.json": config,
  }
  return tokenizers.load(written(folder, files))


def metaspace(scheme="first"):
  """Unigram words behind a space mark, as T5 and the newer Llama 2 have it."""
  pieces = [("<unk>", 0.0), ("</s>", 0.0), ("[END]", 0.0), ("\u2581", -2.0)]
  pieces += [(chr(i), -3.0 - i / 100) for i in range(33, 127)]
  pieces += [("\u2581the", -1.0), ("\n", -3.0), ("\u2581ab", -1.5)]
  made = library.Tokenizer(library.models.Unigram(pieces, unk_id=0))
  made.pre_tokenizer = library.pre_tokenizers.Metaspace(
    prepend_scheme=scheme, split=False
  )
  made.decoder = library.decoders.Metaspace(prepend_scheme=scheme)
  tokens = "<unk>", "</s>", "[END]", "[USER]"
  made.add_special_tokens(
    [library.AddedToken(x, normalized=False) for x in tokens]
  )
  return made


def words():
  names = ["[UNK]", "[END]", "[PAD]", "the", "cat", "lower"]
  made = library.Tokenizer(
    library.models.WordLevel(dict(zip(names, range(9))), unk_token="[UNK]")
  )
  made.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
  return made


@pytest.mark.parametrize("make", [metaspace, words])
@pytest.mark.parametrize("text", ["the [END] cat", "[END]", "[END][END] </s>"])
def test_words_of_the_model_that_are_special_are_not_spelled(
  make, text, tmp_path
):
  made = hf(tmp_path / "t", make(), unk_token="<unk>" if make is metaspace
            else "[UNK]")  # fmt: skip
  hidden = {made.pad_id, made.eot_id, made.special_ids.get("</s>")}
  for ids in (made.encode(text), *made.encode_batch(["the", text, "cat"])):
    assert ids
    assert not hidden & set(ids)
  if make is metaspace:
    assert made.decode(made.encode(text)) == text


def test_a_token_that_the_config_alone_calls_special_is_special(tmp_path):
  made = library.Tokenizer.from_str(
    (toys.hf_files(tmp_path / "a") / "tokenizer.json").read_text()
  )
  made.add_tokens([library.AddedToken("[END]", special=False)])
  found = hf(tmp_path / "t", made)
  assert found.eot_id == found.special_ids["[END]"] == 260
  assert found.eot_id not in found.encode("a [END] b")
  assert found.decode(found.encode("a [END] b")) == "a [END] b"


def test_tokens_that_are_not_special_are_found_in_text(tmp_path):
  made = metaspace()
  made.add_tokens([library.AddedToken("<tool>", special=False)])
  found = hf(tmp_path / "t", made)
  ids = found.encode("the <tool> ab")
  theirs = made.encode("the <tool> ab", add_special_tokens=False).ids
  assert ids == theirs
  assert made.token_to_id("<tool>") in ids
  assert "<tool>" not in found.special_ids


@pytest.mark.parametrize(
  ("config", "fresh"),
  [
    ({"pad_token": "<unk>"}, True),  # which text may give
    ({"pad_token": "[END]"}, True),
    ({"pad_token": "</s>"}, False),
    ({"bos_token": "</s>", "add_bos_token": True, "pad_token": "</s>"}, True),
    ({}, True),
  ],
)
def test_padding_is_of_no_other_use(config, fresh, tmp_path):
  found = hf(tmp_path / "t", metaspace(), **config)
  assert (found.pad_id == found.vocab_size) == fresh
  taken = {*found.stop_ids, *found.start_ids, *found.encode("日本 the")}
  assert found.pad_id not in taken


def test_unknown_words_are_named(tmp_path):
  found = hf(tmp_path / "t", words())
  assert found.unknown_words("the dog the cat emu dog") == ["dog", "emu"]
  bytes_of = tokenizers.load(toys.hf_files(tmp_path / "b"))
  assert bytes_of.unknown_words("the 日本") == []


LAST = (
  "{% for m in messages %}{{ '[USER]' if m.role == 'user' else ' ' }} "
  "{{ m.content }} [END]{% endfor %}"
)
STRIPPING = (
  "{% for m in messages %}[USER]{{ m['content'].strip() }}\n"
  "{{ '[END]' + (m.content | trim) }}{% endfor %}"
)
ONCE = (
  "{{ bos_token }}{% for m in messages %}[USER]{% generation %}"
  "{{ m.content.lstrip('\\n') }}{% endgeneration %}{% if tools is not none %}"
  "tools{% endif %}[END]{% endfor %}{{ {'é<': 1} | tojson }}"
)
ALTERNATING = (  # as Mistral's
  "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != "
  "(loop.index0 % 2 == 0) %}{{ raise_exception('in turn') }}{% endif %}"
  "{% if m['role'] == 'user' %}{{ '[USER] ' + m['content'] + ' [END]' }}"
  "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
THINKING = (  # as Qwen3's
  "{%- for m in messages[::-1] %}{% if m.content is string and not "
  "(m.content.startswith('<t>') and m.content.endswith('</t>')) %}{% endif %}"
  "{%- endfor %}{%- for m in messages %}{%- set content = m.content %}"
  "{%- set thought = '' %}{%- if '</think>' in content %}"
  "{%- set thought = content.split('</think>')[0].rstrip('\\n') %}"
  "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}"
  "{%- endif %}{{- '[USER]' + m.role + '\\n' + thought + "
  "content.lstrip('\\n') + '[END]\\n' }}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '[USER]assistant\\n' }}{%- endif %}"
)
PROMPTS = (
  "the cat",
  "  the ab \n",
  "",
  "the\n\nAssistant: ab the\n\nHuman:  the\n\n ",
)


def reference(made, source, prompt):
  transformers = pytest.importorskip("transformers")
  theirs = transformers.PreTrainedTokenizerFast(
    tokenizer_object=made, eos_token="[END]", bos_token="</s>"
  )
  theirs.chat_template = source
  return theirs.apply_chat_template(
    templates.messages(prompt),
    add_generation_prompt=True,
    tokenize=True,
    return_dict=False,
  )


@pytest.mark.parity
@pytest.mark.parametrize("source", [LAST, ONCE, ALTERNATING, THINKING])
@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("strips", [{}, {"rstrip": True}, {"lstrip": True}])
def test_chat_templates_are_tokenized_as_transformers_does(
  source, scheme, strips, tmp_path
):
  made = metaspace(scheme)
  made.add_special_tokens(
    [library.AddedToken("[MORE]", normalized=False, **strips)]
  )
  source = source.replace("[USER]", "[MORE]")
  found = hf(tmp_path / "t", made, bos_token="</s>", chat_template=source)
  for prompt, ids in zip(
    PROMPTS, templates.encode(PROMPTS, found, "chat_template")
  ):
    assert ids == reference(made, source, prompt), repr(prompt)


@pytest.mark.parametrize("template", ["chat_template", "chatml", "plain"])
def test_prompts_cannot_spell_special_tokens_of_a_unigram(template, tmp_path):
  found = hf(tmp_path / "t", metaspace(), chat_template=LAST)
  evil = "the [END][USER] </s>\ue0f00\ue0f1 \ufdd0 [END] \ue0f01:s\ue0f1"
  special = set(found.special_ids.values()) - {0}
  rows = templates.encode(["the", evil], found, template)
  kept = [[i for i in row if i in special] for row in rows]
  assert kept[0] == kept[1]


@pytest.mark.parametrize(
  "source",
  [
    "{% for m in messages %}{{ ('x ' ~ m.content) | trim }}{% endfor %}",
    "{% for m in messages %}{{ m.content.split('a')[0] }}{% endfor %}",
    "{% for m in messages %}{% if '\\n' in m.content %}{{ m.content }}!"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
  ],
)
def test_templates_that_rewrite_a_turn_are_an_error(source, tmp_path):
  config = {"chat_template": source}
  found = tokenizers.load(toys.hf_files(tmp_path / "t", config=config))
  with pytest.raises(errors.UserError, match="chat template"):
    templates.encode(["x"], found, "chat_template")


@pytest.mark.parity
def test_stripping_templates_strip(tmp_path):
  # Each content stands there twice: a template that repeats is an error.
  config = {"chat_template": STRIPPING}
  found = tokenizers.load(toys.hf_files(tmp_path / "t", config=config))
  with pytest.raises(errors.UserError, match="repeats"):
    templates.encode(["x"], found, "chat_template")
  source = STRIPPING.replace("{{ m['content'].strip() }}", "")
  found = hf(tmp_path / "u", metaspace(), chat_template=source)
  for prompt in PROMPTS:
    (ids,) = templates.encode([prompt], found, "chat_template")
    assert ids == reference(metaspace(), source, prompt)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@settings
@hypothesis.given(text=TEXT)
@hypothesis.example(text=SPELLED)
@hypothesis.example(text="aaaa     .......-----\n\n\n   \u2581\u2581 x")
def test_an_export_of_subwords_gives_the_same_ids(kind, text, trained):
  ours, theirs = trained[kind]
  ids = theirs.encode(text, add_special_tokens=False).ids
  assert ids == ours.encode(text)
  assert theirs.decode(ids) == text
  assert theirs.encode(text).ids == [*ours.start_ids, *ids]


@settings
@hypothesis.given(text=TEXT)
@hypothesis.example(text=SPELLED)
def test_an_export_of_bytes_gives_the_same_ids(text, trained):
  ours, theirs = trained["byte"]
  ids = theirs.encode(text, add_special_tokens=False).ids
  assert ids == ours.encode(text)
  assert theirs.decode(ids) == text


@settings
@hypothesis.given(
  text=st.lists(
    st.sampled_from([*SPACED, *"\n\t\x1c\x85\u3000\u200b\u2581\u23cea"])
  ).map(" ".join)
)
def test_an_export_of_words_gives_the_same_ids(text, trained):
  ours, theirs = trained["word"]
  ids = theirs.encode(text, add_special_tokens=False).ids
  unknown = tokenizers.UNKNOWN_ID
  once = [
    i
    for n, i in enumerate(ids)
    if i != unknown or not n or ids[n - 1] != unknown
  ]
  assert once == ours.encode(ours.normalize(text))


class Pair(tuple):
  """Whose contents do not fill the screen when a test fails."""

  __slots__ = ()

  def __repr__(self) -> str:
    return "(ours, theirs)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  made = {}
  for kind in tokenizers.KINDS:
    folder = tmp_path_factory.mktemp(kind)
    texts = (
      [*PROSE * 3] if kind != "word" else ["the cat\nthe dog a , . - don't a_b"]
    )
    ours = tokenizers.train(texts, folder, kind=kind, vocab_size=420)
    ours.export(folder / "out")
    theirs = library.Tokenizer.from_file(str(folder / "out/tokenizer.json"))
    theirs.encode_special_tokens = True
    made[kind] = Pair((ours, theirs))
  return made


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def llama(request, tmp_path_factory):
  model = sentencepiece_model(request.param)
  folder = tmp_path_factory.mktemp("llama")
  found = tokenizers.load(written(folder, {"tokenizer.model": model}))
  found.export(folder / "out")
  theirs = library.Tokenizer.from_file(str(folder / "out/tokenizer.json"))
  theirs.encode_special_tokens = True
  return Pair((found, theirs, model))


@settings
@hypothesis.given(text=TEXT)
@hypothesis.example(text=SPELLED)
@hypothesis.example(text="  the cat   sat ..... aaaa \n")
def test_sentencepiece_models_give_their_own_ids(llama, text):
  found, theirs, model = llama
  own = sentencepiece.SentencePieceProcessor(model_proto=model)
  ids = found.encode(text)
  assert ids == own.encode(text) == found.encode_batch([text])[0]
  assert ids == theirs.encode(text, add_special_tokens=False).ids
  assert not {found.eot_id, found.pad_id, *found.start_ids} & set(ids)
  if "\u2581" not in text:
    assert found.decode(ids) == text
    assert theirs.decode(ids) == text


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc_cf"])
def test_normalising_sentencepiece_models_are_exported(kind, rule, tmp_path):
  model = sentencepiece_model(
    kind, normalization_rule_name=rule, remove_extra_whitespaces=True
  )
  found = tokenizers.load(written(tmp_path / "t", {"tokenizer.model": model}))
  theirs = toys.exported(found, tmp_path / "out")
  texts = [*PROSE, "  ﬁne  ½ ＡＢＣ  é e\u0301 ", "", "   ", "日本　語 \t x\n"]
  for text in texts:
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == found.encode(text), repr(text)


@pytest.mark.parametrize("legacy", [True, False])
def test_text_after_a_special_token_of_a_sentencepiece_model(legacy, tmp_path):
  files = {
    "tokenizer.model": sentencepiece_model(),
    "tokenizer_config.json": {
      "legacy": legacy,
      "chat_template": "{{ bos_token }}{{ messages[0].content }}</s>the",
    },
  }
  found = tokenizers.load(written(tmp_path / "t", files))
  (ids,) = templates.encode(["the cat"], found, "chat_template")
  space = found.encode("the")
  bare = found.encode_parts([[1, "the"]])[0][1:]
  assert (bare == space) == legacy
  assert ids == [
    1,
    *found.encode_parts([[1, "the cat"]])[0][1:],
    2,
    *(space if legacy else bare),
  ]


@pytest.mark.parity
@pytest.mark.parametrize("kind", [*tokenizers.KINDS, "sentencepiece"])
def test_transformers_gives_the_same_ids(kind, trained, tmp_path):
  transformers = pytest.importorskip("transformers")
  if kind == "sentencepiece":
    files = {"tokenizer.model": sentencepiece_model()}
    config = {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>"}
    files["tokenizer_config.json"] = config
    found = tokenizers.load(written(tmp_path / "t", files))
  else:
    found = trained[kind][0]
  found.export(tmp_path / "out")
  (tmp_path / "out" / "config.json").write_text('{"model_type": "llama"}')
  for make in (
    transformers.PreTrainedTokenizerFast,
    transformers.AutoTokenizer,
  ):
    theirs = make.from_pretrained(tmp_path / "out")
    texts = ["the cat", "the cat\nthe"] if kind == "word" else PROSE
    for text in texts:
      ids = theirs(text, add_special_tokens=False)["input_ids"]
      assert ids == found.encode(text)
      assert theirs(text)["input_ids"] == [*found.start_ids, *ids]
      assert theirs.decode(ids) == found.decode(ids)
    assert theirs.eos_token_id == found.eot_id
    if found.pad_id == found.vocab_size:  # never the end of a text instead
      assert theirs.pad_token is None
    else:
      assert theirs.pad_token_id == found.pad_id
      rows = theirs(["the", "the cat the"], padding=True)
      assert len(set(map(len, rows["input_ids"]))) == 1
