"""A model for tests of sets: it says what a function says."""

from collections.abc import Callable, Mapping, Sequence

from etils import epath

from instruct_jax.measuring import contract, models


class Model:
  """Stands in for `models.Model`: what is asked of it is kept in `asked`.

  Its tokens are the words of a text; it reads `reach` of them.
  """

  name = "toy"
  seed = 0

  def __init__(
    self,
    says: Callable[[str], str] = lambda prompt: "",
    likes: Callable[[str, str], float] = lambda context, text: 0.0,
    reach: int = 1 << 20,
  ):
    """`likes` is the log-probability of a text behind a context."""
    self.says, self.likes, self.reach = says, likes, reach
    self.asked: list[str] = []

  def room(self, max_tokens: int) -> int:
    return self.reach - min(max_tokens, max(1, self.reach // 2))

  def lengths(self, prompts: Sequence[str]) -> list[int]:
    return [len(prompt.split()) for prompt in prompts]

  def likelihoods(self, asked):
    self.asked += [context for context, _ in asked]
    return [
      models.Likelihood(
        logprob=self.likes(*pair),
        tokens=len(pair[1].split()),
        is_greedy=False,
        is_cut=len(" ".join(pair).split()) > self.reach,
      )
      for pair in asked
    ]

  def say(self, prompts, *, max_tokens, stops=(), n=1, **sampling):
    del sampling
    self.asked += prompts
    said = []
    for prompt in (one for one in prompts for _ in range(n)):
      words = self.says(prompt)
      for stop in stops:
        words = words.split(stop)[0]
      is_cut = len(prompt.split()) > self.room(max_tokens)
      said.append(models.Said(words, len(words.split()), True, is_cut))
    return said


def bench(
  model: Model,
  files: Mapping[str, str],
  *,
  name: str = "toy",
  seed: int = 0,
  limit: int = 0,
  **options: str,
) -> contract.Bench:
  """What a set may use, of a model and files."""
  settings = contract.Settings(seed, limit, {name: options})
  # pyrefly: ignore[bad-argument-type]  # it stands in for a model
  return contract.Bench(
    name, files, settings, ("toy",), lambda _: model, epath.Path("unused")
  )
