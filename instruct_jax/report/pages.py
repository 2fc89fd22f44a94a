"""The pages' templates, which lie beside this file."""

import jinja2
from etils import epath


def template(name: str) -> jinja2.Template:
  """One of them; what it is given nothing for is an error."""
  here = epath.Path(__file__).parent
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(str(here)),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template(name)
