"""What stands in front of a prompt, here and in transformers, from strings."""

import json
import pathlib

import pytest
import tokenizers as library
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.tokenizers import sentencepiece_codec, start, templates
from tests import pretrained_test, tiers
from tests import pretrained_tokenizers_test as files

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data" / "gpt2_bpe"
END = files.END


def gpt2(folder):
  files.gpt2_files(folder, ("vocab.json", "merges.txt"))
  about(folder, tokenizer_class="GPT2Tokenizer")


def public_gpt2(folder):
  if not PUBLIC.exists():
    pytest.skip(f"{PUBLIC} is not here: GPT-2's own files")
  folder.mkdir()
  for old, new in zip(("encoder.json", "vocab.bpe"), files_of_gpt2):
    (folder / new).write_bytes((PUBLIC / old).read_bytes())
  about(folder, tokenizer_class="GPT2Tokenizer")


files_of_gpt2 = ("vocab.json", "merges.txt")


def opt(folder):
  """GPT-2's files with a flag, as OPT has it."""
  gpt2(folder)
  about(folder, tokenizer_class="GPT2Tokenizer", add_bos_token=True)


def byte_level(folder, special, **config):
  """A tokenizer.json of bytes that adds nothing, as Pythia and Qwen have it."""
  folder.mkdir()
  alphabet = {symbol: i for i, symbol in enumerate(files.byte_alphabet())}
  whole = library.Tokenizer(library.models.BPE(alphabet, []))
  whole.normalizer = library.normalizers.NFC()
  whole.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
  whole.decoder = library.decoders.ByteLevel()
  whole.post_processor = library.processors.ByteLevel()
  whole.add_special_tokens(special)
  whole.save(str(folder / "tokenizer.json"))
  about(folder, **config)


def neox(folder):
  names = {"bos_token": END, "eos_token": END, "unk_token": END}
  special = [END, "<|padding|>"]
  byte_level(folder, special, tokenizer_class="GPTNeoXTokenizer", **names)


def qwen(folder):
  names = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": END}
  byte_level(
    folder,
    [END, "<|im_start|>", "<|im_end|>"],
    tokenizer_class="Qwen2Tokenizer",
    add_bos_token=False,
    **names,
  )


def llama3(folder):
  files.hf_files(folder, config={"tokenizer_class": "PreTrainedTokenizerFast"})


def llama2(folder):
  """A SentencePiece model whose config says that it adds its BOS."""
  model = pretrained_test.sentencepiece_model()
  pretrained_test.written(folder, {"tokenizer.model": model})
  names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
  kind = {"tokenizer_class": "LlamaTokenizer", "legacy": False}
  about(folder, add_bos_token=True, add_eos_token=False, **kind, **names)


def mistral(folder):
  """The same as a tokenizer.json."""
  model = pretrained_test.sentencepiece_model()
  whole = sentencepiece_codec.of_pieces(model)
  whole.post_processor = library.processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", 1)]
  )
  folder.mkdir()
  whole.save(str(folder / "tokenizer.json"))
  names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
  about(
    folder, tokenizer_class="LlamaTokenizerFast", add_bos_token=True, **names
  )


def about(folder, **config):
  (folder / "tokenizer_config.json").write_text(json.dumps(config))


# family: (its tokenizer, whether it puts a BOS in front)
FAMILIES = {
  "gpt2": (gpt2, False),
  "gpt2-public": (public_gpt2, False),
  "gpt2-opt": (opt, True),
  "gpt_neox": (neox, False),
  "llama": (llama3, True),
  "llama-2": (llama2, True),
  "mistral": (mistral, True),
  "qwen2": (qwen, False),
  "qwen3": (qwen, False),
}
STRINGS = ("the cat", "The cat and\nthe mat?", "naïve café", "a")


@pytest.fixture(params=FAMILIES)
def family(request, tmp_path):
  """(name, a folder with its tokenizer, whether there is a BOS in front)."""
  make, adds = FAMILIES[request.param]
  make(tmp_path / "in")
  name = request.param.partition("-")[0]
  (tmp_path / "in" / "config.json").write_text(json.dumps({"model_type": name}))
  return name, tmp_path / "in", adds


def prompt_ids(tokenizer, text, template="plain"):
  return templates.encode([text], tokenizer, template)[0]


