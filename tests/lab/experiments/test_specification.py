"""An experiment's file: each mistake with its line, and the cases that come of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.experiments import checks
from lab.experiments.command import main
from lab.experiments.expansion import Case, expand, trials
from lab.experiments.reading import ExperimentError
from lab.experiments.settings import DEFAULTS, SETTINGS
from lab.experiments.specification import Specification, read_specification
from lab.experiments.toml_lines import lines_of
from tests.processes import ROOT

WHOLE = """schema = 1
title = "Workers and ways"
question = "Which?"
simulated = true
seeds = [1, 2]

[base]
steps = 30
strategy_options = { }

[matrix]
workers = [1, 4]

[matrix.way]
sync = { strategy = "sync" }
"local, 4" = { strategy = "local-sgd", strategy_options = { steps = 4 }, replicas = 2 }

[[case]]
name = "alone"
workers = 1
steps = 60

[measure]
losses = [2.1, 2.2]

[quick]
seeds = [7]
[quick.base]
steps = 3
[quick.matrix]
workers = [2]
"""


def read(text: str, quick: bool = False) -> Specification:
    return read_specification(text.encode(), "x.toml", quick)


def cases_of(text: str, quick: bool = False) -> list[Case]:
    specification = read(text, quick)
    cases = expand(specification)
    checks.check_all(cases, specification.source, Path())
    return cases


def test_the_matrix_is_every_choice_of_every_axis_and_cases_come_after_it() -> None:
    cases = cases_of(WHOLE)
    assert [case.name for case in cases] == [
        "workers 1, sync", "workers 1, local, 4", "workers 4, sync", "workers 4, local, 4", "alone",
    ]  # fmt: skip
    assert cases[3].labels == {"workers": "4", "way": "local, 4"}
    told = {"steps": 30, "workers": 4, "strategy": "local-sgd", "replicas": 2}
    assert cases[3].settings == {**DEFAULTS, **told, "strategy_options": {"steps": 4}}
    assert cases[4].settings == {**DEFAULTS, "workers": 1, "steps": 60}
    specification = read(WHOLE)
    assert (specification.seeds, specification.measure.losses) == ((1, 2), (2.2, 2.1))
    made = trials(cases, specification.seeds, lambda case: None, {})
    assert [trial.seed for trial in made] == [1, 2] * 5
    assert len({trial.digest for trial in made}) == 10


def test_a_quick_run_has_what_its_table_says_in_place_of_the_rest() -> None:
    specification = read(WHOLE, quick=True)
    cases = expand(specification)
    assert [case.name for case in cases] == ["workers 2, sync", "workers 2, local, 4", "alone"]
    assert [case.settings["steps"] for case in cases] == [3, 3, 60]
    assert specification.seeds == (7,)
    assert specification.measure.losses == (2.2, 2.1)


def test_a_digest_is_that_of_the_settings_and_of_the_users_files() -> None:
    [case] = cases_of('schema = 1\ntitle = "x"\n[matrix]\nworkers = [2]\n')
    [other] = cases_of('schema = 1\ntitle = "y"\n[[case]]\nname = "two"\nworkers = 2\n')
    one, same, later, edited = (
        trials([each], [seed], lambda case: None, sources)[0].digest
        for each, seed, sources in (
            (case, 1, {}), (other, 1, {}), (case, 2, {}), (case, 1, {"sync": "abc"}),
        )
    )  # fmt: skip
    assert one == same
    assert len({one, later, edited}) == 3


def test_options_of_a_strategy_are_not_those_of_another_one() -> None:
    text = """schema = 1
