"""Candidates of a round, and whoever ranks them."""

import dataclasses
import json
import logging
import sys

import numpy as np
import pytest
from etils import epath

from experiments import iterated
from instruct_jax import worlds
from instruct_jax.base import errors, interrupt
from instruct_jax.data.read import kinds, sources
from instruct_jax.evals import reward_models
from instruct_jax.inference import encode, score
from instruct_jax.labeling import candidates, people, rankers, rankings
from instruct_jax.runs import jobs, reading
from instruct_jax.tokenizers import messages
from tests import evals_toys, exchange_test

SPLITS = rankings.SPLITS
SMALL = {"train": 6, "validation": 3, "test": 3, "chunk": 2, "batch": 16}


def context_of(stage, folders, **changes):
  """A context of a stage of round 2 on the toy microworld."""
  config = iterated.get_config(f"{stage}-test-round2").unlock()
  config.data.sizes.update(evals_toys.SIZES)
  if stage == "candidates":
    config.candidates.update(SMALL)
  config.update_from_flattened_dict(changes)
  return evals_toys.make_context(config.lock(), **folders)


def policies():
  return {
    name: evals_toys.params("policy", n)
    for n, name in enumerate(("sft", "gpt", "policy"))
  }


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def records(folder):
  return {split: lines(folder / f"{split}.jsonl") for split in SPLITS}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
  """The folder of round 1's rankings."""
  folder = tmp_path_factory.mktemp("first")
  both = {k: v for k, v in policies().items() if k != "policy"}
  rankings.rank_prompts(evals_toys.make_context(), both, folder)
  return folder


@pytest.fixture(scope="module")
def listed(tmp_path_factory, first):
  """The folder of round 2's candidates."""
  folder = tmp_path_factory.mktemp("candidates")
  ctx = context_of("candidates", {"rankings": first})
  rankings.write_candidates(ctx, policies(), folder)
  return folder


def label(tmp_path, first, listed, scorer=None, **changes):
  ctx = context_of(
    "rankings", {"rankings": first, "candidates": listed}, **changes
  )
  rankers.check(ctx.config)
  more = {"score": scorer, "name": "gold"} if scorer else {}
  return rankings.label(ctx, tmp_path, **more)


def test_candidates_are_of_prompts_that_were_not_compared(first, listed):
  before = {r["prompt"] for of in records(first).values() for r in of}
  found = records(listed)
  for split in SPLITS:
    assert len(found[split]) == SMALL[split]
    assert not {r["prompt"] for r in found[split]} & before
  for record in (r for of in found.values() for r in of):
    assert record["round"] == 2
    assert "ranks" not in record
    assert 4 <= len(record["responses"]) == len(record["sources"]) <= 9
  sources = {s for of in found.values() for r in of for s in r["sources"]}
  assert sources == {"sft", "sft_hot", "prompted_gpt", "policy"}


def test_where_prompts_run_out_old_ones_come_last(first, tmp_path, caplog):
  changes = {"candidates.train": 20, "candidates.test": 0}
  ctx = context_of("candidates", {"rankings": first}, **changes)
  with caplog.at_level(logging.WARNING):
    rankings.write_candidates(ctx, policies(), tmp_path)
  before = [r["prompt"] for r in records(first)["train"]]
  prompts = [r["prompt"] for r in records(tmp_path)["train"]]
  there = [r["prompt"] for r in ctx.rows("prompts", "train").source]
  new = [p for p in there if p not in before]
  assert prompts == [*new, *(p for p in there if p in before)][:20]
  assert 0 < len(new) < 20
  assert f"has {len(new)} that were not compared before" in caplog.text
  assert records(tmp_path)["test"] == []


def test_candidates_go_on_after_a_kill(first, listed, tmp_path, monkeypatch):
  checks = iter([False, True])

  def stop():
    if next(checks):
      raise interrupt.Interrupted

  ctx = context_of("candidates", {"rankings": first})
  with monkeypatch.context() as patch:
    patch.setattr(interrupt, "check", stop)
    with pytest.raises(interrupt.Interrupted):
      rankings.write_candidates(ctx, policies(), tmp_path)
  assert not (tmp_path / "to_rank.jsonl").exists()
  rankings.write_candidates(ctx, policies(), tmp_path)
  for name in (
    "train.jsonl",
    "validation.jsonl",
    "test.jsonl",
    "to_rank.jsonl",
  ):
    assert (tmp_path / name).read_bytes() == (listed / name).read_bytes()


def test_people_do_not_see_who_said_what(listed):
  for row in lines(listed / "to_rank.jsonl"):
    assert set(row) == {"prompt", "responses", "ended", "split"}
    assert len(set(row["responses"])) == len(row["responses"]) > 1
    for text, ended in zip(row["responses"], row["ended"]):
      assert text.strip() or ended  # as `data` wants it of empty texts


