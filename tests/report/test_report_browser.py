"""The page as a reader has it: in a real browser, at a desk's and a phone's width."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Tab
from conftest import changed_results, make_run, write_json, write_jsonl
from test_report_merge import searched

from alloy.report import build


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with Tab(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(make_run(tmp_path_factory.mktemp("run")))


VISIBLE = """[...document.querySelectorAll('{}')]
  .filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 10).length"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_its_figures_without_errors(tab: Tab, report: Path, width: int, scheme: str) -> None:
    tab.problems.clear()
    tab.requests.clear()
    tab.open(report, width, scheme=scheme)
    assert tab.evaluate("innerWidth") == width
    # On a phone lines along the list stand for the graph.
    assert tab.evaluate(VISIBLE.format("svg.lanes")) == (width < 600)
    assert tab.evaluate(VISIBLE.format(".flow svg")) == (width > 600)
    assert tab.evaluate(VISIBLE.format(".graph li")) == 10
    assert tab.evaluate(VISIBLE.format("svg.change")) == 2 * (width > 600)  # a phone has the figures alone
    assert tab.evaluate(VISIBLE.format("svg.chart")) == 4 + 7 + 3 + 3 + 7 + 6 + 8 + 3 + 3
    assert tab.evaluate(VISIBLE.format("table.results")) == 1 + 1  # and by kind of task
    assert tab.evaluate(VISIBLE.format(".rollout")) == 12
    # Nothing sticks out sideways: what is wide scrolls within its own frame.
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.problems == []
    assert tab.requests == [report.resolve().as_uri()]


