"""What prompted GPT reads, and at which temperature subjects answer."""

import dataclasses
import json
import re

import numpy as np
import pytest

from instruct_jax import worlds
from instruct_jax.base import errors
from instruct_jax.evals import bench, kl, prefix_file, prefixes, suite
from instruct_jax.inference import encode, respond, score
from instruct_jax.models import heads
from instruct_jax.runs import digests
from instruct_jax.worlds import files, interface
from instruct_jax.worlds.microworld import vocabulary
from tests import evals_toys

PROMPTS = ["what job does ann have ?", "where does bob live ?"]


@pytest.fixture(scope="module")
def ctx():
  return evals_toys.make_context()


def context_of(**changes):
  return evals_toys.make_context(evals_toys.config_of(**changes))


def said(ctx, texts, *, ended=True):
  found = evals_toys.responses(ctx, [""] * len(texts), texts)
  return dataclasses.replace(found, ended=np.full(len(texts), ended))


def test_the_microworlds_prefixes_are_in_its_words():
  known = vocabulary.words() | {"\n", ""}
  world = worlds.of(evals_toys.config_of().data)
  assert len(world.prefixes) > 3
  for prefix in world.prefixes:
    text = f"{prefix.template} {prefix.shot} {prefix.stop}"
    words = re.sub(r"\{\w+\}", " ", text).split(" ")
    assert set(words) <= known, prefix.name


@pytest.mark.parametrize("source", ["microworld", "files"])
def test_the_default_is_the_worlds_own(source):
  config = evals_toys.config_of(**{"data.source": source})
  world = worlds.of(config.data)
  assert prefixes.default_of(world).template == world.prompted_template
  bare = dataclasses.replace(world, prefixes=())
  assert prefixes.default_of(bare).template == world.prompted_template
  for prefix in world.prefixes:  # as those of a file are held to
    row = dataclasses.asdict(prefix)
    assert prefix_file.wrong({k: v for k, v in row.items() if v}) == ""


def test_a_response_ends_where_the_next_turn_begins(ctx):
  before = said(
    ctx,
    ["ann is a nurse . \n user : where", "bob lives in oslo .", "\n user :"],
    ended=False,
  )
  found = prefixes.cut(ctx, ["a"] * 3, before, "\n user :")
  assert found.texts == ("ann is a nurse .", "bob lives in oslo .", "")
  assert found.ended.tolist() == [True, False, True]
  eot = ctx.tokenizer.eot_id
  for n, text in enumerate(found.texts):
    ids = found.judged[n][found.is_response[n]].tolist()
    if n == 1:
      np.testing.assert_array_equal(found.judged[1], before.judged[1])
    else:
      assert ids == [*ctx.tokenizer.encode(text), eot]
      assert found.response[n][found.is_response[n]].tolist() == ids
  assert not before.ended.any()  # is left as it was
  assert prefixes.cut(ctx, ["a"] * 3, before, "") is before


def test_shots_are_training_demonstrations(ctx):
  records = {
    split: {
      (r["prompt"], r["response"])
      for r in ctx.world.records(
        ctx.config.data, "demonstrations", split, ctx.folders
      )
    }
    for split in ("train", "validation", "test")
  }
  wide = context_of(
    **{"evaluation.prefix.shots": (2,), "evaluation.prefix.draws": 2}
  )
  possible, left_out = prefixes.candidates(wide, PROMPTS)
  few = [x for x in possible if "dialogue_2_shots" in x.name]
  assert [x.name for x in few] == ["dialogue_2_shots_1", "dialogue_2_shots_2"]
  assert few[0].template != few[1].template
  form = re.compile(r"user : (.*?) \n assistant : (.*?) \n (?=user)", re.DOTALL)
  for prefix in few:
    drawn = form.findall(prefix.template)
    assert len(drawn) == 2
    assert set(drawn) <= records["train"]
    assert not set(drawn) & (records["validation"] | records["test"])
    tokens = len(ctx.tokenizer.encode(prefix.template.replace("{prompt}", "")))
    assert tokens <= wide.config.evaluation.prefix.tokens
    assert prefix.template.count("{prompt}") == 1
  assert prefixes.candidates(wide, PROMPTS) == (possible, left_out)