title = "x"
[base]
strategy = "backup"
strategy_options = { b = 2 }
[matrix.way]
same = {}
other = { strategy = "sync" }
"""
    assert [case.settings["strategy_options"] for case in cases_of(text)] == [{"b": 2}, {}]


HEAD = 'schema = 1\ntitle = "x"\n'
ONE = "[matrix]\nworkers = [1]\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("schema = 1\ntitle = ", 0, "x.toml is no TOML: "),
        (f"a = {'[' * 2000}1{']' * 2000}", 0, "x.toml is no TOML: "),
        (f"a = {'[' * 300}1{']' * 300}", 1, "schema is missing"),
        ('title = "x"\n' + ONE, 1, "schema is missing in the file"),
        ('schema = 2\ntitle = "x"\n' + ONE, 1, "schema 2 is not known: this program reads 1"),
        (HEAD, 1, "it has neither a [matrix] nor a [[case]]: there is nothing to run"),
        (HEAD + "titel = 3\n" + ONE, 3, "there is no key 'titel': did you mean title?"),
        (HEAD + "[base]\n\nstpes = 3\n" + ONE, 5, "no setting 'stpes': did you mean steps?"),
        (HEAD + '[base]\nsteps = "3"\n' + ONE, 4, "steps must be a whole number of at least 1"),
        (HEAD + "base = 3\n" + ONE, 3, "[base] must be a table, not 3"),
        (HEAD + "[matrix]\nworkers = [\n 1,\n 0,\n]\n", 6, "workers must be a whole number from 1"),
        (HEAD + "[matrix]\nworkers = 3\n", 4, "must be an array of one value or more, not 3"),
        (HEAD + "[matrix]\nworkers = [2, 2]\n", 4, "workers has 2 twice"),
        (HEAD + "[matrix]\nworker = [2]\n", 4, "no setting 'worker': did you mean workers?"),
        (HEAD + "[matrix.a]\nb = { c = 1 }\n", 4, "there is no setting 'c'"),
        (HEAD + ONE + "[matrix.a]\nb = { workers = 1 }\n", 5, "workers and a both set workers"),
        (HEAD + "seeds = [1, 1]\n" + ONE, 3, "a seed stands there twice"),
        (HEAD + ONE + "[[case]]\nworkers = 1\n", 5, "name is missing in [[case]]"),
        (HEAD + '[[case]]\nname = "a"\n[[case]]\nname = "a"\n', 6, "there are two cases 'a'"),
        (HEAD + ONE + "[measure]\nlosses = [2.2, true]\n", 6, "a value must be a number"),
        (HEAD + ONE + '[measure]\nwithin = "way"\n', 6, "there is no axis 'way'"),
        (HEAD + ONE + "[measure]\ntraining = 2.0\n", 6, "[measure.training] must be an array"),
        (HEAD + ONE + "[measure]\ntraining = [-2]\n", 6, "[measure.training]: a value must be"),
        (HEAD + ONE + "[quick.matrix]\nways = [1]\n", 6, "there is no setting 'ways'"),
        (HEAD + ONE + "[quick.matrix]\nsteps = [1]\n", 6, "there is no axis 'steps'"),
        (HEAD + ONE + '[quick.base]\nsteps = "a"\n', 6, "steps must be a whole number"),
        (HEAD + ONE + '[[plot]]\nx = "second"\n', 6, "'second': did you mean seconds?"),
        (HEAD + ONE + '[[plot]]\nx = "workers"\ny = "loss"\n', 7, "there is no column 'loss'"),
        (HEAD + ONE + "[[plot]]\nwhere = { workers = 2 }\n", 6, "there is no label '2'"),
        (
            HEAD + '[matrix.a]\nb = {}\n[[plot]]\nx = "a"\ny = "validation"\n',
            6,
            "the axis a has 'b', which is no number",
        ),
        (
            HEAD + '[measure]\ntime = false\n[[plot]]\nx = "seconds"\n' + ONE,
            6,
            "seconds are not measured",
        ),
        (HEAD + '[matrix]\nstrategy = ["sync", "asink"]\n', 4, "no strategy 'asink': did you mean"),
        (
            HEAD + '[base]\nstrategy = "backup"\nstrategy_options = { c = 1 }\n' + ONE,
            5,
            "strategy backup has no option 'c'",
        ),
        (HEAD + '[matrix]\ncompress = ["topk:2"]\n', 4, "compressor topk: "),
        (HEAD + '[base]\non_failure = "retry"\n' + ONE, 4, "one of replace, restart, elastic"),
        (HEAD + '[measure]\nbaseline = { name = "no" }\n' + ONE, 4, "there is no label 'no'"),
        (HEAD + "[measure]\nbaseline = {}\n" + ONE, 4, "baseline is one axis and its label"),
        (HEAD + "[simulation]\nstart_seconds = -1\n" + ONE, 4, "start_seconds must be a number"),
        (HEAD + '[matrix.a]\nb = { aggregate = "krumm" }\n', 4, "did you mean krum?"),
        (HEAD + '[base]\ninner_optimizer = "adamm"\n' + ONE, 4, "did you mean adam"),
        (
            HEAD + '[base]\nlink = [\n "latency=1ms",\n "worker=1:latncy=1ms",\n]\n' + ONE,
            6,
            "'latncy=1ms' is none of latency=",
        ),
        (HEAD + '[base]\nslow = "worker=3:2x"\n' + ONE, 4, "there is no worker '3'"),
        (
            HEAD + "[base]\nbatch_size = 2\n[matrix]\nreplicas = [1, 4]\n",
            6,
            "case 'replicas 4' cannot be: 4 replicas cannot share a batch of 2",
        ),
        (HEAD + "[base]\nn_embd = 6\n" + ONE, 6, "n_embd (6) must be a multiple of n_head (4)"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        cases_of(text)
    told = str(caught.value)
    assert message in told
    assert "\n" not in told
    if line:
        assert told.startswith(f"x.toml, line {line}: ")


def test_a_label_is_proposed_once_though_a_quick_run_has_it_too() -> None:
    text = HEAD + ONE + "[[plot]]\nwhere = { workers = 2 }\n[quick.matrix]\nworkers = [1]\n"
    with pytest.raises(ExperimentError, match=r"there is no label '2': there are 1$"):
        read(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("none.txt", "there is no file '{place}/none.txt'"),
        (".", "'{place}' is a directory"),
        ("http://127.0.0.1:1/x", "cannot download http://127.0.0.1:1/x: Connection refused"),
    ],
)
def test_data_that_cannot_be_read_are_told_with_their_line(
    data: str, message: str, tmp_path: Path
) -> None:
    found = read(HEAD + f'[base]\ndata = "{data}"\n' + ONE)
    with pytest.raises(ExperimentError) as caught:
        checks.sources(expand(found), found.source, tmp_path)
    wanted = f"x.toml, line 4: data: {message.format(place=tmp_path)}"
    assert str(caught.value).startswith(wanted)


def test_data_lie_beside_the_file_and_their_bytes_are_part_of_what_names_a_run(
    tmp_path: Path,
) -> None:
    found = read(HEAD + '[base]\ndata = "mine.txt"\n' + ONE)
    cases = expand(found)
    digests = []
    for content in ("ada\nbob\n", "ada\neve\n", "ada\nbob\n"):
        (tmp_path / "mine.txt").write_text(content)
        sources = checks.sources(cases, found.source, tmp_path)
        digests += [trial.digest for trial in trials(cases, [1], lambda _: None, sources)]
    assert digests[0] == digests[2] != digests[1]


def test_a_quick_run_needs_a_table_for_it() -> None:
    with pytest.raises(ExperimentError, match=r"has no table \[quick\]"):
        read(HEAD + ONE, quick=True)


def test_there_are_not_too_many_runs() -> None:
    axes = "".join(
        f"[matrix.a{n}]\n" + "".join(f"v{m} = {{}}\n" for m in range(9)) for n in range(5)
    )
    with pytest.raises(ExperimentError, match=r"line 33: these are more than 10,000 runs"):
        expand(read(HEAD + axes))


def test_the_example_of_the_page_can_be_run() -> None:
    page = (ROOT / "docs/experiments/README.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    shown = page.partition("--dry-run\nlearning_rate")[2].partition("\n5 cases")[0]
    names = [case.name for case in cases_of(example)]
    assert "\n".join(names) == f"learning_rate{shown}"
    assert len(cases_of(example, quick=True)) == len(names)
    told = page.partition("Settings are the flags")[2].partition("What is said on an axis")[0]
    assert [name for name in SETTINGS if f"`{name}`" not in told] == []


def test_the_example_with_a_strategy_of_ones_own_can_be_run(tmp_path: Path) -> None:
    page = (ROOT / "docs/experiments/README.md").read_text().partition("`warm.py`, beside")[2]
    for name, kind in (("warm.py", "python"), ("warm.toml", "toml")):
        text = page.partition(f"```{kind}\n")[2].partition("```")[0]
        (tmp_path / name).write_text(text)
    told = CliRunner().invoke(main, [str(tmp_path / "warm.toml"), "--dry-run"])
    assert told.exit_code == 0
    assert "6 cases, 12 runs" in told.stdout.splitlines()


def test_lines_of_all_that_a_file_may_hold() -> None:
    text = '''a = """
x = 1
"""
b.c = 'y # z'   # comment
[t."d e"]
f = [ # comment ]
  [1, 2], "]",
  { g = 1, h = "}" },
]
[[u]]
i = 1
[[u]]
[u.v]
k = 2020-01-01T00:00:00Z
'''
    found = lines_of(text)
    assert found == {
        (): 1, ("a",): 1, ("b",): 4, ("b", "c"): 4, ("t",): 5, ("t", "d e"): 5,
        ("t", "d e", "f"): 6, ("t", "d e", "f", 0): 7, ("t", "d e", "f", 0, 0): 7,
        ("t", "d e", "f", 0, 1): 7, ("t", "d e", "f", 1): 7, ("t", "d e", "f", 2): 8,
        ("t", "d e", "f", 2, "g"): 8, ("t", "d e", "f", 2, "h"): 8, ("u",): 10, ("u", 0): 10,
        ("u", 0, "i"): 11, ("u", 1): 12, ("u", 1, "v"): 13, ("u", 1, "v", "k"): 14,
    }  # fmt: skip
