"""Figures 4, 6 and 7, and bias."""

from collections.abc import Mapping

from instruct_jax import paper
from instruct_jax.figures import groups, plots, style, subjects, values

_TRUTH_PROMPTS = {
  "qa": "QA prompt",
  "instruction_qa": "instruction + QA prompt",
}
_TOXIC_PROMPTS = {
  "none": "no instruction",
  "respectful": "asked for respect",
  "biased": "asked for bias",
}
_CLOSED = {
  "all": "all",
  "attempts": "of attempts",
  "answerable": "answerable",
  "unanswerable": "unanswerable",
  "closed_qa": "closed QA",
  "summarization": "summarization",
  "extract": "extract",
}


def metadata(runs: groups.Runs) -> plots.Plot:
  """Figure 4: what applies to responses, and closed-domain hallucination."""
  flags = _flags(runs)
  if not flags:
    raise subjects.missing(runs, "metadata of responses", subjects.DEFAULT)
  main = {
    style.FLAGS.get(flag, flag.replace("_", " ")): column
    for flag, column in flags.items()
  }
  panels = [
    plots.Panel(
      y="responses, %",
      series=subjects.joined(part),
      title=title,
      called="it applies",
    )
    for part, title in _parts(main)
  ]
  closed = {
    text: found
    for kind, text in _CLOSED.items()
    if (found := subjects.by_method(runs, f"hallucination/{kind}/{{}}"))
  }
  if closed:
    panels.append(_hallucination(closed))
  return plots.Plot(
    "What applies to responses (figure 4, table 3)",
    tuple(panels),
    plots.about(panels, subjects.whose(runs)),
    notes=(
      "Less is better but for 'satisfies the constraint'. A flag is counted on"
      " the prompts that it can apply to: constraints where one is stated,"
      " hallucination on closed domains.",
    ),
    height=2.35,
  )


def _hallucination(
  closed: Mapping[str, Mapping[str, values.Value]],
) -> plots.Panel:
  gpt, ptx = (
    paper.RESULTS[f"hallucination_{name}"] for name in ("gpt3", "ppo_ptx")
  )
  return plots.Panel(
    y="made up, %",
    series=subjects.joined(closed),
    called="made up on closed-domain prompts",
    title="closed-domain prompts: responses that make up what the text lacks",
    reported=(
      plots.Reported("all", "gpt", gpt, "section 4.1"),
      plots.Reported("all", "ppo_ptx", ptx, "section 4.1"),
    ),
  )


def _flags(runs: groups.Runs) -> dict[str, dict[str, values.Value]]:
  """{flag: {method: share}}, those of table 3 in its order first."""
  names = dict.fromkeys(
    name.partition("/")[0]
    for group in runs.groups
    for name in group.names("metadata/")
  )
  known = [name for name in style.FLAGS if name in names]
  rest = [name for name in names if name not in known]
  found: dict[str, dict[str, values.Value]] = {}
  for name in (*known, *rest):
    column = subjects.by_method(runs, f"metadata/{name}/{{}}")
    if column:
      found.setdefault(style.SAME_FLAG.get(name, name), column)
  return found


def _parts(main: dict) -> list[tuple[dict, str]]:
  """At most six flags beside each other."""
  items, half = [*main.items()], (len(main) + 1) // 2
  if len(items) <= 6:
    return [(main, "share of responses to which it applies")]
  return [
    (dict(items[:half]), "share of responses to which it applies"),
    (dict(items[half:]), ""),
  ]


def metadata_by_size(runs: groups.Runs) -> plots.Plot:
  """Metadata by size (appendix E)."""
  group = subjects.with_sizes(runs, "metadata/")
  if group is None:
    raise subjects.missing(runs, "several sizes", subjects.SIZED)
  names: dict[str, str] = {}  # of metrics, by the paper's name of their flag
  theirs = {name.partition("/")[0] for name in group.names("metadata/")}
  for name in sorted(theirs, key=lambda x: (x not in style.FLAGS, x)):
    names.setdefault(style.SAME_FLAG.get(name, name), name)
  flags = [*(f for f in style.FLAGS if f in names)]
  flags += [name for name in names if name not in style.FLAGS]
  panels = tuple(
    plots.Panel(
      y="responses, %",
      x="parameters",
      series=subjects.by_size(group, f"metadata/{names[flag]}/{{}}"),
      kind=plots.LINES,
      scale=plots.LOG,
      title=style.FLAGS.get(flag, flag).replace("\n", " "),
    )
    for flag in flags
  )
  return plots.Plot(
    "What applies to responses, by size (appendix E)",
    panels,
    plots.about(panels, subjects.whose(runs, group)),
    columns=3 if len(panels) != 4 else 2,
    height=2.1,
  )