def test_what_does_not_fit_is_listed_with_why():
  narrow = context_of(
    **{"evaluation.prefix.tokens": 12, "evaluation.prefix.shots": (1,)}
  )
  possible, left_out = prefixes.candidates(narrow, PROMPTS)
  assert {x.name for x in possible} == {
    x.name for x in narrow.world.prefixes if not x.shot
  }
  assert [prefix.name for prefix, _ in left_out] == [
    "dialogue_1_shots_1",
    "dialogues_1_shots_1",
  ]
  assert all(re.search(r"0 of \d+ training dem", why) for _, why in left_out)


def test_demonstrations_that_would_be_read_as_something_else(ctx, monkeypatch):
  rows = [
    {"prompt": "a {prompt} b", "response": "c"},
    {"prompt": "who ?", "response": "ann . \n user : more"},
    {"prompt": "who is ann ?", "response": "a nurse ."},
    {"prompt": "and bob ?", "response": " "},
  ]
  world = dataclasses.replace(ctx.world, records=lambda *_: rows)
  monkeypatch.setattr(worlds, "of", lambda data: world)
  (dialogue,) = (x for x in world.prefixes if x.name == "dialogue")
  shots = prefixes._shots(ctx, dialogue)
  text = "user : who is ann ? \n assistant : a nurse . \n "
  assert shots == [(text, len(ctx.tokenizer.encode(text)))]


def choose(ctx, monkeypatch, worth):
  """The choice where a response is worth what `worth` says of its prefix."""
  asked = []

  def respond_(policy, prompts, key):
    del key
    asked.append((policy.template, tuple(prompts)))
    return policy.template

  def cut(ctx, prompts, template, stop):
    del ctx, prompts, stop
    return template

  def rewards_of(ctx, reward, prompts, template, *, rows):
    del ctx, reward, rows
    return np.asarray([worth(template, n) for n in range(len(prompts))])

  monkeypatch.setattr(respond, "respond", respond_)
  monkeypatch.setattr(prefixes, "cut", cut)
  monkeypatch.setattr(score, "rewards_of", rewards_of)
  records = [{"prompt": p, "core": str(n)} for n, p in enumerate(PROMPTS)]
  choice = prefixes.choose(
    ctx, {}, {}, records, subject="prompted_gpt", temperature=1.0
  )
  return choice, asked


def test_the_highest_mean_is_chosen(ctx, monkeypatch):
  choice, asked = choose(
    ctx, monkeypatch, lambda t, n: 3.0 + n if "full answer" in t else n
  )
  assert choice.prefix.name == "question"
  rows = {row["prefix"]: row for row in choice.rows}
  scored = [row for row in choice.rows if "value" in row]
  assert [row["template"] for row in scored] == [t for t, _ in asked]
  assert {prompts for _, prompts in asked} == {tuple(PROMPTS)}
  assert rows["question"]["value"] == 3.5  # of 3 and 4
  assert rows["assistant"]["value"] == 0.5
  assert {row["n"] for row in scored} == {2}
  assert [r["prefix"] for r in choice.rows if r["chosen"] == "yes"] == (
    ["question"]
  )
  assert rows["question"]["metric"] == "prefix/prompted_gpt/question"


def test_of_equals_the_first_is_chosen(ctx, monkeypatch):
  choice, _ = choose(ctx, monkeypatch, lambda t, n: 1.0)
  assert choice.prefix.name == "assistant"


FILE = '{"name": "mine", "template": "Q: {prompt}\\nA:", "stop": "\\nQ:"}\n'


