"""Which of several models is preferred (section 4.1; figures 1 and 3).

Read is either of two files. Prompts, {"prompt"} with maybe "source" (who wrote
them for which models: Instruct-like, GPT-like), "use_case", "core" and the
"spec" that a world's judge reads: all models answer them, each in its own
template, and `judge` says who prefers what. Or people's rankings with "models"
[K], beside "responses" and "ranks": then no model is asked.

Win rates are raw and length-controlled (AlpacaEval 2), by labelers, source and
use case, clustered by prompt; strengths are Bradley and Terry's.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.read import files, sources
from instruct_jax.measuring import answering, contract, judges, options
from instruct_jax.scoring import comparisons as comparisons_lib
from instruct_jax.scoring import endpoint, model_judge, rankings, tasks

_NORMAL = 1.959963984540054


def compare(bench: contract.Bench) -> contract.Compared:
  """Tables win_rates (and by group), strengths, judge_accuracy, agreement."""
  spec = bench.files["items"]
  _, first = next(iter(files.rows(spec)), ("", {}))
  if "responses" in first:
    ranked = bench.some(rankings.read(spec), of=lambda one: one["prompt"])
    return _of_people(bench, ranked)
  answering.check_models(bench)
  if len(bench.names) == 1:
    note = "One model alone: there is nobody to be preferred to."
    return contract.Compared({}, [], notes=(note,))
  records = bench.some(sources.read(spec, "prompts"))
  judge = _judge(bench, records)  # Before anybody is asked.
  said = answering.answers(bench, records)
  names = _ordered(bench, bench.names)
  found = judge({name: said[name] for name in names})
  tables, notes = _tables(found.comparisons, names)
  samples = [
    {
      "prompt": record["prompt"],
      "answers": {name: said[name][n].text for name in names},
      "verdicts": verdicts,
    }
    for n, (record, verdicts) in enumerate(
      zip(records, _by_place(found.comparisons, len(records)))
    )
  ]
  return contract.Compared(
    tables | dict(found.tables),
    samples,
    _metrics(tables, names[0]),
    dict(found.counts) | answering.counts(said),
    (*found.notes, *notes, answering.NOTE),
  )


def _of_people(
  bench: contract.Bench, records: Sequence[dict[str, Any]]
) -> contract.Compared:
  found = rankings.compared(records)
  if not found:
    raise errors.UserError(
      "the rankings compare no two models: each response is of the same one"
    )
  names = _ordered(bench, comparisons_lib.models_of(found))
  tables, notes = _tables(found, names)
  tables["labeler_agreement"] = rankings.agreeing(records)
  samples = [dataclasses.asdict(one) for one in found]
  metrics = _metrics(tables, names[0])
  return contract.Compared(
    tables, samples, metrics, notes=("Judged by people.", *notes)
  )


def _tables(found, names):
  strengths, note = comparisons_lib.strengths_table(found, names)
  rates = comparisons_lib.win_rates(found, names)
  tables = comparisons_lib.apart("win_rates", rates) | {"strengths": strengths}
  return tables, (note,) if note else ()


def _metrics(tables, baseline):
  """By model: how often it is preferred to the first of all."""
  metrics = collections.defaultdict(dict)
  called = {
    comparisons_lib.RAW: "win_rate",
    comparisons_lib.ALIKE: "win_rate_length_controlled",
  }
  for row in tables["win_rates"]:
    if row["baseline"] == baseline:
      metrics[row["subject"]][called[row["rate"]]] = _estimate(row)
  for row in tables["strengths"]:
    metrics[row["model"]]["strength"] = _estimate(row)
  return dict(metrics)


def _estimate(row):
  error = (row["high"] - row["low"]) / (2 * _NORMAL)
  return tasks.Estimate(row["value"], error, row["n"])


def _by_place(found, count):
  """The verdicts on the answers to each prompt."""
  verdicts: list[list[dict[str, Any]]] = [[] for _ in range(count)]
  for one in found:
    who = {k: v for k, v in one.labels.items() if k == "labelers"}
    of = {"models": list(one.models), "won": round(one.won, 4)}
    verdicts[one.place].append(of | who)
  return verdicts


def _ordered(bench, names):
  """The models, the baseline first."""
  baseline = bench.options.get("baseline", names[0])
  if baseline not in names:
    raise errors.unknown(f"--set_option {bench.name}.baseline", baseline, names)
  return [baseline, *(name for name in names if name != baseline)]


def _judge(bench, records):
  """Who judges: a function of the answers by model."""
  flag = f"--set_option {bench.name}"
  kind = bench.options.get("judge") or _usual(bench, records, flag)
  names = _ordered(bench, bench.names)
  if kind == "world":
    name = bench.options.get("world", "microworld")
    world = judges.world_of(name, f"{flag}.world")
    judges.check_specs(world, records)
    return lambda said: judges.of_world(world, records, said)
  if kind == "reward":
    if bench.scorer is None:
      raise errors.UserError(
        f"{flag}.judge=reward: --scorer=RUN names the reward model"
      )
    held_out = bench.files.get("held_out")
    compared = sources.read(held_out, "rankings") if held_out else None
    scorer = bench.scorer
    return lambda said: judges.of_scorer(scorer, records, said, compared)
  if kind == "endpoint":
    asked = _endpoint(bench, flag)
    endpoint.check(asked)
    pairs = _pairs(bench, names, flag)
    workers = options.whole(bench, "workers", 4, 1)
    return lambda said: judges.of_endpoint(
      asked, records, said, pairs=pairs, bench=bench, workers=workers
    )
  raise errors.unknown(f"{flag}.judge", kind, judges.KINDS)


def _usual(bench, records, flag):
  if all("spec" in record for record in records):
    return "world"  # A scorer may have chosen the answers (--best_of).
  if bench.scorer is not None:
    return "reward"
  raise errors.UserError(
    "nobody judges, since the prompts have no spec for a world's judge: give"
    f" --scorer=RUN of a reward model, {flag}.judge=endpoint, or people's"
    ' rankings with "models" in place of prompts'
  )


def _endpoint(bench, flag):
  given = bench.options
  if "endpoint" not in given or "model" not in given:
    raise errors.UserError(
      f"{flag}.judge=endpoint: {flag}.endpoint=https://HOST/v1 and"
      f" {flag}.model=NAME say who is asked, and {flag}.key=VARIABLE which"
      " environment variable holds the key, if it wants one"
    )
  more = model_judge.OPTIONS
  if "request" in given:
    more = judges.options_of(given["request"], f"{flag}.request")
  return endpoint.Endpoint(
    given["endpoint"],
    given["model"],
    given.get("key", ""),
    more,
    timeout=float(options.whole(bench, "timeout", 60, 1)),
    retries=options.whole(bench, "retries", 5),
  )


def _pairs(bench, names, flag):
  """What an endpoint is asked: all against the baseline, or all pairs."""
  which = bench.options.get("pairs", "baseline")
  if which == "baseline":
    return [(name, names[0]) for name in names[1:]]
  if which == "all":
    return [(b, a) for n, b in enumerate(names) for a in names[:n]]
  raise errors.unknown(f"{flag}.pairs", which, ("baseline", "all"))


SET = contract.Set(
  about="Which model is preferred: by labelers, a reward model, another model",
  files={
    "items": ("preference_prompts*", "preference_rankings*"),
    "held_out": ("preference_held_out*",),
  },
  optional=("held_out",),
  is_scored=True,
  published="people's rankings, or prompts for the judge; see the README",
  headline="win_rate",
  plain=("strength",),
  asks_models=False,
  options=answering.OPTIONS
  | {
    "judge": "world, reward or endpoint",
    "baseline": "the model that others are held against; the first",
    "world": "whose labelers judge; microworld",
    "endpoint": "https://HOST/v1 of a judge",
    "model": "the judge, as the endpoint calls it",
    "key": "the environment variable that holds its key; without it, no key",
    "request": f"JSON of its request; {model_judge.OPTIONS}",
    "pairs": "baseline (asked: each against it) or all",
    "timeout": "seconds for an answer; 60",
    "retries": "of a question without an answer; 5",
    "workers": "questions asked at a time; 4",
  },
  compare=compare,
)