def test_the_worlds_labelers_rank_after_all_rankings_so_far(
  tmp_path, first, listed
):
  metrics, tables = label(tmp_path, first, listed)
  found, before = records(tmp_path), records(first)
  asked = records(listed)
  for split in SPLITS:
    assert found[split][: len(before[split])] == before[split]
    new = found[split][len(before[split]) :]
    groups = ["training"] if split == "train" else ["training", "held_out"]
    assert [r["group"] for r in new] == groups * len(asked[split])
    assert [r["responses"] for r in new] == [
      r["responses"] for r in asked[split] for _ in groups
    ]
    assert metrics[f"rankings/earlier_lists/{split}"] == len(before[split])
    assert metrics[f"rankings/lists/{split}"] == len(new)
  assert 1 <= metrics["candidates/likert/policy"] <= 7
  assert tables["labelers"][0]["ranked_by"] == "world"
  again = label(tmp_path, first, listed)
  assert again == (metrics, tables)


def test_a_reward_model_ranks_by_its_scores(tmp_path, first, listed, caplog):
  seen = []

  def scorer(prompts, texts, ended):
    seen.extend(zip(prompts, texts, ended))
    return np.asarray([-len(text) for text in texts], np.float32)

  with caplog.at_level(logging.WARNING):
    label(tmp_path, first, listed, scorer, **{"rankings.labeler": "reward"})
  assert "are not people's: gold ranks them" in caplog.text
  assert len(seen) == len(set(seen))  # the same text is scored once
  for record in records(tmp_path)["train"]:
    if record.get("round") != 2:
      continue
    assert record["labeler"] == "gold"
    lengths = [len(text) for text in record["responses"]]
    shortest = sorted(set(lengths))
    assert record["ranks"] == [shortest.index(n) + 1 for n in lengths]


def test_a_conversation_is_answered_and_ranked_as_one(tmp_path):
  """What the system says stays the system's, also where files lie between."""
  spoken = [("system", "be kind ."), ("user", "who is ann ?")]
  given = [{"role": role, "content": text} for role, text in spoken]
  asked = kinds.with_prompt({"messages": given}, "prompts")
  ctx = context_of("candidates", {})
  prompts = {"train": [asked], "validation": [], "test": []}
  plan = candidates.make_plan(ctx, policies(), prompts)
  rng = np.random.default_rng(0)
  (listed,) = candidates.sample(plan, "train", 0, name="one", rng=rng)
  for split in SPLITS:
    text = json.dumps(listed) + "\n" if split == "train" else ""
    (tmp_path / f"{split}.jsonl").write_text(text)
  seen = []

  def scorer(prompts, texts, ended):
    seen.extend(prompts)
    return np.arange(len(texts), dtype=np.float32)

  ctx = context_of(
    "rankings", {"candidates": tmp_path}, **{"rankings.labeler": "reward"}
  )
  folder = tmp_path / "out"
  rankings.label(ctx, folder, score=scorer, name="gold")
  read = sources.open_rankings(
    ctx.config.data, "rankings", "train", {"rankings": folder}
  )
  assert read is not None
  for prompt in (seen[0], read[0]["prompt"]):
    assert messages.of(prompt) == tuple(spoken)
  assert read[0]["messages"] == given


def test_a_reward_checkpoint_with_words_of_its_own_ranks(tmp_path):
  """In the chain's template, since a checkpoint says nothing of its own."""
  reference = exchange_test.checkpoint(tmp_path / "gold", reward=True)
  config = context_of("rankings", {}, **{"rankings.labeler": "reward"}).config
  texts, ended = ["ann", "a nurse", "bob"], [True, False, True]
  lists = [
    {
      "prompt": prompt,
      "responses": texts,
      "ended": ended,
      "sources": ["sft"] * 3,
    }
    for prompt in ("who ?", "where ?")
  ]
  for split in SPLITS:
    text = "".join(json.dumps(one) + "\n" for one in lists)
    (tmp_path / f"{split}.jsonl").write_text(text)
  needs = {"data": evals_toys.world(), "candidates": tmp_path}
  needs["labeler"] = epath.Path(reference)
  jobs.label(config, epath.Path(tmp_path / "out"), needs)
  there = reading.open_context(reference)
  params = reading.load_parameters(reference, there, "reward")
  for record in records(tmp_path / "out")["train"]:
    rows = encode.sequences(
      there, [record["prompt"]] * 3, texts, ended, template=config.data.template
    )
    scores = score.model_scores(there, params, rows, rows=16)
    assert record["labeler"] == "reward model gold"
    assert record["ranks"] == rankers.ranks_of(scores.tolist())
  lists[0]["prompt"] = "who ? " * 400
  (tmp_path / "test.jsonl").write_text(json.dumps(lists[0]) + "\n")
  with pytest.raises(
    errors.UserError, match=r"rankings\.model=hf:.*do not fit"
  ):
    jobs.label(config, epath.Path(tmp_path / "again"), needs)


