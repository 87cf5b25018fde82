"""One validation as one HTML page: Great Expectations' renderer in a page of our own.

Its own page template loads a dozen scripts and style sheets from other hosts, which a closed
network can't, and shows nothing readable without them. Here the content is its, the frame is not:
no script, no request to anywhere.
"""

from __future__ import annotations

import copy
import functools
import html
import re
from collections.abc import Mapping
from typing import Any

from tasks.quality.great import great_expectations

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ millrace_title }}</title>
<style>{% include 'millrace.css' %}</style>
</head>
<body>
<h1>{{ millrace_title }}</h1>
{% for section in sections %}
  {% set section_loop = loop -%}
  {% include 'section.j2' %}
{% endfor %}
<footer>Rendered by Great Expectations {{ ge_version }}.</footer>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
h5 { font-size: 1.05rem; margin: 0; }
h6, .h6 { font-size: .95rem; font-weight: 600; margin: .4rem 0 .2rem; }
.ge-section { border-top: 1px solid #8884; padding: .6rem 0; }
.alert { background: #8881; border-radius: 4px; padding: .5rem .8rem; }
table { border-collapse: collapse; margin: .4rem 0; }
td, th { border-bottom: 1px solid #8883; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
.badge, code, .code-snippet { background: #8882; border-radius: 3px; padding: 0 .3rem; }
.text-success { color: #1a7f37; } .text-danger { color: #cf222e; } .text-warning { color: #9a6700; }
.fas { font-style: normal; font-weight: 700; }
.fa-check-circle::before { content: "\\2713"; }
.fa-times::before { content: "\\2717"; }
.fa-exclamation-triangle::before { content: "!"; }
.collapse { display: none; } .collapse:target { display: block; }
.cooltip .top { display: none; } .cooltip:hover .top { display: block; }
footer { border-top: 1px solid #8884; color: #888; margin-top: 2rem; padding-top: .5rem; }
"""

# Pages beside this one that only a whole Data Docs site has.
_LINK_TO_SITE = re.compile(r'href="\.\./[^"]*"')
# The pieces of a page whose work is done by scripts: filters, dialogs, charts.
_SCRIPTED = ("graph.j2", "cta_footer.j2", "page_action_card.j2", "js_script_imports.j2")
_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)


def render_docs(results: Mapping[str, Any], *, title: str) -> str:
    """Renders one validation as a page that stands by itself.

    Args:
        results: `Verdict.results`.
        title: the page's heading, such as the source and its partition.

    Returns:
        HTML without scripts and without references to other hosts; a policy in its head forbids both,
        so that no text from the data can bring them in. About 40 kB.
    """
    great_expectations()
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    content = copy.deepcopy(dict(results))  # loading takes it apart
    for result in content["results"]:
        # What comes from the data; its renderer puts it into the page as it is.
        for part in ("result", "exception_info"):
            result[part] = _escaped(result[part])
    loaded = expectationSuiteValidationResultSchema.load(content)
    document = ValidationResultsPageRenderer().render(loaded)
    page = _view().render(document, millrace_title=html.escape(title))
    return _LINK_TO_SITE.sub("", _SCRIPT.sub("", page))


def _escaped(value: Any) -> Any:
    """Returns the value with all its texts safe inside HTML."""
    if isinstance(value, str):
        return html.escape(value, quote=False)
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


@functools.cache
def _view() -> Any:
    """Returns the view; kept, since its templates take ten times as long to compile as to fill."""
    from great_expectations.render.view import DefaultJinjaPageView
    from jinja2 import ChoiceLoader, DictLoader

    view = DefaultJinjaPageView()
    ours = DictLoader({"page.j2": _PAGE, "millrace.css": _STYLE, **dict.fromkeys(_SCRIPTED, "")})
    view.env.loader = ChoiceLoader([ours, view.env.loader])
    return view
