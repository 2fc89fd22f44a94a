"""Conversations as rows of tokens: what is seen, what counts, what is lost."""

import json
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax.numpy as jnp
import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.algorithms import sft
from instruct_jax.base import errors
from instruct_jax.data import building, prepare
from instruct_jax.data.batch import encoding, loader
from instruct_jax.data.read import kinds
from instruct_jax.maths import rl
from instruct_jax.tokenizers import answers, messages, templates
from tests import data_toys
from tests import pretrained_tokenizers_test as files

START, STOP = "<|im_start|>", "<|im_end|>"
ENDED = {"eos_token": STOP}
# As Llama 3's and Qwen's: turns of one form.
SAME = (
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}"
  "<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As TRL's for training: what the assistant generates is marked.
MARKED = (
  "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
  "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n{% else %}"
  "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
UNENDED = MARKED.replace(
  "<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>"
)
# As Qwen 3's: what was thought stands in the last turn alone.
THINKING = (
  "{% for m in messages %}{% set text = m.content %}"
  "{% if '</t>' in text and not loop.last %}"
  "{% set text = text.split('</t>')[-1] %}{% endif %}"
  "<|im_start|>{{ m.role }}\n{{ text }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Gemma's: no system, roles in turns.
STRICT = (
  "{% if messages[0].role == 'system' %}"
  "{{ raise_exception('System role not supported') }}{% endif %}" + SAME
)
# As Llama 2's: the system within the first turn, stripped together.
WITHIN = (
  "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
  "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
  "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
  "{% for m in rest %}{% if loop.first %}{% set text = system + m['content'] %}"
  "{% else %}{% set text = m['content'] %}{% endif %}"
  "{% if m['role'] == 'user' %}{{ '<|im_start|>[INST] ' + text.strip() + "
  "' [/INST]' }}{% else %}{{ ' ' + text.strip() + ' <|im_end|>' }}"
  "{% endif %}{% endfor %}"
)
TALK = ("q one", "a one", "and two?", "a two", "three", "a three")


@pytest.fixture
def made(tmp_path):
  """A function: a tokenizer with a template, whose turns end at <|im_end|>."""

  def make(source, **config):
    config = ENDED | {"chat_template": source} | config
    name = f"t{len(list(tmp_path.iterdir()))}"
    return tokenizers.load(files.hf_files(tmp_path / name, config=config))

  return make


def talk(*texts, system=""):
  """A record of a conversation, as it is in memory."""
  said = [{"role": "system", "content": system}] if system else []
  for n, text in enumerate(texts):
    said.append({"role": ("user", "assistant")[n % 2], "content": text})
  return kinds.with_prompt({"messages": said}, "demonstrations")


def rows_of(tokenizer, records, *, packed=False, **changes):
  usual = {
    "template": "chat_template",
    "prompt_length": 120,
    "response_length": 150,
    "row_length": 300,
  }
  data = data_toys.section(**(usual | changes))
  return encoding.encode_records(
    records, data, tokenizer, "demonstrations", "here", packed=packed
  )


def shown(rows, tokenizer):
  """(prompt, response, what counts) of each row as ids."""
  batch = rows.take(slice(None))
  found = []
  for n in range(len(rows)):
    prompt = batch["prompt"][n][batch["is_prompt"][n]].tolist()
    mask = batch["is_response"][n]
    response = batch["response"][n][mask].tolist()
    target = batch.get("is_target", batch["is_response"])[n]
    assert not target[~mask].any()
    found.append((prompt, response, target[mask].tolist()))
  return found


def by_hand(tokenizer, *parts):
  """Ids of parts that spell special tokens, a list."""
  plan = [tokenizer.special_ids.get(part, part) for part in parts]
  (ids,) = tokenizer.encode_parts([plan])
  return ids


def test_every_answer_counts_in_one_row(made):
  tokenizer = made(SAME)
  rows = rows_of(tokenizer, [talk(*TALK, system="Be kind.")])
  ((prompt, response, target),) = shown(rows, tokenizer)
  assert prompt == by_hand(
    *(tokenizer, START, "system\nBe kind.", STOP, "\n"),
    *(START, "user\nq one", STOP, "\n", START, "assistant\n"),
  )
  said = [
    (True, ["a one", STOP]),
    (False, ["\n", START, "user\nand two?", STOP, "\n", START, "assistant\n"]),
    (True, ["a two", STOP]),
    (False, ["\n", START, "user\nthree", STOP, "\n", START, "assistant\n"]),
    (True, ["a three", STOP]),
  ]
  expected = [(i, is_answer) for is_answer, parts in said
              for i in by_hand(tokenizer, *parts)]  # fmt: skip
  assert response == [i for i, _ in expected]
  assert target == [counts for _, counts in expected]
  assert rows.counts["turns"] == rows.counts["responses"] == 3
  assert rows.counts["turns_lost"] == 0
  assert rows.counts["records"] == rows.counts["rows"] == 1


def test_the_last_answer_alone(made):
  tokenizer = made(SAME)
  rows = rows_of(tokenizer, [talk(*TALK)], loss_on="last")
  ((prompt, response, target),) = shown(rows, tokenizer)
  assert response == by_hand(tokenizer, "a three", STOP)
  assert all(target)
  assert "is_target" not in rows.take([0])
  every = rows_of(tokenizer, [talk(*TALK)])
  ((first, rest, _),) = shown(every, tokenizer)
  assert prompt + response == first + rest


def test_an_answer_of_no_weight_is_read_and_does_not_count(made):
  tokenizer, record = made(SAME), talk(*TALK)
  record["messages"][3]["weight"] = 0
  ((_, response, target),) = shown(rows_of(tokenizer, [record]), tokenizer)
  counted = [i for i, counts in zip(response, target) if counts]
  assert counted == by_hand(tokenizer, "a one", STOP, "a three", STOP)
  assert "a two" in tokenizer.decode(response)


@pytest.mark.parametrize("template", ["chat_template", "chatml", "plain"])
def test_one_turn_is_what_a_prompt_and_its_response_are(template, made):
  tokenizer = made(SAME)
  flat = {"prompt": "q one", "response": "a one"}
  for packed in (False, True):
    a, b = (
      rows_of(tokenizer, [record], packed=packed, template=template)
      for record in (talk("q one", "a one"), flat)
    )
    data_toys.equal({"": a.take([0])}, {"": b.take([0])})
    assert a.counts == b.counts


def test_a_text_template_writes_turns_as_a_text_prompt_does():
  """One row an answer, each seen as it will be asked for."""
  byte = tokenizers.ByteTokenizer()
  rows = rows_of(
    byte, [talk(*TALK[:4], system="Be kind.")], template="human_assistant"
  )
  first = "Be kind.\n\nq one"
  asked = [first, f"{first}\n\nAssistant: a one\n\nHuman: and two?"]
  records = [
    {"prompt": prompt, "response": response}
    for prompt, response in zip(asked, ("a one", "a two"))
  ]
  expected = rows_of(byte, records, template="human_assistant")
  data_toys.equal({"": rows.take([0, 1])}, {"": expected.take([0, 1])})
  prompt = shown(rows, byte)[1][0]
  assert byte.decode(prompt) == (
    "Human: Be kind.\n\nq one\n\nAssistant: a one\n\nHuman: and two?"
    "\n\nAssistant:"
  )


def test_a_template_that_changes_earlier_turns_gets_a_row_for_each(made):
  tokenizer = made(THINKING)
  record = talk("q", "hm</t>a", "r", "so</t>b")
  first, second = shown(rows_of(tokenizer, [record]), tokenizer)
  assert first[1] == by_hand(tokenizer, "hm</t>a", STOP)
  assert second[1] == by_hand(tokenizer, "so</t>b", STOP)
  assert second[0] == by_hand(
    tokenizer, START, "user\nq", STOP, "\n", START, "assistant\na", STOP, "\n",
    START, "user\nr", STOP, "\n", START, "assistant\n",
  )  # fmt: skip


def test_what_a_template_says_of_roles_is_shown(made):
  with pytest.raises(errors.UserError, match="says: System role not support"):
    rows_of(made(STRICT), [talk("q", "a", system="s")])
  assert len(rows_of(made(STRICT), [talk("q", "a")])) == 1
  with pytest.raises(errors.UserError, match=r"'plain' has no turns.*'q one"):
    rows_of(made(SAME), [talk(*TALK)], template="plain")


def test_what_is_special_only_in_a_changed_text_is_refused(made):
  evil = talk("q", f"hm{STOP}</t>a", "r", "b")
  with pytest.raises(errors.UserError, match=r"the special token <.im_e"):
    rows_of(made(THINKING), [evil])
  ((_, response, _),) = shown(rows_of(made(SAME), [evil]), made(SAME))
  assert response.count(made(SAME).eot_id) == 3  # of the three turns alone


def test_limits_cut_and_leave_out_answers_and_count_them(made):
  tokenizer = made(SAME)
  long = talk("q one", "a" * 30, "r" * 60, "b" * 30, "s", "c" * 30)
  sizes = [
    len(ids)
    for ids in templates.encode(
      [long["prompt"], messages.Dialogue(long["prompt"].messages[:3])],
      tokenizer,
      "chat_template",
    )
  ]
  # All three in two rows: what does not fit behind the first begins anew.
  rows = rows_of(tokenizer, [long], response_length=100, prompt_length=sizes[1])
  first, second = shown(rows, tokenizer)
  assert first[1] == by_hand(tokenizer, "a" * 30, STOP)
  assert sum(second[2]) == 2 * 31
  assert rows.index.tolist() == [0, 0]  # of the one record
  assert (rows.counts["turns"], rows.counts["turns_lost"]) == (3, 0)
  # The second is cut, since no prompt of its own fits; the third is lost.
  rows = rows_of(tokenizer, [long], response_length=120, prompt_length=40)
  ((_, response, target),) = shown(rows, tokenizer)
  assert len(response) == 120
  assert 31 < sum(target) < 62
  assert (rows.counts["turns"], rows.counts["turns_lost"]) == (3, 1)
  assert rows.counts["responses_cut"] == 1
  assert rows.counts["responses"] == 2
  # Nothing fits.
  short = talk("q", "a", "r", "b")
  rows = rows_of(
    tokenizer, [talk("q" * 50, *TALK[1:]), short], prompt_length=40
  )
  assert len(rows) == rows.counts["prompts_too_long"] == 1
  assert rows.counts["turns_lost"] == 0


def test_packed_rows_count_the_same_tokens(made):
  tokenizer = made(SAME)
  records = [talk(*TALK), talk("q", "a"), talk(*TALK[:4])]
  records.insert(1, {"prompt": "p", "response": "x"})
  plain = shown(rows_of(tokenizer, records), tokenizer)
  for weights in ((), (0.5, 0.5)):
    parts = [record | {"part": n % 2} for n, record in enumerate(records)]
    data = data_toys.section(
      template="chat_template", prompt_length=120, response_length=150,
      row_length=400,
    )  # fmt: skip
    packed = encoding.encode_records(
      parts, data, tokenizer, "demonstrations", "here", packed=True,
      weights=weights,
    )  # fmt: skip
    batch, found = packed.take(slice(None)), []
    for n, segments in enumerate(batch["segments"]):
      for segment in range(1, segments.max() + 1):
        here = segments == segment
        tokens = batch["tokens"][n][here].tolist()
        found.append((tokens, batch["is_target"][n][here].tolist()))
    expected = [(p + r, [False] * len(p) + t) for p, r, t in plain]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
  ("source", "counted"),
  [(MARKED, ["a one", STOP, "a two", STOP]), (UNENDED, ["a one", "a two"])],
)
def test_a_template_may_say_what_counts(source, counted, made):
  tokenizer = made(source)
  ((_, response, target),) = shown(
    rows_of(tokenizer, [talk(*TALK[:4])]), tokenizer
  )
  assert [i for i, counts in zip(response, target) if counts] == by_hand(
    tokenizer, *counted
  )
  flat = [{"prompt": "q", "response": "a"}]
  ((_, response, target),) = shown(rows_of(tokenizer, flat), tokenizer)
  assert sum(target) == len(by_hand(tokenizer, *counted)) // 2 - 4


def test_a_template_that_marks_nothing_is_an_error(made):
  source = SAME + "{% if 0 %}{% generation %}x{% endgeneration %}{% endif %}"
  with pytest.raises(errors.UserError, match="marks nothing of what"):
    rows_of(made(source), [talk(*TALK)])


@pytest.mark.parity
@pytest.mark.parametrize("source", [MARKED, UNENDED])
@pytest.mark.parametrize("system", ["", "Be kind."])
def test_transformers_masks_the_same_tokens(source, system, made, tmp_path):
  transformers = pytest.importorskip("transformers")
  tokenizer, record = made(source), talk(*TALK, system=system)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "t0")
  given = theirs.apply_chat_template(
    record["messages"],
    tokenize=True,
    return_dict=True,
    return_assistant_tokens_mask=True,
  )
  ((prompt, response, target),) = shown(rows_of(tokenizer, [record]), tokenizer)
  ids, masks = given["input_ids"], given["assistant_masks"]
  size = len(prompt) + len(response)
  assert prompt + response == ids[:size]
  assert [False] * len(prompt) + target == [bool(x) for x in masks[:size]]
  assert not any(masks[size:])
  assert theirs.decode(ids[size:]).strip() == ""