def test_ranks_of_scores():
  assert rankers.ranks_of([0.5, 2.0, 0.5, -1.0]) == [2, 1, 2, 3]


@pytest.fixture
def own(tmp_path, monkeypatch):
  """Writes the function of a module of one's own; its import path."""

  def write(body):
    name = f"own_ranker_{abs(hash(body))}"
    text = f"import numpy as np\ndef rank(prompts, responses):\n  {body}\n"
    (tmp_path / f"{name}.py").write_text(text)
    return f"{name}:rank"

  monkeypatch.syspath_prepend(str(tmp_path))
  yield write
  for name in [n for n in sys.modules if n.startswith("own_ranker_")]:
    del sys.modules[name]


@pytest.mark.parametrize(
  "body",
  [
    "return [[1 + len(t) for t in texts] for texts in responses]",
    "return tuple(np.asarray([1 + len(t) for t in x]) for x in responses)",
  ],
)
def test_a_function_ranks(body, own, tmp_path, first, listed):
  path = own(body)
  label(tmp_path / "out", first, listed, **{"rankings.labeler": path})
  for record in records(tmp_path / "out")["test"]:
    if record.get("round") == 2:
      assert record["labeler"] == path
      assert record["ranks"] == [1 + len(t) for t in record["responses"]]


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ("return 1 / 0", r"failed: ZeroDivisionError.*own_ranker.*:3\)"),
    ("return None", "it returned None; a list of ranks is right"),
    ("return []", "returned 0 for 6 prompts"),
    ("return [[1] for _ in prompts]", '"ranks" has 1 entries'),
    ("return [7 for _ in prompts]", "it should be a list, not 7"),
    ("return [[0] * len(x) for x in responses]", r'"ranks"\[0\] should be an'),
    ("return [[.5] * len(x) for x in responses]", r'"ranks"\[0\] should be an'),
  ],
)
def test_what_a_function_returns_is_checked(
  body, message, own, tmp_path, first, listed
):
  changes = {"rankings.labeler": own(body)}
  with pytest.raises(errors.UserError, match=message):
    label(tmp_path / "out", first, listed, **changes)
  assert not (tmp_path / "out" / "train.jsonl").exists()


def ranked(rows):
  """Ranks of every list: the order in which they stand."""
  return [
    row | {"ranks": list(range(1, 1 + len(row["responses"]))), "labeler": "ann"}
    for row in rows
  ]


def by_people(tmp_path, first, listed, rows, name="ranked.jsonl"):
  path = tmp_path / name
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  changes = {"rankings.labeler": "people", "rankings.file": str(path)}
  return label(tmp_path / "out", first, listed, **changes)


def test_people_rank_in_any_order(tmp_path, first, listed):
  rows = ranked(lines(listed / "to_rank.jsonl"))
  turned = [
    row | {key: row[key][::-1] for key in ("responses", "ranks", "ended")}
    for row in rows[::-1]
  ]
  turned[0] |= {"ratings": [1.0] * len(turned[0]["ranks"]), "labeler": "bob"}
  by_people(tmp_path, first, listed, turned)
  new = [r for of in records(tmp_path / "out").values() for r in of]
  new = {r["prompt"]: r for r in new if r.get("round") == 2}
  assert len(new) == sum(SMALL[split] for split in SPLITS)
  for row in rows:
    record = new[row["prompt"]]
    place = {text: n for n, text in enumerate(row["responses"], 1)}
    assert record["ranks"] == [place[text] for text in record["responses"]]
  assert new[turned[0]["prompt"]]["labeler"] == "bob"
  assert set(new[turned[0]["prompt"]]["ratings"]) == {1.0}


def test_several_people_may_rank_a_list(tmp_path, first, listed):
  rows = ranked(lines(listed / "to_rank.jsonl"))
  again = rows[0] | {"labeler": "eve", "ranks": rows[0]["ranks"][::-1]}
  by_people(tmp_path, first, listed, [*rows, again])
  found = [r for of in records(tmp_path / "out").values() for r in of]
  mine = [r for r in found if r["prompt"] == rows[0]["prompt"]]
  assert [r["labeler"] for r in mine] == ["ann", "eve"]