def test_a_prompt_starts_as_the_reference_starts_it(family):
  _, folder, adds = family
  tokenizer = tokenizers.load(folder)
  bos = tokenizer.special_names.get("bos_token")
  expected = [tokenizer.special_ids[bos]] if adds else []
  assert tokenizer.start == "reference"
  for text in STRINGS:
    ids = prompt_ids(tokenizer, text)
    assert ids == [*expected, *tokenizer.encode(text)]


@pytest.mark.parity
def test_transformers_gives_the_same_ids_before_and_after_export(
  family, tmp_path
):
  transformers = pytest.importorskip("transformers")
  _, folder, _ = family
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  for text in STRINGS:
    ids = prompt_ids(tokenizers.load(folder), text)
    assert theirs(text)["input_ids"] == ids, text
  choices = start.CHOICES
  if tokenizers.load(folder).vocab_size > 50_000:  # slow to write
    choices = ("end_of_text",)
  for choice in choices:
    try:
      tokenizer = tokenizers.load(folder, start=choice)
    except errors.UserError:  # Qwen has no BOS
      assert choice == "bos"
      continue
    out = tmp_path / choice
    tokenizer.export(out)
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    again = tokenizers.load(out)
    for text in STRINGS:
      ids = prompt_ids(tokenizer, text)
      assert theirs(text)["input_ids"] == ids, (choice, text)
      assert prompt_ids(again, text) == ids


SIZES = {  # where they differ from those of `hf_parity_test`
  "gpt2": ("gpt2", {"n_positions": 128}),
  "gpt_neox": ("neox", {}),
  "llama": ("llama3", {}),
  "mistral": ("mistral", {}),
  "qwen2": ("qwen2", {}),
  "qwen3": ("qwen3", {}),
}


def random_model(name, folder, tokenizer):
  """A random model of transformers' with the tokenizer's ids, in its folder."""
  from tests import hf_parity_test as parity

  case, changes = SIZES[name]
  kind, values = parity.CASES[case]
  if name != "gpt2":
    changes = {"max_position_embeddings": 128}
  ends = {"eos_token_id": tokenizer.eot_id, "bos_token_id": tokenizer.eot_id}
  changes |= ends | {"vocab_size": tokenizer.vocab_size, "pad_token_id": None}
  config = getattr(parity.transformers, kind)(**values | changes)
  parity.torch.manual_seed(0)
  model = parity.transformers.AutoModelForCausalLM.from_config(config)
  parity.perturbed(model).save_pretrained(folder)


def their_answers(folder, decode):
  """What `generate` says to each string, by nothing but transformers' files."""
  import torch
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
  answers = []
  for text in STRINGS:
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
      whole = model.generate(ids, max_new_tokens=8, do_sample=False)
    answers.append(decode(whole[0, ids.shape[1] :].tolist()))
  return answers


def our_answers(run):
  from instruct_jax.runs import speaker
  from tests import exchange_test

  one = speaker.open_run(epath.Path(run))
  return list(exchange_test.greedy(one, STRINGS, max_tokens=8))


@pytest.mark.parity
@pytest.mark.parametrize(
  "family",
  tiers.often(FAMILIES, "gpt2-opt", "llama-2", "qwen2"),
  indirect=True,
)
def test_the_same_greedy_answers_before_training_and_after_export(
  family, tmp_path
):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  from instruct_jax.runs import exchange

  name, folder, adds = family
  tokenizer = tokenizers.load(folder)
  random_model(name, folder, tokenizer)
  answers = our_answers(f"hf:{folder}")
  assert len(set(answers)) > 1
  assert answers == their_answers(folder, tokenizer.decode)
  if tokenizer.vocab_size > 50_000:  # slow to write
    return
  # As a data set of another `data.start` would have it.
  choice = "none" if adds else "end_of_text"
  exchange.bring_in(f"hf:{folder}", tmp_path / "run")
  tokenizers.load(folder, start=choice).save(tmp_path / "run" / "tokenizer")
  record = json.loads((tmp_path / "run" / "config.json").read_text())
  record["config"]["data"]["start"] = choice
  (tmp_path / "run" / "config.json").write_text(json.dumps(record))
  exchange.send_out(tmp_path / "run", tmp_path / "out")
  served = our_answers(tmp_path / "run")
  assert served != answers
  assert served == their_answers(tmp_path / "out", tokenizer.decode)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_a_trained_tokenizer_starts_and_is_exported_as_chosen(kind, tmp_path):
  for choice, length in (("reference", 1), ("none", 0), ("end_of_text", 1)):
    folder = tmp_path / choice
    made = tokenizers.train(
      ["the cat sat on the mat " * 9],
      folder,
      kind=kind,
      vocab_size=400,
      start=choice,
    )
    assert made.start_ids == (made.eot_id,) * length
    assert tokenizers.load(folder).start_ids == made.start_ids
    recorded = json.loads((folder / "info.json").read_text())
    assert recorded.get("start", "reference") == choice
    theirs = files.exported(made, folder / "out")
    assert theirs.encode("the cat").ids == prompt_ids(made, "the cat")


