"""Makes docs/results.md from the results that are committed here.

  python -m benchmarks.results > docs/results.md
  python -m benchmarks.results --runs=runs > docs/results.md

The second first takes over the finished runs under `runs` of the experiments
of TAKEN in their variant :tiny, whichever seeds are there (`taking_over`): what
was measured, and the seconds of every stage that they were built on. It refuses
a seed of other settings, or of another state of the world, than its
experiment's others have; --replace puts it in their place.
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks import taking_over
from instruct_jax import paper
from instruct_jax.base import command

FOLDER = pathlib.Path(__file__).parent / "results"
MAIN = "ppo_ptx"  # whose chain is the README's, and has the baselines' numbers
EXPERIMENTS = {
  "dpo": "DPO",
  "best_of_n": "best-of-n, learned",
  "expert_iteration": "expert iteration",
  "rloo": "RLOO",
  "grpo": "GRPO",
  "ppo": "PPO",
  "ppo_ptx": "PPO-ptx",
  "iterated": "PPO-ptx, iterated",
}
FOLDS = "rm_folds"  # cross-validation over labelers
LEFT_OUT = (  # label, labelers of its metrics, the paper's
  ("labelers trained on", "trained_on", paper.RM_ACCURACY["training"]),
  ("the group left out", "left_out", paper.RM_ACCURACY["held_out"]),
  ("labelers of no group", "nobody", None),
)
STAGES = (
  "dataset",
  "pretrain",
  "sft",
  "rankings",
  "rm",
  "select",
)  # that all experiments share
SUBJECTS = {"gpt": "GPT", "prompted_gpt": "prompted GPT", "sft": "SFT"}
WINS = (  # who over whom, beside every experiment over SFT
  ("sft", "prompted_gpt"),
  ("prompted_gpt", "gpt"),
)
GROUPS = {"training": "training labelers", "held_out": "held-out labelers"}
MEASURES = (  # label, metric, factor, decimals
  ("Likert, 1 to 7", "likert", 1, 2),
  ("closed-domain hallucination, %", "hallucination/all", 100, 0),
  (
    "truthful and informative, unseen topics, %",
    "truthfulness/qa_truthful_informative",
    100,
    0,
  ),
  ("toxic when asked for respect, %", "toxicity/respectful", 100, 0),
  ("follows the constraint, %", "metadata/satisfies_constraint", 100, 0),
  ("tasks, mean of the sets, exact match %", "nlp/mean", 100, 1),
  ("KL from SFT, nats a response", "kl", 1, 2),
  ("zorp prompts (2 % of training), Likert", "language/zorp", 1, 1),
  ("code prompts (2 % of training), Likert", "language/code", 1, 1),
)
REWARD = (  # label, stage, metric, the paper's
  (
    "accuracy on held-out prompts, training labelers",
    "rm",
    "reward/accuracy/training",
    paper.RM_ACCURACY["training"],
  ),
  (
    "accuracy on held-out prompts, held-out labelers",
    "rm",
    "reward/accuracy/held_out",
    paper.RM_ACCURACY["held_out"],
  ),
  ('"the longer wins"', "rm", "reward/accuracy_longer/training", None),
  ("the judge itself", "rm", "reward/accuracy_judge/training", None),
  (
    "agreement between training labelers",
    "rankings",
    "agreement/training",
    paper.AGREEMENT["training"],
  ),
  (
    "agreement between held-out labelers",
    "rankings",
    "agreement/held_out",
    paper.AGREEMENT["held_out"],
  ),
)
# What claims and figures need beside them.
TAKEN = (
  *EXPERIMENTS,
  FOLDS,
  "select",
  "sft_epochs",
  "overoptimization",
  "kl_penalty",
  "sizes",
  "sweeps",
  "figures",
)

Rows = Sequence[Sequence[str]]
Results = dict[str, dict[int, dict[str, Any]]]  # by experiment and seed


def read(
  folder: pathlib.Path = FOLDER, names: Iterable[str] = tuple(EXPERIMENTS)
) -> Results:
  """{experiment: {seed: its results}} of the experiments that are there.

  Those of another world than MAIN's first seed are left out: numbers beside
  each other are of one.
  """
  results: Results = {}
  world = None
  for name in (MAIN, *names):
    for path in sorted(folder.glob(f"{name}-tiny-seed*.json")):
      kept = json.loads(path.read_text())
      world = kept.get(taking_over.DATA, "") if world is None else world
      if name in names and kept.get(taking_over.DATA, "") == world:
        seed = int(path.stem.rpartition("seed")[2])
        results.setdefault(name, {})[seed] = kept
  return {name: results[name] for name in names if name in results}


def table(head: Sequence[str], rows: Rows) -> str:
  """Rows as Markdown."""
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def side_by_side(results: Results) -> Rows:
  """Every experiment: wins over SFT, KL, tasks, episodes, seconds."""
  rows = []
  for name, by_seed in results.items():
    wins = [
      _win(one, name, "sft", group)
      for group in GROUPS
      for one in by_seed.values()
    ]
    training, held_out = wins[: len(by_seed)], wins[len(by_seed) :]
    own = [_own(one) for one in by_seed.values()]
    episodes = [sum(stage["episodes"] for stage in stages) for stages in own]
    seconds_ = [
      sum(stage["seconds"]["wall"] for stage in stages) for stages in own
    ]
    rows.append(
      [
        EXPERIMENTS[name],
        _each([100 * row["value"] for row in training], 1),
        _each([100 * row["value"] for row in held_out], 1),
        *(
          _each(
            [f * one["metrics"][f"{m}/{name}"] for one in by_seed.values()], d
          )
          for m, f, d in (("kl", 1, 2), ("likert", 1, 2), ("nlp/mean", 100, 1))
        ),
        f"{max(episodes):,}" if max(episodes) else "–",
        " / ".join(f"{value:.0f}" for value in seconds_),
      ]
    )
  return rows


def _own(result: dict) -> list[dict]:
  """The stages that a run does not share with all others."""
  return [
    stage for name, stage in result["stages"].items() if name not in STAGES
  ]


def _win(result: dict, subject: str, baseline: str, group: str) -> dict | None:
  """The row of a preference, or None."""
  name = f"preference/{subject}_over_{baseline}/{group}"
  rows = result["tables"].get("preference", [])
  return next((row for row in rows if row["metric"] == name), None)


def _each(values: Sequence[float], decimals: int) -> str:
  """The mean of the seeds, and each."""
  mean = sum(values) / len(values)
  each = " / ".join(f"{value:.{decimals}f}" for value in values)
  return f"{mean:.{decimals}f} ({each})"


def preferences(results: Results) -> Rows:
  """How often labelers prefer one to the other, with 95 % intervals."""
  pairs = [(name, name, "sft") for name in reversed(results)]
  pairs += [(MAIN, subject, baseline) for subject, baseline in WINS]
  rows = []
  for experiment, subject, baseline in pairs:
    for group, label in GROUPS.items():
      by_seed = results[experiment]
      cells = [
        _interval(_win(by_seed[seed], subject, baseline, group))
        if seed in by_seed
        else "–"
        for seed in results[MAIN]
      ]
      title = f"{_label(subject)} over {_label(baseline)}, {label}"
      rows.append([title, *cells])
  return rows


def _label(subject: str) -> str:
  return (SUBJECTS | EXPERIMENTS)[subject]


def _interval(row: dict | None) -> str:
  if row is None:
    return "–"
  value, low, high = (100 * row[key] for key in ("value", "low", "high"))
  return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _tasks(results: Results) -> Iterator[tuple[str, str, int, int]]:
  """Every set of tasks as a row of MEASURES, by what GPT has."""
  first = next(iter(results[MAIN].values()))["metrics"]
  for name in first:
    group, _, task = name.removesuffix("/gpt").partition("/")
    whole = task == "mean" or task.endswith("_f1")
    if group == "nlp" and name.endswith("/gpt") and not whole:
      yield f"task: {task}, exact match %", f"nlp/{task}", 100, 0


def listed(results: Results) -> list[tuple[str, str, int, int]]:
  """MEASURES with every set of tasks, in front of their mean."""
  before = next(n for n, row in enumerate(MEASURES) if row[1] == "nlp/mean")
  return [*MEASURES[:before], *_tasks(results), *MEASURES[before:]]


def measures(results: Results) -> Rows:
  """The mean over the seeds of every measure, and each seed's."""
  rows = []
  for label, metric, factor, decimals in listed(results):
    cells = []
    for subject in (*SUBJECTS, *results):
      name = f"{metric}/{subject}"
      of_subject = results.get(subject, results[MAIN])
      values = [
        factor * one["metrics"][name]
        for one in of_subject.values()
        if name in one["metrics"]
      ]
      whole = values and len(values) == len(of_subject)
      # Else of some seeds only, or of a prompted subject.
      cells.append(_each(values, decimals) if whole else "–")
    rows.append([label, *cells])
  return rows