def without(key):
  return lambda rows: [{k: v for k, v in rows[0].items() if k != key}, *rows]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda rows: rows[1:], r"1 of \d+ lists have no ranks in it, the first"),
    (without("ranks"), r'ranked\.jsonl:1: no "ranks"'),
    (lambda rows: [rows[0] | {"ranks": [1]}, *rows], '"ranks" has 1 entries'),
    (lambda rows: [rows[0] | {"prompt": "who ?"}, *rows],
     r"ranking 1: its prompt \('who \?'\) are none of the candidates"),
    (lambda rows: [rows[0] | {"responses": ["x", *rows[0]["responses"][1:]]}],
     "ranking 1: its responses .* none of the candidates"),
    (lambda rows: [], "empty"),
  ],
)  # fmt: skip
def test_ranks_that_do_not_fit(change, message, tmp_path, first, listed):
  rows = ranked(lines(listed / "to_rank.jsonl"))
  with pytest.raises(errors.UserError, match=message):
    by_people(tmp_path, first, listed, change(rows))
  assert not (tmp_path / "out" / "train.jsonl").exists()


@pytest.mark.parametrize("name", ["", "ranked-{round}.jsonl"])
def test_without_ranks_it_says_what_to_do(
  name, tmp_path, first, listed, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  changes = {"rankings.labeler": "people", "rankings.file": name}
  with pytest.raises(errors.UserError) as error:
    label(tmp_path / "out", first, listed, **changes)
  told = "ranked-2.jsonl" if name else "--config.rankings.file="
  for word in (str(listed / "to_rank.jsonl"), told, "same command again"):
    assert word in str(error.value)


def test_a_list_of_one_text_needs_nobody():
  alone = {"prompt": "p", "responses": ["a", "a"], "ended": [True, True]}
  assert list(people.to_rank({"train": [alone]})) == []
  verdicts = people.ranker({})("train", [alone], (), None)
  assert verdicts == [rankers.Verdict(0, [1, 1], "nobody")]


def test_a_world_without_labelers_says_who_may_rank():
  config = iterated.get_config("rankings-files-round2").unlock()
  config.rankings.labeler = "world"
  with pytest.raises(errors.UserError) as error:
    rankers.check(config)
  for word in ("data.source=files", "reward", "people", "my_module"):
    assert word in str(error.value)


def test_without_a_judge_nothing_is_graded(
  tmp_path, first, listed, monkeypatch
):
  here = worlds.of(evals_toys.config_of().data)
  world = dataclasses.replace(here, judge=None, labelers={})
  monkeypatch.setattr(worlds, "of", lambda data: world)
  rows = ranked(lines(listed / "to_rank.jsonl"))
  metrics, tables = by_people(tmp_path, first, listed, rows)
  assert "agreement" not in tables
  assert not [name for name in metrics if "judge" in name or "likert" in name]
  assert 0 <= metrics["rankings/ties"] < 1


def test_accuracy_by_round_and_source(tmp_path, first, listed, monkeypatch):
  """Reward models that like long, or short, texts: counted by hand."""
  label(tmp_path, first, listed)
  ctx = evals_toys.make_context(rankings=tmp_path)
  found = ctx.rows("rankings", "test")

  def scores(ctx, sign, batch, *, rows):
    return sign * batch["is_response"].sum(axis=-1)

  monkeypatch.setattr(reward_models.reward, "scores", scores)
  shared = evals_toys.fake_bench(ctx, [], sft=lambda prompts: prompts)
  models = {"long": lambda: 1, "short": lambda: -1}
  shared = dataclasses.replace(shared, reward_models=models)
  metrics, tables = reward_models.evaluate_reward_models(shared)
  lengths = found.take(slice(None))["is_response"].sum(axis=-1)
  right, count = {}, {}
  for n, i in enumerate(found.index):
    record = found.source[i]
    k = len(record["responses"])
    for a in range(k):
      for b in range(k):
        if record["ranks"][a] < record["ranks"][b]:
          names = ["all"]
          if record["sources"][a] == record["sources"][b]:
            where = f"round{record.get('round', 1)}/{record['sources'][a]}"
            names.append(where)
          for name in names:
            key = (name, record["group"])
            won = (np.sign(lengths[n, a] - lengths[n, b]) + 1) / 2
            right[key] = right.get(key, 0) + won
            count[key] = count.get(key, 0) + 1
  assert ("round2/policy", "training") in count
  for (name, group), total in count.items():
    share = right[name, group] / total
    at = "reward_models/accuracy/{}/{}/{}"
    assert metrics[at.format("long", name, group)] == pytest.approx(share)
    assert metrics[at.format("short", name, group)] == pytest.approx(1 - share)
  assert len(tables["reward_models"]) == 2 * len(count)
