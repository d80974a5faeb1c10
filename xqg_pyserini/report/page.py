"""A folder of results → one HTML page that needs nothing else, and its plots as files.

Its content security policy lets no other script run and nothing be fetched.  Whatever comes from files is escaped here,
for HTML and for the JSON in it, and put in as text by the script (`resources/report/`).
"""

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from xqg_pyserini.files import writing, writing_folder
from xqg_pyserini.report.explorer import Similarities
from xqg_pyserini.report.page_inputs import ExploreSettings, all_inputs, explored_data
from xqg_pyserini.report.page_parts import Parts, evaluation_parts, named, sweep_parts
from xqg_pyserini.report.plots import import_matplotlib
from xqg_pyserini.report.results import read_results

PAGE, PLOTS = "index.html", "plots"


class WrittenPage(NamedTuple):
    """What `write_page` wrote; `explorer` says why there is none, or is None."""

    page: Path
    bytes: int
    plots: int
    questions: int
    explorer: str | None


def write_page(
    folder: str | Path,
    output: str | Path | None = None,
    explore: ExploreSettings | None = None,
    *,
    similarities: Similarities | None = None,
    overwrite: bool = False,
) -> WrittenPage:
    """Write the report of a folder of results: `index.html`, and `plots/*.svg` and `*.png`.

    Args:
        folder: what `xqg evaluate` or `xqg sweep` wrote with `--output`.
        output: the folder to write; `report` in that folder by default.
        explore: what the explorer shows.
        similarities: what compares generated queries with the questions; None leaves that out.
        overwrite: replace what `output` holds.

    Raises:
        UserError: for results that are damaged, an input given that does not exist or does not fit.  An input that the
            results name and that is gone only leaves the explorer out.  Where matplotlib is not installed.
    """
    import_matplotlib()  # before the work
    results = read_results(folder)
    explore = explore or ExploreSettings()
    output = Path(folder) / "report" if output is None else Path(output)
    inputs = [folder, *all_inputs(results, explore, similarities)]
    with writing_folder(output, overwrite, inputs) as partial:
        explored, why = explored_data(results, explore, similarities)
        parts, drawn = (sweep_parts if results.points else evaluation_parts)(results)
        page = _page(parts, explored, why)
        (partial / PLOTS).mkdir()
        for plot in drawn:
            (partial / PLOTS / f"{plot.name}.png").write_bytes(plot.png)
            with writing(partial / PLOTS / f"{plot.name}.svg") as file:
                file.write(plot.svg)
        with writing(partial / PAGE) as file:
            file.write(page)
    size = len(page.encode("utf-8"))
    return WrittenPage(output / PAGE, size, len(drawn), len(explored.get("questions", ())), why)


# ---------------------------------------------------------------- putting it together


def _resource(name: str) -> str:
    return importlib.resources.files("xqg_pyserini.resources").joinpath("report", name).read_text("utf-8")


def embedded(value: Any) -> str:
    r"""Return JSON that can stand in a script element: no character of it is HTML's.

    >>> print(embedded("</script>&"))
    "\u003c/script\u003e\u0026"
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _page(parts: Parts, explored: Mapping[str, Any], why: str | None) -> str:
    without = f'<p class="quiet">Without the explorer of questions: {escape(str(why))}.</p>'
    return filled(parts, f"{parts.figures}\n{_explorer(explored) if explored else without}", explored)


def filled(parts: Parts, body: str, data: Any) -> str:
    """Return a page with these parts, this body (HTML), and what its script reads."""
    script = _resource("parts.js") + _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return Template(_resource("page.html")).substitute(
        {**parts._asdict(), "title": escape(parts.title)},
        body=body,
        script_hash=f"sha256-{digest}",
        style=_resource("page.css"),
        script=script,
        data=embedded(data),
    )


def _explorer(explored: Mapping[str, Any]) -> str:
    single = len(explored["runs"]) == 1
    near = any("near" in mark for q in explored["questions"] for mark in q["marks"].values())
    first, second = (named(name) for name in explored["pair"])
    order = "" if single else f", those first on which {first} and {second} differ most"
    column = Template(_resource("explorer-run.html").rstrip("\n"))
    columns = "".join(column.substitute(side=side) for side in ("First", "Second")[: 1 if single else 2])
    return Template(_resource("explorer.html").rstrip("\n")).substitute(
        questions=f"{len(explored['questions'])} questions{order}",
        depth=explored["depth"],
        near=" " + _resource("explorer-near.txt").replace("\n", " ").rstrip() if near else "",
        columns=columns,
        single=" single" if single else "",
    )