def test_a_completion_stays_text(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    assert tab.evaluate("document.title") == "synthetic · Alloy"
    assert tab.evaluate("document.querySelector('.rollout .answer').textContent").startswith(
        "</script><script>"
    )
    assert tab.evaluate("document.querySelectorAll('#rollouts script, #rollouts img').length") == 0


def test_text_can_be_read_in_both_schemes(tab: Tab, report: Path) -> None:
    """Contrast of text and of secondary text to the paper is 4.5 or more (WCAG AA)."""
    contrast = """(name) => {
      const light = (colour) => {
        const [r, g, b] = colour.match(/\\d+/g).map(Number).map((c) => c / 255)
          .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [one, two] = [getComputedStyle(document.querySelector(name)).color,
        getComputedStyle(document.body).backgroundColor].map(light);
      return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    }"""
    papers = set()
    for scheme in ("light", "dark"):
        tab.open(report, 1280, scheme=scheme)
        papers.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        for name in ("h1", ".hint", ".change.up", ".brand", ".badge", ".lead", ".targets .up"):
            assert tab.evaluate(f"({contrast})('{name}')") >= 4.5, (scheme, name)
        for name in (".chart text", ".flow .name", ".box.finished text:last-child"):
            assert tab.evaluate(f"({contrast.replace('.color', '.fill')})('{name}')") >= 4.5, (scheme, name)
        # What is drawn needs 3 (WCAG 1.4.11), on whatever of the colours a line has.
        for index in range(7):
            colour = f"getComputedStyle(document.documentElement).getPropertyValue('--s{index}')"
            tab.evaluate(f"document.querySelector('.brand').style.color = {colour}")
            assert tab.evaluate(f"({contrast})('.brand')") >= 3, (scheme, index)
    assert len(papers) == 2


def set_field(tab: Tab, name: str, value: str) -> None:
    tab.evaluate(
        f"(() => {{ const field = document.getElementById('filters').elements.{name};"
        f"field.value = '{value}'; field.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def found(tab: Tab) -> str:
    return str(tab.evaluate("document.getElementById('found').textContent"))


def test_rollouts_are_filtered(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    assert found(tab).startswith("72 shown")
    set_field(tab, "stage", "rlhf")
    set_field(tab, "environment", "math")
    assert found(tab).startswith("12 shown")
    heads = tab.evaluate("[...document.querySelectorAll('.rollout header')].map(h => h.textContent)")
    assert len(heads) == 12
    assert all(head.startswith("rlhf") and "math" in head for head in heads)
    set_field(tab, "low", "0.5")
    assert found(tab) == "8 shown by these filters · mean reward 1"
    set_field(tab, "text", "no completion says this")
    assert found(tab) == "None match these filters."
    set_field(tab, "text", "SYNTHETIC prompt of RLHF")
    assert found(tab).startswith("8 shown")


def test_a_rollout_without_a_reward_has_no_place_in_a_range(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    set_field(tab, "status", "timeout")
    assert found(tab) == "3 shown by these filters"
    set_field(tab, "low", "0")
    assert found(tab) == "None match these filters."


def test_more_rollouts_follow(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    tab.evaluate("document.getElementById('older').click()")
    assert tab.evaluate(VISIBLE.format(".rollout")) == 24
    for _ in range(4):
        tab.evaluate("document.getElementById('older').click()")
    assert tab.evaluate(VISIBLE.format(".rollout")) == 72
    assert tab.evaluate("document.getElementById('older').hidden")


def test_thinking_is_folded_until_it_is_opened(tab: Tab, report: Path) -> None:
    tab.open(report, 390)
    assert tab.evaluate("document.querySelectorAll('.rollout .thinking').length") == 11
    assert tab.evaluate("document.querySelectorAll('.rollout .thinking[open]').length") == 0
    # On a phone the two columns become one, in the order of the samples.
    steps = tab.evaluate(
        "[...document.querySelectorAll('.rollout')].sort((a, b) => a.getBoundingClientRect().top"
        " - b.getBoundingClientRect().top).map(c => c.querySelector('header span').textContent)"
    )
    assert steps == [f"step {10 * i}" for i in range(12)]


def test_the_same_task_is_seen_by_every_stage(tab: Tab, tmp_path: Path) -> None:
    run_root = make_run(tmp_path)
    with changed_results(run_root) as results:
        results["files"] = {model: {"math": f"items/{model}.jsonl"} for model in ("base", "grpo")}
    (run_root / "evaluate" / "items").mkdir()
    for number, model in enumerate(("base", "grpo")):
        rows = [
            {
                "task": f"t{i}",
                "prompt": f"Task {i}?",
                "completion": f"{model} says",
                "scores": {"success": number},
            }
            for i in range(20)
        ]
        write_jsonl(run_root / "evaluate" / "items" / f"{model}.jsonl", rows)
    tab.problems.clear()
    tab.open(build(run_root), 1280)
    set_field(tab, "source", "evaluation")
    set_field(tab, "stage", "base")
    assert found(tab) == "12 shown by these filters · mean reward 0"
    tab.evaluate("document.querySelector('.rollout > button').click()")
    assert found(tab) == "2 of one task · mean reward 0.5 · all tasks again"
    texts = tab.evaluate("[...document.querySelectorAll('.rollout')].map(card => card.textContent)")
    assert ["Task 0?" in text for text in texts] == [True, True]
    assert ["base says" in texts[0], "grpo says" in texts[1]] == [True, True]
    tab.evaluate("document.querySelector('#found button').click()")
    assert found(tab).startswith("96 shown")
    assert tab.problems == []


def test_a_chart_tells_the_value_under_the_pointer(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    told = tab.evaluate(
        """(() => {
          const panel = [...document.querySelectorAll('#budget .panel')]
            .find((each) => each.textContent.startsWith('Tokens a completion'));
          panel.closest('details').open = true;
          const chart = panel.querySelector('svg.chart');
          const box = chart.getBoundingClientRect();
          const marks = chart.querySelectorAll('circle');
          const mark = marks[3].getBoundingClientRect();
          chart.dispatchEvent(new PointerEvent('pointermove', {clientX: mark.left + mark.width / 2}));
          const told = () => ['figcaption', 'b'].map((name) => panel.querySelector(name).textContent);
          const read = told();
          chart.dispatchEvent(new PointerEvent('pointerleave', {}));
          return [...read, ...told()];
        })()"""
    )
    title, value, rest_title, rest_value = told
    assert title == "Tokens a completion · budget 64"
    # A tenth of a pixel is what the drawing keeps.
    assert float(value) == pytest.approx(30 + 0.8 * 64, abs=0.5)
    assert (rest_title, rest_value) == ("Tokens a completion", "350")


READ = """(chart, at) => {
  const panel = [...document.querySelectorAll('svg.chart')].find((c) => c.ariaLabel === chart).parentElement;
  const drawing = panel.querySelector('svg.chart');
  const box = drawing.getBoundingClientRect();
  drawing.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + at / 280 * box.width}));
  const told = [...panel.querySelectorAll('figcaption, .legend b')].map((e) => e.textContent);
  drawing.dispatchEvent(new PointerEvent('pointerleave', {}));
  return told;
}"""


def test_bars_tell_their_counts_under_the_pointer(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    title = "math: 64 tasks by pass rate"
    # Five places share 232 of the 280 units; the last place's middle is 23.2 units from the right edge.
    told = tab.evaluate(f"({READ})('{title}', 270 - 23.2)")
    assert told[0] == f"{title} · pass rate, % 100"
    assert [float(count) for count in told[1:]] == pytest.approx([8, 12, 20], abs=0.1)
    assert tab.evaluate("getComputedStyle(document.querySelector('.line.apart')).stroke") == "none"
    # At the edge between two places every bar is of the same place.
    told = tab.evaluate(f"({READ})('{title}', 38 + 2 * 46.4 - 1)")
    assert told[0].endswith(" 25")
    assert [float(count) for count in told[1:]] == pytest.approx([14, 12, 8], abs=0.1)


def test_a_fall_is_told_only_where_there_was_one(tab: Tab, report: Path) -> None:
    tab.open(report, 1280)
    title = "instructions: held out"
    assert tab.evaluate(f"({READ})('{title}', 38 + 232 * 20 / 60)") == [f"{title} · step 20", "42.0", "42.0"]
    assert tab.evaluate(f"({READ})('{title}', 38 + 232 * 30 / 60)") == [f"{title} · step 30", "58.0", "–"]


def test_an_empty_run_opens_without_errors(tab: Tab, tmp_path: Path) -> None:
    tab.problems.clear()
    tab.open(build(tmp_path), 390)
    assert "There is no run folder in here yet." in tab.evaluate("document.body.textContent")
    assert tab.problems == []


@pytest.mark.parametrize("width", [1280, 390])
def test_an_unfinished_run_with_a_search_fits_too(tab: Tab, tmp_path: Path, width: int) -> None:
    run_root = make_run(tmp_path)
    (run_root / "grpo" / "artifact.json").unlink()
    (run_root / "evaluate" / "artifact.json").unlink()
    write_json(run_root / "merge" / "sweep.json", searched())
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    long = "a-stage-with-a-name-that-is-longer-than-any-box"
    (recipe / "pipeline.yaml").write_text(
        f"stages: {{base: {{package: alloy.base}}, {long}: {{package: sft, needs: base}}}}"
    )
    tab.problems.clear()
    tab.open(build(run_root, str(recipe)), width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.problems == []
    states = tab.evaluate("[...document.querySelectorAll('.flow .box')].map(box => box.classList[1])")
    assert {"finished", "stale", "interrupted", "missing"} == set(states)
    # No box lies on another, and every name stays in its box.
    overlaps = tab.evaluate(
        """[...document.querySelectorAll('.flow rect')].map(r => r.getBBox()).filter((a, i, all) =>
          all.some((b, j) => i < j && a.x < b.x + b.width && b.x < a.x + a.width
            && a.y < b.y + b.height && b.y < a.y + a.height)).length"""
    )
    assert overlaps == 0
    if width > 600:
        outside = tab.evaluate(
            "[...document.querySelectorAll('.flow .box')].filter(box => box.querySelector('.name').getBBox().width"
            " > box.querySelector('rect').getBBox().width).length"
        )
        assert outside == 0
    titles = tab.evaluate(
        "[...document.querySelectorAll('#alpha .panel figcaption')].map(c => c.textContent)"
    )
    assert titles[:5] == [
        "Scores over alpha",
        "Product",
        "chat over math",
        "Alpha of each group, step by step",
        "Product, step by step",
    ]
