"""Measures any checkpoint on everything that the paper measured.

  python -m instruct_jax.evaluate --run=runs/ppo_ptx-tiny --data=DATA --out=OUT
  python -m instruct_jax.evaluate --run=sft=runs/sft-files --run=hf:pythia \\
    --sets=truthfulqa,squadv2 --data=DATA --out=OUT --limit=500
  python -m instruct_jax.evaluate --list

Models are finished runs and hf:/path of checkpoints in Hugging Face format. The
files of the sets lie anywhere in --data, as they were published (--list says
where, and what they are called), or are named: --file sst2=tfds:glue/sst2:test.
A set whose files are not there is listed as missing. Where a file brings the
answers, as people's rankings do, no model need be named.

Writes OUT/results.json, OUT/SET.jsonl (what was asked and answered) and
OUT/report.html. The same command goes on where it was broken off; what has been
measured of the same parameters, files and settings is not measured again. On
many hosts that share --out it is one job, as `instruct_jax.main`. Exit codes: 0
done, 2 bad input, 75 SIGTERM, or another process of the job is gone, 130
Ctrl-C.
"""

from absl import flags
from etils import epath

from instruct_jax import sets
from instruct_jax.base import allocation, command, compilation, errors
from instruct_jax.measuring import contract, found, options, running
from instruct_jax.report import evaluation
from instruct_jax.runs import alike, judging, lock, measured, processes

_RUN = flags.DEFINE_multi_string(
  "run", [], "A run's folder or hf:/path, NAME=PATH to name it; repeat it."
)
_SETS = flags.DEFINE_string("sets", "", "Which, with commas; '': all.")
_DATA = flags.DEFINE_string("data", "", "The folder that holds the sets.")
_FILE = flags.DEFINE_multi_string(
  "file", [], "SET=PATH or SET.ROLE=PATH, where a set's file is."
)
_OUT = flags.DEFINE_string("out", "", "The folder for what is found.")
_SEED = flags.DEFINE_integer("seed", 0, "Of samples, and of --limit.")
_LIMIT = flags.DEFINE_integer("limit", 0, "Items of a set at most; 0: all.")
_TEMPLATE = flags.DEFINE_string(
  "template", "none", "Around prompts: none, or own (each model's)."
)
_OPTION = flags.DEFINE_multi_string(
  "set_option", [], "SET.OPTION=VALUE, as squadv2.shots=2."
)
_SCORER = flags.DEFINE_string(
  "scorer",
  "",
  "A reward model, run or hf:/path, for --best_of and sets that can use one;"
  " several, with commas, judge together.",
)
_COMBINE = flags.DEFINE_enum(
  "combine", "mean", ["mean", "worst"], "What several of --scorer say together."
)
_BEST_OF = flags.DEFINE_integer(
  "best_of", 1, "Each answer is the one of so many that --scorer likes best."
)
_LIST = flags.DEFINE_bool("list", False, "Say which sets there are, and end.")
flags.adopt_module_key_flags(processes)


def main(argv: list[str]) -> None:
  """Finds the files, measures, writes, prints."""
  del argv
  known = sets.all_sets()
  if _LIST.value:
    evaluation.print_sets(known)
    return
  chosen = _chosen(known)
  given = options.split(_OPTION.value, "--set_option", chosen)
  options.check(chosen, given)
  there = _there(chosen)
  if not _OUT.value:
    raise errors.UserError("--out: name a folder for what is found.")
  allocation.keep()
  compilation.enable_cache()
  _check_scorer(chosen)
  scorer = None
  if _SCORER.value:
    scorer = judging.scorer(_SCORER.value, _COMBINE.value)
  asks = any(
    one.asks_models for name, one in chosen.items() if not there[name].missing
  )
  models = []
  if _RUN.value or asks:
    models = measured.models(_RUN.value, template=_TEMPLATE.value)
  others = processes.join()
  if others is not None:
    processes.start(others, more=_read(models, scorer, there))
  settings = contract.Settings(
    _SEED.value, _LIMIT.value, given, best_of=_BEST_OF.value
  )
  with lock.hold(epath.Path(_OUT.value)):
    results = running.measure(
      *(models, chosen, there, settings, _OUT.value),
      scorer=scorer,
    )
    page = evaluation.write(_OUT.value, results) if results["sets"] else None
  if page is not None:
    evaluation.print_results(results)
    print(f"\nReport: {page}")
  if failed := results["failed"]:
    name, why = next(iter(failed.items()))
    raise errors.UserError(
      f"{len(failed)} of {len(chosen)} sets failed, the first: {name}: {why}"
    )


def _chosen(known: dict[str, contract.Set]) -> dict[str, contract.Set]:
  names = [name.strip() for name in _SETS.value.split(",") if name.strip()]
  for name in names:
    if name not in known:
      raise errors.unknown("--sets", name, known)
  return {name: known[name] for name in names or known}


def _check_scorer(chosen: dict[str, contract.Set]) -> None:
  """UserError where nobody chooses, or a scorer that nothing would ask."""
  if _BEST_OF.value > 1 and not _SCORER.value:
    raise errors.UserError(
      f"--best_of={_BEST_OF.value}: --scorer=RUN of a reward model says who"
      " chooses."
    )
  asks = _BEST_OF.value > 1 or any(one.is_scored for one in chosen.values())
  if _SCORER.value and not asks:
    raise errors.UserError(
      f"--scorer={_SCORER.value}: none of {', '.join(chosen)} asks a reward"
      " model; --best_of=N has it choose what they are answered with"
    )
  if _COMBINE.present and "," not in _SCORER.value:
    raise errors.UserError(
      f"--combine={_COMBINE.value}: --scorer names no several reward models"
    )


def _read(
  models: list[running.Given],
  scorer: contract.Scorer | None,
  there: dict[str, found.Found],
) -> alike.Facts:
  """All that is read, which must be the same on all hosts."""
  judges = [scorer.described] if scorer else []
  read = [*(one.described for one in models), *judges]
  facts = {f"what {one['run']} holds": str(one["digest"]) for one in read}
  for name, one in there.items():
    for role, spec in one.files.items():
      facts[f"the content of {name}.{role}"] = running.digest_of(spec)
  return facts


def _there(chosen: dict[str, contract.Set]) -> dict[str, found.Found]:
  """The files of each set; UserError where there is none at all."""
  named = options.split(_FILE.value, "--file", chosen)
  there = {
    name: found.of_set(one, _DATA.value, named.get(name, {}))
    for name, one in chosen.items()
  }
  if all(one.missing for one in there.values()):
    name, one = next(iter(there.items()))
    where = f"--data={_DATA.value}" if _DATA.value else "--data is not given"
    raise errors.UserError(
      f"{where}: nothing of {', '.join(chosen)} is there;"
      f" {name} needs {one.missing} (--list says all of it)"
    )
  return there


if __name__ == "__main__":
  command.run_main(main, resumes="the same command goes on where it stopped")