@pytest.mark.parity
@pytest.mark.parametrize("source", [SAME, MARKED, THINKING, WITHIN])
@pytest.mark.parametrize("system", ["", " Be kind.\n"])
def test_transformers_writes_the_same_messages(source, system, made, tmp_path):
  transformers = pytest.importorskip("transformers")
  tokenizer = made(source)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "t0")
  said = talk("q\n", " hm</t>a ", "r", "so</t>b", system=system)["messages"]
  for stop in (2, 4) if system else (1, 3):
    dialogue = messages.Dialogue(messages.plain(said[:stop]))
    (ours,) = templates.encode([dialogue], tokenizer, "chat_template")
    assert ours == theirs.apply_chat_template(
      said[:stop], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    whole = theirs.apply_chat_template(
      said[: stop + 1], tokenize=True, return_dict=False
    )
    (answer,) = answers.encode(
      [dialogue], [said[stop]["content"]], [True], tokenizer, "chat_template"
    )
    both = ours + answer.ids
    assert both == whole[: len(both)]
    assert theirs.decode(whole[len(both) :]).strip() == ""
    assert answer.ids[-1] == tokenizer.eot_id


def test_the_end_is_the_one_that_the_template_writes(made):
  """Where sampling stops at it; else the tokenizer's own."""
  tokenizer = made(SAME, eos_token="<|end|>")
  assert tokenizer.eot_id != tokenizer.special_ids[STOP]
  assert answers.end_id("chat_template", tokenizer) == tokenizer.eot_id
  tokenizer.stop_ids = (*tokenizer.stop_ids, tokenizer.special_ids[STOP])
  assert (
    answers.end_id("chat_template", tokenizer) == (tokenizer.special_ids[STOP])
  )
  assert answers.end_id("human_assistant", tokenizer) == tokenizer.eot_id
  (answer,) = answers.encode(["q"], ["a"], [False], tokenizer, "chat_template")
  assert answer.ids == tokenizer.encode("a")


def test_a_conversation_is_read_in_talk_as_in_training(made):
  tokenizer = made(SAME)
  for template in ("chat_template", "human_assistant"):
    turns = [("q one", "a one"), ("and two?", "a two")]
    asked = templates.dialogue(turns, "three", "Be kind.")
    (ids,) = templates.encode([asked], tokenizer, template)
    rows = rows_of(
      tokenizer,
      [talk(*TALK, system="Be kind.")],
      loss_on="last",
      template=template,
    )
    assert shown(rows, tokenizer)[0][0] == ids


def test_the_loss_is_that_of_the_answers_alone(made, monkeypatch):
  """By hand: every answer behind its own prompt, a token at a time."""
  tokenizer = made(SAME)
  records = [talk(*TALK), talk("q", "a")]
  table = np.random.default_rng(0).normal(size=(tokenizer.vocab_size + 1,) * 2)

  def response_logprobs(model, params, rows, *, where, key):
    """A model that knows the token before, and how many came before it."""
    tokens = jnp.concatenate([rows["prompt"], rows["response"]], axis=1)
    real = jnp.concatenate([rows["is_prompt"], rows["is_response"]], axis=1)
    place = jnp.cumsum(real, axis=1)
    logits = jnp.asarray(table, jnp.float32)[tokens]
    logits = logits * (1 + 0.01 * place[..., None])
    logits = logits[:, rows["prompt"].shape[1] - 1 : -1]
    return rl.logprobs(logits, rows["response"])

  monkeypatch.setattr(sft.forward, "response_logprobs", response_logprobs)

  class Context:
    policy = None

  batch = rows_of(tokenizer, records).take(slice(None))
  total, weight = sft.PARTS["demonstrations"](Context, None, batch, None)
  expected, count = 0.0, 0
  for record in records:
    said = messages.plain(record["messages"])
    for n in range(1, len(said), 2):
      dialogue = messages.Dialogue(said[:n])
      (before,) = templates.encode([dialogue], tokenizer, "chat_template")
      for i in by_hand(tokenizer, said[n][1], STOP):
        logits = table[before[-1]] * (1 + 0.01 * len(before))
        expected += np.log(np.exp(logits).sum()) - logits[i]
        before, count = [*before, i], count + 1
  assert int(weight) == count
  assert float(total) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("last", ["last", "all"])
def test_conversations_are_the_same_rows_in_shards(
  made, tmp_path, monkeypatch, packed, last
):
  """Among records of one turn, in pieces that have only those and others."""
  monkeypatch.setattr(building, "PIECE", 300)
  tokenizer = made(SAME)
  records = [{"prompt": f"p {n}", "response": "x" * n} for n in range(1, 30)]
  records[9:9] = [talk(*(f"{text} {n}" for text in TALK)) for n in range(4)]
  long = [talk("q", f"a{n}" * 20, "r", "b" * 90, "s", "c") for n in range(3)]
  records += [*long, talk("q" * 200, "a")]
  lines = (
    json.dumps(kinds.written(record, "demonstrations")) for record in records
  )
  (tmp_path / "d.jsonl").write_text("\n".join(lines))
  data = data_toys.section(
    demonstrations=str(tmp_path / "d.jsonl"),
    tokenizer=f"hf:{tmp_path}/t0",
    vocab_size=300,
    template="chat_template",
    prompt_length=120,
    response_length=150,
    row_length=300,
    loss_on=last,
  )
  prepare.build(data_toys.config(data), tmp_path / "out")
  stored = loader.make(
    data,
    tokenizer,
    "demonstrations",
    "train",
    {"data": tmp_path / "out"},
    packed=packed,
  )
  expected = encoding.encode_records(
    records, data, tokenizer, "demonstrations", "here", packed=packed
  )
  if packed:  # each piece packs its own
    size = "is_target"
    a, b = (x.take(slice(None)) for x in (stored, expected))
    assert a[size].sum() == b[size].sum()
    assert a["is_token"].sum() == b["is_token"].sum()
    return
  assert stored.counts == expected.counts
  assert stored.index.tolist() == expected.index.tolist()
  assert max(np.bincount(stored.index)) == (1 if last == "last" else 2)
  wanted = expected.take(slice(None))
  wanted.setdefault("is_target", wanted["is_response"])
  found = stored.take(slice(None))
  found.setdefault("is_target", found["is_response"])
  data_toys.equal({"": found}, {"": wanted})
  for n in (0, 10, len(stored) - 1):
    row = stored.take([n])
    target = row.get("is_target", row["is_response"])
    assert (target[0] == wanted["is_target"][n]).all()
