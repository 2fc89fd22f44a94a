"""Stiennon et al. (2020): comparisons of summaries of posts and of news."""

from collections.abc import Iterator

from instruct_jax.base import errors
from instruct_jax.data.public import formats
from instruct_jax.data.read import files

Counts, Record = formats.Counts, formats.Record

_SPLITS = {
  "train": "train",
  "valid": "validation",
  "valid1": "validation",
  "valid2": "test",
  "test": "test",
}


def rankings(rows: files.Rows, counts: Counts) -> Iterator[Record]:
  """Which of two summaries a labeler chose, and which policies' they are."""
  for where, row in rows:
    counts["read"] += 1
    summaries = formats.key(row, "summaries", list, where)
    choice = formats.key(row, "choice", int, where)
    if len(summaries) != 2 or choice not in (0, 1):
      raise errors.UserError(
        f'{where}: two "summaries" and a "choice" of 0 or 1 are right, not '
        f"{len(summaries)} and {choice}"
      )
    texts = [formats.key(one, "text", str, where) for one in summaries]
    prompt = _to_summarize(formats.key(row, "info", dict, where), where)
    more = {}
    if row.get("worker") is not None:
      more["labeler"] = formats.key(row, "worker", str, where)
    if row.get("split") is not None:
      split = formats.key(row, "split", str, where)
      if split not in _SPLITS:
        raise errors.unknown(f'"split" in {where}:', split, _SPLITS)
      more["split"] = _SPLITS[split]
    better, worse = texts[choice], texts[1 - choice]
    policies = [summaries[n].get("policy") for n in (choice, 1 - choice)]
    more |= formats.of_models(policies)
    for record in formats.pair(prompt, better, worse, counts):
      yield record | more


def _to_summarize(info: Record, where: str) -> str:
  """The queries of github.com/openai/summarize-from-feedback."""
  if info.get("post") is None and info.get("article") is not None:
    article = formats.key(info, "article", str, where)
    return f"Article:\n{article}\n\nTL;DR:"
  post = formats.key(info, "post", str, where)
  subreddit = formats.optional(info, "subreddit", str, where)
  title = formats.optional(info, "title", str, where)
  head = [f"SUBREDDIT: r/{subreddit}"] if subreddit else []
  head += [f"TITLE: {title}"] if title else []
  return "\n\n".join([*head, f"POST: {post}", "TL;DR:"])


FORMAT = formats.Format(
  "comparisons of summaries", formats.with_prompts("rankings", rankings)
)
