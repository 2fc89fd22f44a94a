"""settings.toml: written, read, and what is wrong in it is said."""

import pytest

from instruct_jax.base import errors
from instruct_jax.collecting import settings


def test_first_start_writes_the_defaults(tmp_path):
  assert settings.read(tmp_path) == settings.defaults()
  text = (tmp_path / "settings.toml").read_text()
  assert text.startswith("#")
  assert settings.read(tmp_path) == settings.defaults()
  assert (tmp_path / "settings.toml").read_text() == text


def test_defaults_are_the_papers(tmp_path):
  found = settings.defaults()
  assert (found.tasks.k_min, found.tasks.k_max) == (4, 9)  # section 3.5
  cutoffs = found.screening  # appendix B.1
  assert cutoffs.agreement == cutoffs.sensitive == 0.75
  assert cutoffs.demonstration == 6


def test_keys_may_be_left_out(tmp_path):
  (tmp_path / "settings.toml").write_text("[overlap]\nshare = 1\n")
  found = settings.read(tmp_path)
  assert found.overlap == settings.Overlap(1, 3)
  assert found.tasks == settings.defaults().tasks


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("[overlap]\nshar = 0.5", r"overlap.shar'. Did you mean 'overlap.share'"),
    ("[overlap]\nhours = 5", r"Did you mean|Known: .*tasks.hours"),
    ("[overlapp]\nshare = 0.5", "Did you mean 'overlap'"),
    ("overlap = 3", r"overlap: is a section: \[overlap\]"),
    ("[overlap]\nshare = 1.5", "overlap.share=1.5: must be at least 0 and"),
    ("[overlap]\nshare = nan", "overlap.share=nan: must be"),
    ("[overlap]\nshare = '1'", "overlap.share='1': must be"),
    ("[overlap]\nlabelers = true", "overlap.labelers=True: must be"),
    ("[screening]\nrequired = 1", "screening.required=1: must be true or fal"),
    ("[screening]\ndemonstration = 8", "0, or a whole number from 1 to 7"),
    ("[tasks]\nk_min = 7\nk_max = 5", "tasks.k_min=7: must be at most tasks.k"),
    ("[tasks]\nk_min = 7\nk_min = 5", "no TOML"),
    ("[tasks\n", "no TOML"),
  ],
)
def test_what_is_wrong_is_a_sentence(tmp_path, text, said):
  (tmp_path / "settings.toml").write_text(text)
  with pytest.raises(errors.UserError, match=said) as caught:
    settings.read(tmp_path)
  assert str(caught.value).startswith(str(tmp_path / "settings.toml"))


def test_bytes_that_are_no_text_are_a_sentence(tmp_path):
  (tmp_path / "settings.toml").write_bytes(b"\xff\xfe\x00")
  with pytest.raises(errors.UserError, match="no TOML"):
    settings.read(tmp_path)