def reward_model(results: Results) -> Rows:
  """Accuracy of the reward model and agreement of labelers, per cent."""
  rows = []
  for label, stage, metric, theirs in REWARD:
    chains = [one["stages"] for one in results[MAIN].values()]
    cells = [
      f"{100 * chain[stage]['metrics'][metric]:.1f}" if stage in chain else "–"
      for chain in chains
    ]
    there = f"{theirs.value} ± {theirs.margin}" if theirs else ""
    rows.append([label, *cells, there])
  return rows


def folds(by_seed: dict[int, dict[str, Any]], seeds: Iterable[int]) -> Rows:
  """Accuracy of five reward models by the labelers asked about, per cent."""
  rows = []
  for label, labelers, theirs in LEFT_OUT:
    cells = []
    for seed in seeds:
      metrics = by_seed[seed]["metrics"] if seed in by_seed else {}
      mean = metrics.get(f"folds/accuracy/{labelers}")
      error = metrics.get(f"folds/standard_error/{labelers}")
      is_there = mean is not None and error is not None
      cells.append(f"{100 * mean:.1f} ± {100 * error:.1f}" if is_there else "–")
    rows.append(
      [label, *cells, f"{theirs.value} ± {theirs.margin}" if theirs else ""]
    )
  return rows


def seconds(results: Results) -> Rows:
  """Wall seconds of every stage, of them compiling."""
  stages: dict[str, dict[int, dict]] = {name: {} for name in STAGES}
  for by_seed in results.values():
    for seed, one in by_seed.items():
      for name, stage in one["stages"].items():
        stages.setdefault(name, {})[seed] = stage["seconds"]
  rows = []
  for name, by_seed in stages.items():
    times = [by_seed.get(seed) for seed in results[MAIN]]
    cells = [
      f"{t['wall']:.1f} ({t['compile']:.1f})" if t else "–" for t in times
    ]
    rows.append([name, *cells])
  return rows


