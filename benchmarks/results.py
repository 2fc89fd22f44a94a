"""Makes docs/results.md from the results that are committed here.

  python -m benchmarks.results > docs/results.md
  python -m benchmarks.results --runs=runs > docs/results.md

The second first takes over the chains under `runs`, whichever seeds of
ppo_ptx-tiny are finished there: their results and every stage's seconds, and
beside them the results of ppo-tiny, the same without ptx.
"""

import json
import pathlib
from collections.abc import Sequence

from instruct_jax import paper
from instruct_jax.base import command, errors

FOLDER = pathlib.Path(__file__).parent / "results"
STAGES = (
  "dataset",
  "pretrain",
  "sft",
  "rankings",
  "rm",
  "select",
  "ppo_ptx",
)
WITHOUT_PTX = "ppo"
SUBJECTS = {
  "gpt": "GPT",
  "prompted_gpt": "prompted GPT",
  "sft": "SFT",
  "ppo": "PPO",
  "ppo_ptx": "PPO-ptx",
}
WINS = (  # who over whom
  ("ppo_ptx", "sft"),
  ("ppo", "sft"),
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
  ("task: reading, exact match %", "nlp/reading", 100, 0),
  ("task: counting, exact match %", "nlp/counting", 100, 0),
  ("task: to_english, exact match %", "nlp/to_english", 100, 0),
  ("task: to_zorp, exact match %", "nlp/to_zorp", 100, 0),
  ("task: sentiment, exact match %", "nlp/sentiment", 100, 0),
  ("task: sequence, exact match %", "nlp/sequence", 100, 0),
  ("tasks, mean of the sets, exact match %", "nlp/mean", 100, 1),
  ("KL from SFT, nats a response", "kl", 1, 2),
  ("zorp prompts (2 % of training), Likert", "language/zorp", 1, 1),
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
KEPT = ("reward/accuracy", "agreement/")  # metrics of other stages than PPO's

Rows = Sequence[Sequence[str]]


def read(folder: pathlib.Path = FOLDER) -> tuple[dict, dict]:
  """({seed: PPO-ptx's results}, {seed: {stage: seconds, metrics}}).

  PPO-ptx's results have those of PPO among theirs, where that was run.
  """
  results, chains = {}, {}
  for path in sorted(folder.glob("ppo_ptx-tiny-seed*.json")):
    seed = int(path.stem.rpartition("seed")[2])
    results[seed] = _with_ppo(
      json.loads(path.read_text()),
      folder / f"{WITHOUT_PTX}-tiny-seed{seed}.json",
    )
    chain = folder / f"chain-tiny-seed{seed}.json"
    chains[seed] = json.loads(chain.read_text()) if chain.exists() else {}
  return results, chains


def _with_ppo(results: dict, path: pathlib.Path) -> dict:
  """Adds what PPO alone has; what both were asked, both answered alike."""
  if not path.exists():
    return results
  ppo = json.loads(path.read_text())
  tables = {
    name: ppo["tables"].get(name, []) + rows
    for name, rows in results["tables"].items()
  }
  metrics = ppo["metrics"] | results["metrics"]
  return results | {"metrics": metrics, "tables": tables}


def take_over(runs: pathlib.Path, folder: pathlib.Path = FOLDER) -> None:
  """Copies the finished chains of `runs`; UserError where there is none."""
  for path in sorted(runs.glob(f"{WITHOUT_PTX}-tiny*/results.json")):
    results = json.loads(path.read_text())
    if path.parent.name == _folder(f"{WITHOUT_PTX}-tiny", results["seed"]):
      _write(folder / f"{WITHOUT_PTX}-tiny", results["seed"], results)
  paths = sorted(runs.glob("ppo_ptx-tiny*/results.json"))
  if not paths:
    raise errors.UserError(
      f"--runs={runs}: no finished run of ppo_ptx.py:tiny in it"
    )
  for path in paths:
    results = json.loads(path.read_text())
    seed = results["seed"]
    if path.parent.name != _folder("ppo_ptx-tiny", seed):
      continue  # an earlier run, moved aside
    chain = {}
    for stage in STAGES:
      name = _folder(f"{stage}-tiny", seed if stage != "dataset" else 0)
      file = runs / name / "results.json"
      if file.exists():
        there = json.loads(file.read_text())
        chain[stage] = {
          "seconds": there["seconds"],
          "peak_memory_bytes": there["peak_memory_bytes"],
          "metrics": {
            metric: value
            for metric, value in there["metrics"].items()
            if metric.startswith(KEPT)
          },
        }
    _write(folder / "ppo_ptx-tiny", seed, results)
    _write(folder / "chain-tiny", seed, chain)


def _folder(name: str, seed: int) -> str:
  return f"{name}-seed{seed}" if seed else name


def _without_command(results: dict) -> dict:
  """Results as they are committed: what was typed may name somebody's paths."""
  return results | {
    key: {k: v for k, v in results[key].items() if k != "command"}
    for key in ("provenance", "evaluated_by")
    if key in results
  }


def _write(stem: pathlib.Path, seed: int, tree: dict) -> None:
  file = stem.with_name(f"{stem.name}-seed{seed}.json")
  tree = _without_command(tree)
  file.write_text(json.dumps(tree, indent=2) + "\n")


def table(head: Sequence[str], rows: Rows) -> str:
  """Rows as Markdown."""
  lines = [head, ["---"] * len(head), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def preferences(results: dict[int, dict]) -> Rows:
  """How often labelers prefer one to the other, with 95 % intervals."""
  lists = {
    seed: {row["metric"]: row for row in one["tables"]["preference"]}
    for seed, one in results.items()
  }
  rows = []
  for subject, baseline in WINS:
    for group, label in GROUPS.items():
      name = f"preference/{subject}_over_{baseline}/{group}"
      cells = [_interval(by_metric.get(name)) for by_metric in lists.values()]
      title = f"{SUBJECTS[subject]} over {SUBJECTS[baseline]}, {label}"
      rows.append([title, *cells])
  return rows


def _interval(row: dict | None) -> str:
  if row is None:
    return "–"
  value, low, high = (100 * row[key] for key in ("value", "low", "high"))
  return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def measures(results: dict[int, dict]) -> Rows:
  """The mean over the seeds of every measure, and each seed's."""
  rows = []
  for label, metric, factor, decimals in MEASURES:
    cells = []
    for subject in SUBJECTS:
      name = f"{metric}/{subject}"
      values = [
        factor * one["metrics"][name]
        for one in results.values()
        if name in one["metrics"]
      ]
      if len(values) < len(results):
        cells.append("–")  # of some seeds only, or of a prompted subject
        continue
      mean = sum(values) / len(values)
      each = " / ".join(f"{value:.{decimals}f}" for value in values)
      cells.append(f"{mean:.{decimals}f} ({each})")
    rows.append([label, *cells])
  return rows


def reward_model(chains: dict[int, dict]) -> Rows:
  """Accuracy of the reward model and agreement of labelers, per cent."""
  rows = []
  for label, stage, metric, theirs in REWARD:
    cells = [
      f"{100 * chain[stage]['metrics'][metric]:.1f}" if stage in chain else "–"
      for chain in chains.values()
    ]
    there = f"{theirs.value} ± {theirs.margin}" if theirs else ""
    rows.append([label, *cells, there])
  return rows


def seconds(chains: dict[int, dict]) -> Rows:
  """Wall seconds of every stage, of them compiling."""
  rows = []
  for stage in STAGES:
    times = [c[stage]["seconds"] if stage in c else {} for c in chains.values()]
    cells = [
      f"{t['wall']:.1f} ({t['compile']:.1f})" if t else "–" for t in times
    ]
    rows.append([stage, *cells])
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
  results, chains = read(folder)
  seeds = [f"seed {seed}" for seed in results]
  first = next(iter(results.values()))["tables"]["preference"][0]
  peak = max(one["peak_memory_bytes"] for one in results.values()) / 1e9
  names = " / ".join(map(str, results))
  return f"""# Results of `:tiny`

Made by `python -m benchmarks.results > docs/results.md` from
`benchmarks/results/*.json`; a test holds the two together. What they mean
stands in the README.

`python -m instruct_jax.main --config=experiments/ppo_ptx.py --config.seed=S`,
and `ppo.py` (PPO: the same without pretraining gradients, γ = 0):
{first["n"]:,} test prompts ({first["clusters"]} independent clusters),
temperature 1, 95 % intervals clustered by prompt.

## Labelers prefer … (%)

{table(["test prompts", *seeds], preferences(results))}

## Measures

{table([f"mean of seeds {names}", *SUBJECTS.values()], measures(results))}

Tasks are asked as plain text, so those of prompted GPT are GPT's.

## Reward model and labelers (%)

{table(["pairs of test prompts", *seeds, "the paper"], reward_model(chains))}

The paper's accuracies are five-fold over labelers, each group held out once;
here one fixed group is held out, which is not the same figure.

## Seconds of every stage, and of them compiling

{table(["stage", *seeds], seconds(chains))}

Peak memory of the last stage: {peak:.2f} GB.

## Seconds of one PPO iteration

{table(["phase", "median", "compiling, once"], iteration(folder))}"""


def main() -> None:
  """Prints the document."""
  parser = command.Parser("benchmarks.results", __doc__)
  parser.add_argument(
    "--runs", type=pathlib.Path, help="a workdir to take over"
  )
  arguments = parser.parse_args()
  if arguments.runs:
    take_over(arguments.runs)
  print(document())


if __name__ == "__main__":
  command.run(main)