@pytest.mark.parametrize("choice", start.CHOICES)
def test_the_choice_is_saved_and_another_overrides_it(choice, tmp_path):
  llama3(tmp_path / "in")
  tokenizer = tokenizers.load(tmp_path / "in", start=choice)
  tokenizer.save(tmp_path / "run" / "tokenizer")
  saved = tokenizers.load(tmp_path / "run")
  expected = {"reference": (256,), "none": (), "end_of_text": (257,)}
  assert saved.start == choice
  assert saved.start_ids == expected.get(choice, (256,))
  assert tokenizers.load(tmp_path / "run", start="none").start_ids == ()


@pytest.mark.parametrize(("make", "ids"), [(gpt2, (261,)), (llama3, (256,))])
def test_runs_from_before_there_was_a_choice_keep_their_start(
  make, ids, tmp_path
):
  make(tmp_path / "in")
  tokenizers.load(tmp_path / "in").save(tmp_path / "run")
  info = json.loads((tmp_path / "run" / "info.json").read_text())
  del info["start"]
  (tmp_path / "run" / "info.json").write_text(json.dumps(info))
  assert tokenizers.load(tmp_path / "run").start_ids == ids


def test_unknown_choices_and_a_bos_that_is_not_there_are_errors(tmp_path):
  qwen(tmp_path / "in")
  with pytest.raises(errors.UserError, match="Did you mean 'none'"):
    tokenizers.load(tmp_path / "in", start="nonne")
  with pytest.raises(errors.UserError, match="name no bos_token"):
    tokenizers.load(tmp_path / "in", start="bos")


def test_a_prompt_of_nothing_is_one_end_of_text(tmp_path):
  gpt2(tmp_path / "in")
  tokenizer = tokenizers.load(tmp_path / "in")
  assert templates.encode(["", "a"], tokenizer, "plain") == [
    [tokenizer.eot_id],
    tokenizer.encode("a"),
  ]
  assert templates.added(tokenizer, "plain") == 0
  assert templates.added(tokenizer, "{prompt}!") == 1
  llama3(tmp_path / "llama")
  assert prompt_ids(tokenizers.load(tmp_path / "llama"), "") == [256]


@pytest.mark.parametrize(
  ("template", "spelled"),
  [
    ("<|begin|>{prompt}!", True),
    ("{prompt}!", False),
    ("chatml", False),
    ("chat_template", True),
  ],
)
def test_a_template_that_spells_the_start_gets_it_once(
  template, spelled, tmp_path
):
  source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
  files.hf_files(tmp_path / "in", config={"chat_template": source})
  tokenizer = tokenizers.load(tmp_path / "in")
  ids = prompt_ids(tokenizer, "a <|begin|> b", template)
  assert ids.count(256) == 1
  assert ids[0] == 256
  bare = tokenizers.load(tmp_path / "in", start="none")
  assert (256 in prompt_ids(bare, "a", template)) == spelled


def test_special_tokens_of_a_text_template_are_those(tmp_path):
  qwen(tmp_path / "in")
  tokenizer = tokenizers.load(tmp_path / "in")
  begin, end = (tokenizer.special_ids[f"<|im_{x}|>"] for x in ("start", "end"))
  ids = prompt_ids(tokenizer, "<|im_end|>", "<|im_start|>{prompt}<|im_end|>")
  assert ids == [begin, *tokenizer.encode("<|im_end|>"), end]
  assert ids.count(end) == 1