def test_candidates_of_a_file(tmp_path):
  path = tmp_path / "mine.jsonl"
  path.write_text(FILE)
  ctx = context_of(**{"evaluation.prefix.candidates": str(path)})
  assert prefix_file.read(str(path)) == (
    interface.Prefix("mine", "Q: {prompt}\nA:", stop="\nQ:"),
  )
  possible, _ = prefixes.candidates(ctx, PROMPTS)
  assert [x.name for x in possible] == ["assistant", "mine"]
  first = digests.of_evaluation(ctx.config, {})
  path.write_text(FILE.replace("mine", "other"))
  assert digests.of_evaluation(ctx.config, {}) != first


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ('{"name": "a"}', r'1: "template" should be text'),
    ('{"name": "", "template": "{prompt}"}', r'1: "name" should be text'),
    ('{"name": "a", "template": "Q"}', r"1: .*should have {prompt} once"),
    ('{"name": "a", "template": "{prompt}{prompt}"}', "{prompt} once"),
    ('{"name": "a", "template": "{shots}{prompt}"}', "belong together"),
    ('{"name": "a", "template": "{prompt}", "shot": "x"}', "belong together"),
    ('{"name": "a", "template": "{shots}{prompt}", "shot": "x"}', '"shot"'),
    ('{"name": "a", "template": "{prompt}", "stop": 3}', '"stop" should be'),
    ('{"name": "a", "templat": "{prompt}"}', "Did you mean 'template'"),
    (FILE + FILE.strip(), "2: the name .*second time"),
    ("", "empty"),
  ],
)
def test_a_line_that_is_no_candidate(line, message, tmp_path):
  path = tmp_path / "mine.jsonl"
  path.write_text(line + "\n" if line else "")
  config = evals_toys.config_of(**{"evaluation.prefix.candidates": str(path)})
  with pytest.raises(errors.UserError, match=message):
    prefix_file.check(config)


def test_a_file_of_candidates_that_is_not_there(tmp_path):
  name = str(tmp_path / "none.jsonl")
  config = evals_toys.config_of(**{"evaluation.prefix.candidates": name})
  with pytest.raises(errors.UserError, match="none"):
    prefix_file.check(config)


GPT = bench.Subject("gpt", {}, prompted=True)


def made(ctx, *subjects, frozen=None):
  subjects = [
    dataclasses.replace(s, params=evals_toys.params("policy")) for s in subjects
  ]
  return bench.make(ctx, subjects, frozen or {})


def test_without_a_reward_model_nothing_is_chosen(ctx):
  shared = made(ctx, GPT)
  (subject,) = shared.subjects
  assert subject.prefix == prefixes.default_of(ctx.world)
  assert shared.prefixes == ()
  _, tables = suite._asked(shared)
  assert tables["subjects"][0]["prefix"] == "assistant"
  assert "prefixes" not in tables


@pytest.mark.parametrize(
  "changes", [{"evaluation.prefix.prompts": 0}, {"reward.model.weight": 0.0}]
)
def test_the_choice_can_be_left_out(changes):
  frozen = {"reward": evals_toys.params("reward")}
  shared = made(context_of(**changes), GPT, frozen=frozen)
  assert shared.prefixes == ()


def test_without_validation_prompts_nothing_is_chosen(ctx, monkeypatch, caplog):
  opened = bench.open_prompts

  def open_prompts(ctx, split):
    if split == "validation":
      raise errors.UserError("the validation split is empty")
    return opened(ctx, split)

  monkeypatch.setattr(bench, "open_prompts", open_prompts)
  shared = made(ctx, GPT, frozen={"reward": evals_toys.params("reward")})
  assert shared.prefixes == ()
  assert shared.subjects[0].prefix == prefixes.default_of(ctx.world)
  assert "is not chosen: the validation split is empty" in caplog.text


def test_a_prefix_is_chosen_on_validation_prompts(monkeypatch):
  ctx = context_of(
    **{"evaluation.prefix.prompts": 4, "evaluation.split": "test"}
  )
  asked, scored = respond.respond, []

  def respond_(policy, prompts, key):
    scored.append((policy.template, tuple(prompts)))
    return asked(policy, prompts, key)

  monkeypatch.setattr(respond, "respond", respond_)
  frozen = {"reward": evals_toys.params("reward")}
  shared = made(ctx, GPT, frozen=frozen)
  (subject,) = shared.subjects
  validation = bench.open_prompts(ctx, "validation")[:4]
  expected = {tuple(r["prompt"] for r in validation)}
  assert {prompts for _, prompts in scored} == expected
  figures = [row for row in shared.prefixes if "value" in row]
  assert len(figures) == len(scored) > 4
  best = max(figures, key=lambda row: row["value"])
  assert best["chosen"] == "yes"
  assert subject.prefix.name == best["prefix"]
  assert {row["n"] for row in figures} == {4}
  metrics, tables = suite._asked(shared)
  assert metrics[f"prefix/gpt/{best['prefix']}"] == best["value"]
  assert json.loads(json.dumps(tables)) == tables
  again = made(ctx, GPT, frozen=frozen)
  assert again.prefixes == shared.prefixes