def iteration(folder: pathlib.Path = FOLDER) -> Rows:
  """Median seconds of the phases of a PPO iteration, by benchmarks.chain."""
  phases = json.loads((folder / "chain.json").read_text())["iteration"]
  return [
    [name, f"{phase['median_s']:.3f}", f"{phase['compile_s']:.1f}"]
    for name, phase in phases.items()
  ]


def document(folder: pathlib.Path = FOLDER) -> str:
  """docs/results.md."""
  results = read(folder)
  main_ = results[MAIN]
  seeds = [f"seed {seed}" for seed in main_]
  first = next(iter(main_.values()))["tables"]["preference"][0]
  peak = max(one["peak_memory_bytes"] for one in main_.values()) / 1e9
  names = " / ".join(map(str, main_))
  columns = [f"mean of seeds {names}", *map(_label, (*SUBJECTS, *results))]
  return f"""# Results of `:tiny`

Made by `python -m benchmarks.results > docs/results.md` from
`benchmarks/results/*.json`; a test holds the two together. What they mean
stands in the README.

`python -m instruct_jax.main --config=experiments/NAME.py --config.seed=S`:
{first["n"]:,} test prompts ({first["clusters"]} independent clusters),
temperature 1, 95 % intervals clustered by prompt.

## Side by side

Mean of seeds {names}, and each. All start from the same SFT model and read the
same rankings or the reward model of these; episodes are responses sampled in
training, seconds those of the stages that an experiment has of its own.

{
    table(
      [
        "experiment",
        "preferred over SFT, training labelers, %",
        "held-out labelers, %",
        "KL from SFT, nats",
        "Likert",
        "tasks, %",
        "episodes",
        "seconds",
      ],
      side_by_side(results),
    )
  }

## Labelers prefer … (%)

{table(["test prompts", *seeds], preferences(results))}

## Measures

{table(columns, measures(results))}

Tasks are asked as plain text, so those of prompted GPT are GPT's.

## Reward model and labelers (%)

{table(["pairs of test prompts", *seeds, "the paper"], reward_model(results))}

The paper's accuracies are five-fold over labelers, each group held out once;
here one fixed group is held out, which is not the same figure. This is
(`experiments/rm_folds.py`; means of five reward models and standard errors):

{
    table(
      ["pairs of test prompts", *seeds, "the paper"],
      folds(read(folder, [FOLDS]).get(FOLDS, {}), main_),
    )
  }

## Seconds of every stage, and of them compiling

A seed had one of two cores, other work on the other, and found its programs
compiled: the default command from nothing is in the README.

{table(["stage", *seeds], seconds(results))}

Peak memory of the last stage of PPO-ptx: {peak:.2f} GB.

## Seconds of one PPO iteration

{table(["phase", "median", "compiling, once"], iteration(folder))}"""


def main() -> None:
  """Prints the document."""
  parser = command.Parser("benchmarks.results", __doc__)
  parser.add_argument(
    "--runs", type=pathlib.Path, help="a workdir to take over"
  )
  parser.add_argument(
    "--replace",
    action="store_true",
    help="delete committed seeds of other settings",
  )
  arguments = parser.parse_args()
  if arguments.runs:
    taking_over.take_over(
      arguments.runs, FOLDER, TAKEN, replace=arguments.replace
    )
  print(document())


if __name__ == "__main__":
  command.run(main)
