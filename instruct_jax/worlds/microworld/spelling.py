"""How the microworld writes what a person types."""

import re
import unicodedata


def normalize(text: str) -> str:
  """What a person types, as the world writes it: "Ann's job?" -> "ann job ?".

  Lower case, no accents, spaced punctuation, "!" and ";" as ".", no possessive
  or quotation marks; lines keep their breaks.
  """
  text = unicodedata.normalize("NFKD", text).lower()
  text = unicodedata.normalize("NFKD", text)
  text = "".join(c for c in text if not unicodedata.combining(c))
  text = re.sub(r"['’]s\b", "", text)
  text = re.sub(r"[!;]+|…", " . ", text)
  text = re.sub(r"[\"“”'’`()\[\]*_]", "", text)
  text = re.sub(r"[-/–—]", " ", text)
  text = re.sub(r"([.,?:])", r" \1 ", text)
  lines = (" ".join(line.split()) for line in text.splitlines())
  text = " \n ".join(line for line in lines if line)
  return re.sub(r"([.,?:])(?: \1)+", r"\1", text)
