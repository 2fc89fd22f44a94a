"""Figure 2: the three steps, drawn; what each gave in these runs beside it."""

import dataclasses

from matplotlib import axes as mpl_axes
from matplotlib import figure, patches

from instruct_jax.figures import drawing, groups, plots, style, subjects, values

_Step = tuple[str, str, tuple[str, ...], str]  # and its colour
_STEPS: tuple[_Step, ...] = (
  (
    "Step 1",
    "Demonstrations, and a supervised policy",
    (
      "A prompt is sampled from the prompts that people wrote.",
      "A labeler demonstrates what a good response is.",
      "GPT is fine-tuned on it: SFT.",
    ),
    style.SKY,
  ),
  (
    "Step 2",
    "Comparisons, and a reward model",
    (
      "A prompt, and K responses of models to it.",
      "A labeler ranks them from best to worst.",
      "The reward model learns from all C(K, 2) pairs.",
    ),
    style.ORANGE,
  ),
  (
    "Step 3",
    "Reinforcement learning: PPO, PPO-ptx",
    (
      "A new prompt; the policy, which starts from SFT, responds.",
      "The reward model scores it, less β times the KL from SFT.",
      "PPO updates the policy, with γ times the gradient on pretraining text.",
    ),
    style.BLUE,
  ),
)


_HEIGHT = 3.6  # inches


@dataclasses.dataclass(frozen=True)
class Diagram:
  """The three steps, with a line of numbers under each."""

  plot: plots.Plot  # its title and small print; its panels hold the numbers
  lines: tuple[str, ...]


def three_steps(runs: groups.Runs) -> Diagram:
  """Figure 2; numbers stand under a step where the folder has them."""
  grade = subjects.by_method(runs, "likert/{}", factor=1)
  found = [
    _number(grade, "sft", "SFT: Likert {:.2f} of 7", 1),
    _accuracy(runs),
    _number(grade, "ppo_ptx", "PPO-ptx: Likert {:.2f} of 7", 1),
  ]
  shown = [value for _, value in found if value is not None]
  panel = plots.Panel(
    y="Likert, 1 to 7",
    series=subjects.turned(
      {k: grade[k] for k in ("sft", "ppo_ptx") if k in grade}, ""
    ),
    unit="",
    decimals=2,
  )
  about = plots.of_values(shown, subjects.whose(runs)) if shown else ""
  title = "The three steps (figure 2)"
  return Diagram(
    plots.Plot(title, (panel,), about), tuple(text for text, _ in found)
  )


def _number(
  found: dict[str, values.Value], name: str, words: str, factor: float
) -> tuple[str, values.Value | None]:
  value = found.get(name)
  return (
    ("", None)
    if value is None
    else (
      words.format(factor * value.value),
      value,
    )
  )


def _accuracy(runs: groups.Runs) -> tuple[str, values.Value | None]:
  """The reward model's accuracy: of its own run, else of its folds."""
  for metric in ("reward/accuracy/training", "folds/accuracy/trained_on"):
    value = runs.value(metric)
    if value is not None:
      return f"reward model: {100 * value.value:.1f} % of pairs right", value
  return "", None


def draw(diagram: Diagram) -> figure.Figure:
  """Three columns of boxes from above to below, arrows between them."""
  fig = figure.Figure()
  with drawing.styled():
    below, total = drawing.finish(fig, diagram.plot, _HEIGHT)
    axes = fig.add_axes((0.0, below / total, 1.0, _HEIGHT / total))
    axes.set(xlim=(0, 3), ylim=(0.2, 4.3))
    axes.axis("off")
    for column, step in enumerate(_STEPS):
      _column(axes, column, step, diagram.lines[column])
    for column in (0, 1):
      axes.annotate(
        "", (column + 1.05, 3.78), (column + 0.95, 3.78),
        arrowprops={"arrowstyle": "-|>", "color": style.INK, "lw": 1.4},
      )  # fmt: skip
  return fig


def _column(
  axes: mpl_axes.Axes,
  column: int,
  of: _Step,
  number: str,
) -> None:
  step, title, texts, color = of
  left, width = column + 0.05, 0.9
  axes.text(left, 4.12, step, weight="bold", size=style.FONT + 1, va="center")
  axes.text(left, 3.78, drawing.wrapped(title, 30), va="center", weight="bold")
  for n, text in enumerate(texts):
    top = 3.4 - 1.02 * n
    box = patches.FancyBboxPatch(
      (left, top - 0.74), width, 0.74,
      boxstyle="round,pad=0,rounding_size=0.04",
      fc=color + "33", ec=color, lw=1.2,
    )  # fmt: skip
    axes.add_patch(box)
    axes.text(
      left + width / 2, top - 0.37, drawing.wrapped(text, 33),
      ha="center", va="center", size=style.FONT - 0.5,
    )  # fmt: skip
    if n:
      axes.annotate(
        "", (left + width / 2, top + 0.01), (left + width / 2, top + 0.27),
        arrowprops={"arrowstyle": "-|>", "color": "#666666"},
      )  # fmt: skip
  axes.text(
    left + width / 2, 0.33, number, ha="center", va="center",
    size=style.FONT - 0.5, style="italic",
  )  # fmt: skip
