"""What the paper shows by examples: figures 8 and 9, section 4.3."""

from instruct_jax.figures import groups, plots, subjects

_MISTAKES = {
  "false_premise": "false\npremises",
  "hedging": "plain questions\nwithout hedging",
  "constraints1": "one\nconstraint",
  "constraints2": "two\nconstraints",
  "constraints3": "three\nconstraints",
}
_RARE = {
  "zorp": "a language\nthat is rare",
  "form": "a form never\nasked for",
  "code": "a code-like\nformat",
}


def generalization(runs: groups.Runs) -> plots.Plot:
  """Section 4.3: a language and a format that are rare in training."""
  columns = {
    text: found
    for name, text in _RARE.items()
    if (found := subjects.by_method(runs, f"language/{name}/{{}}", factor=1))
  }
  if not columns:
    raise subjects.missing(
      runs, "a held-out language or format", subjects.DEFAULT
    )
  panel = plots.Panel(
    y="Likert, 1 to 7",
    series=subjects.joined(columns),
    limits=plots.LIKERT,
    bounds=plots.LIKERT,
    unit="",
    decimals=2,
    title="overall quality of responses to prompts of a kind rare in training",
  )
  return plots.Plot(
    "Prompts unlike those of training (section 4.3, figure 8)",
    (panel,),
    plots.about([panel], subjects.whose(runs)),
  )


def mistakes(runs: groups.Runs) -> plots.Plot:
  """Section 4.3: false premises, hedging, several constraints at once."""
  columns = {
    text: found
    for name, text in _MISTAKES.items()
    if (found := subjects.by_method(runs, f"mistakes/{name}/{{}}"))
  }
  if not columns:
    raise subjects.missing(runs, "simple mistakes", subjects.DEFAULT)
  panel = plots.Panel(
    y="handled right, %",
    series=subjects.joined(columns),
    limits=plots.SHARE,
    called="handled right",
    title="share of responses that handle it right",
  )
  return plots.Plot(
    "Simple mistakes (section 4.3, figure 9)",
    (panel,),
    plots.about([panel], subjects.whose(runs)),
  )