def test_who_is_prompted_reads_the_prefix(ctx):
  prefix = interface.Prefix("x", "where ? {prompt} \n")
  shared = made(ctx, dataclasses.replace(GPT, prefix=prefix))
  (whole,) = (shared.ask(s, PROMPTS).texts[0] for s in shared.subjects)
  first, *rest = whole.split(" ")
  stop = next(word for word in rest if word != first)
  prefix = dataclasses.replace(prefix, stop=stop)
  shared = made(ctx, dataclasses.replace(GPT, prefix=prefix))
  (subject,) = shared.subjects
  answer = shared.ask(subject, PROMPTS)
  first = ctx.tokenizer.encode("where ? what job")
  row = answer.prompt[0][answer.is_prompt[0]].tolist()
  assert row[-len(row) :][: len(first) + 1][-len(first) :] == first
  assert answer.texts[0] == whole.partition(stop)[0].rstrip() != whole
  assert answer.ended[0]
  raw = shared.ask(subject, PROMPTS, raw=True)
  whole = encode.prompts(
    PROMPTS, ctx.tokenizer, encode.RAW_TEMPLATE, raw.prompt.shape[1]
  )
  np.testing.assert_array_equal(raw.prompt, whole["prompt"])


def test_learned_positions_are_room_for_the_prompts_at_hand(ctx):
  config = dataclasses.replace(
    ctx.policy.config, positions="learned", context_length=48
  )
  tight = dataclasses.replace(ctx, policy=heads.LanguageModel(config))
  assert tight.config.data.response_length == 16
  possible, left_out = prefixes.candidates(tight, PROMPTS)
  assert "assistant" in {x.name for x in possible}
  policy = prefixes.policy_of(tight, {}, possible[0])
  assert policy.width + policy.sampling.max_tokens <= 48
  assert any("prompts do not fit into the 32" in why for _, why in left_out)


def test_a_temperature_of_its_own(ctx):
  params = evals_toys.params("policy")
  cold = bench.Subject("cold", params, temperature=0.0)
  hot = bench.Subject("hot", params)
  shared = made(ctx, cold, hot)
  cold, hot = shared.subjects
  greedy = shared.ask(hot, PROMPTS, temperature=0.0)
  assert shared.ask(cold, PROMPTS).texts == greedy.texts
  assert shared.ask(hot, PROMPTS).texts != greedy.texts
  warm = shared.ask(cold, PROMPTS, temperature=1.0)
  assert warm.texts == shared.ask(hot, PROMPTS).texts
  _, tables = suite._asked(shared)
  found = {row["subject"]: row["temperature"] for row in tables["subjects"]}
  assert found == {"cold": 0.0, "hot": 1.0}


def test_no_kl_of_what_was_sampled_at_another_temperature():
  ctx = context_of(**{"evaluation.prompts": 4})
  shared = made(
    ctx, bench.Subject("cold", {}, temperature=0.5), bench.Subject("sft", {})
  )
  metrics, _ = kl.evaluate_kl(shared)
  assert "kl/sft" in metrics
  assert "kl/cold" not in metrics
  alone = dataclasses.replace(shared, subjects=shared.subjects[:1])
  frozen = {"reference": shared.subjects[1].params}
  assert kl.evaluate_kl(dataclasses.replace(alone, frozen=frozen)) == ({}, {})


def test_plain_english_for_files():
  for prefix in files.PREFIXES:
    assert re.search(r"[A-Z]", prefix.template)
    assert " ." not in prefix.template
