"""HTML pages from templates: a package's own, which may include the style that all share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tryon.charts import figure


def render(package: str, template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """The page's text. What comes from outside is escaped.

    Args:
        package: whose `templates` folder has the template; `tryon`'s own comes after it.
        template: file name.
        filters: by name, beside `figure`.
        values: that the template is given.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader

    environment = Environment(loader=ChoiceLoader([PackageLoader(package), PackageLoader("tryon")]), autoescape=True)
    environment.filters |= {"figure": figure, **filters}
    return environment.get_template(template).render(**values)