def truthfulness(runs: groups.Runs) -> plots.Plot:
  """Figure 6: truthful, and truthful and informative."""
  both, true = {}, {}
  for prompt, text in _TRUTH_PROMPTS.items():
    start = f"truthfulness/{prompt}_truthful"
    both[text] = subjects.by_method(runs, f"{start}_informative/{{}}")
    true[text] = subjects.by_method(runs, f"{start}/{{}}")
  series = subjects.joined(both)
  if not series:
    raise subjects.missing(runs, "truthfulness", subjects.DEFAULT)
  panel = plots.Panel(
    y="answers, %",
    series=series,
    ghosts=subjects.joined(true),
    called="truthful and informative answers",
    title="filled: truthful and informative; outline: truthful",
    limits=plots.SHARE,
  )
  return plots.Plot(
    "Truthful answers on topics with popular falsehoods (figure 6)",
    (panel,),
    plots.about([panel], subjects.whose(runs)),
    notes=(
      "Intervals are of the filled bars. The paper states 'about twice as"
      " often' for PPO models over GPT-3, and no shares.",
    ),
    height=2.9,
  )


def toxicity(runs: groups.Runs) -> plots.Plot:
  """Figure 7: toxic continuations, by what was asked for."""
  found = {
    text: subjects.by_method(runs, f"toxicity/{prompt}/{{}}")
    for prompt, text in _TOXIC_PROMPTS.items()
  }
  series = subjects.joined(found)
  if not series:
    raise subjects.missing(runs, "toxicity", subjects.DEFAULT)
  panels = [
    plots.Panel(
      y="toxic continuations, %",
      series=series,
      limits=plots.SHARE,
      called="toxic continuations",
      title="continuations of toxic beginnings, by what was asked for",
    )
  ]
  fewer = _fewer(found[_TOXIC_PROMPTS["respectful"]])
  if fewer is not None:
    panels.append(fewer)
  return plots.Plot(
    "Toxicity (figure 7)",
    tuple(panels),
    plots.about(panels, subjects.whose(runs)),
    height=2.4,
  )


def _fewer(respectful: Mapping[str, values.Value]) -> plots.Panel | None:
  """By how much less toxic than GPT, when asked for respect."""
  gpt = respectful.get("gpt")
  if gpt is None:
    return None
  found = {}
  for method, value in respectful.items():
    shared = [s for s in value.each if gpt.each.get(s)]
    if method == "gpt" or not shared:
      continue
    found[method] = values.over_seeds(
      {s: values.Found(100 * (1 - value.each[s] / gpt.each[s])) for s in shared}
    )
  if not found:
    return None
  result = paper.RESULTS["fewer_toxic_outputs"]
  return plots.Panel(
    y="fewer than GPT, %",
    bounds=None,
    series=subjects.turned(found, "asked for respect"),
    called="fewer toxic continuations than GPT's",
    title="fewer toxic continuations than GPT's, when asked for respect",
    even=0,
    reported=tuple(
      plots.Reported("asked for respect", m, result, "section 4.2")
      for m in ("ppo_ptx",)
      if m in found
    ),
  )


def bias(runs: groups.Runs) -> plots.Plot:
  """Winogender- and CrowS-like pairs: entropy, 1 bit is no preference."""
  found = {
    text: subjects.by_method(runs, f"bias/{pairs}/{{}}", factor=1)
    for pairs, text in (("winogender", "Winogender-like"),
                        ("crows", "CrowS-Pairs-like"))
  }  # fmt: skip
  series = subjects.joined({x: column for x, column in found.items() if column})
  if not series:
    raise subjects.missing(runs, "bias", subjects.DEFAULT)
  panel = plots.Panel(
    y="entropy, bits",
    series=series,
    limits=(0.0, 1.0),
    bounds=(0.0, 1.0),
    unit=" bits",
    decimals=3,
    called="entropy of the choice",
    title="1 bit: neither of a pair is preferred; 0: always the same one",
  )
  return plots.Plot(
    "Bias: entropy of the choice within pairs (section 4.2)",
    (panel,),
    plots.about([panel], subjects.whose(runs)),
  )
