"""``microgpt experiment FILE.toml``: a question with its runs, a table, a report and drawings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from lab.conditions import Conditions
from lab.experiments import checks, distance, estimate, one_machine_costs, pace
from lab.experiments.curves import charts
from lab.experiments.expansion import Case, Trial, expand, on_machine, timed, trials
from lab.experiments.measurement import DONE, Measurement
from lab.experiments.reading import ExperimentError
from lab.experiments.report import page
from lab.experiments.rows import Row, as_csv, as_markdown, as_texts, make_row, with_goodput
from lab.experiments.runner import run_all
from lab.experiments.simulation import Simulation
from lab.experiments.specification import MOST_BYTES, Specification, read_specification
from lab.experiments.store import Store
from lab.experiments.verdict import verdict
from lab.launch.train import processors
from lab.report import chart
from lab.report.palette import COLOURS, DRAWING
from lab.report.reading import open_file
from lab.report.table import lines
from microgpt.support import cli
from microgpt.support.cli import UserError, say
from microgpt.support.progress import show_seconds

RESULTS = Path("results")
ALONE_STYLE = COLOURS + DRAWING + "svg{background:var(--ground)}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="The tiny version that its table [quick] describes.")
@click.option(
    "--simulated", is_flag=True,
    help="Virtual workers in virtual time, whatever the file says; their engines take as long as "
    "this machine's.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it would take.")
@click.option(
    "--jobs", type=cli.Whole(1, 256), default=processors, show_default="number of CPU cores",
    help="Runs at once; those whose time is measured go alone.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results; what is finished there is kept.  [default: results/NAME]",
)  # fmt: skip
def main(
    file: Path, quick: bool, simulated: bool, dry_run: bool, jobs: int, output: Path | None
) -> int:
    """Run the experiment that FILE describes; again, and it goes on where it was stopped.

    FILE is a TOML file: docs/experiments/README.md tells how to write one.
    """
    folder = file.resolve().parent
    try:
        specification = read_specification(_read(file), str(file), quick)
        cases = expand(specification)
        checks.check_all(cases, specification.source, folder)
        sources = checks.sources(cases, specification.source, folder)
    except ExperimentError as error:
        raise UserError(str(error)) from error
    store = Store(output or RESULTS / (file.stem + ("-quick" if quick else "")))
    virtual = simulated or specification.simulated
    if dry_run:
        paces = _known(cases, specification.simulation, store.path) if virtual else {}
        wanted = _trials(specification, cases, paces, sources, virtual)
        _tell(cases, Work(wanted, store, folder, jobs, specification.measure.time))
        return 0
    with store:
        paces = _measured(cases, specification.simulation, store) if virtual else {}
        wanted = _trials(specification, cases, paces, sources, virtual)
        work = Work(wanted, store, folder, jobs, specification.measure.time)
        try:
            found = work.run()
        except KeyboardInterrupt:
            many = sum(store.finished(trial) is not None for trial in work.all)
            say(
                f"stopped: {many} of {len(work.all)} runs are finished, and kept",
                error=True,
            )
            return cli.INTERRUPTED
        compared = distance.comparison(wanted, found, specification.measure.reference, store)
        rows = [
            make_row(
                case,
                {trial.seed: compared(trial) for trial in wanted if trial.case is case},
                specification.measure,
            )
            for case in cases
        ]
        rows = with_goodput(rows, specification.measure)
        _write(store, specification, rows, [*dict.fromkeys(paces.values())])
    return int(any(run.outcome != DONE for run in found.values()))


def _read(file: Path) -> bytes:
    try:
        with open_file(file) as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


# --- how fast simulated engines are --------------------------------------------------------------


def _known(cases: Sequence[Case], simulation: Simulation, folder: Path) -> dict[str, Simulation]:
    """The simulation of each model, as far as its times were measured before for a folder."""
    keys = dict.fromkeys(pace.key_of(case.settings) for case in cases)
    if simulation.one_machine:
        machines = one_machine_costs.read(folder)
        return {
            key: on_machine(simulation, machines[key]) if key in machines else simulation
            for key in keys
        }
    known = pace.read(folder)
    return {key: timed(simulation, *known[key]) if key in known else simulation for key in keys}


def _measured(cases: Sequence[Case], simulation: Simulation, store: Store) -> dict[str, Simulation]:
    """The simulation of each model; what the file leaves open is measured, once for the folder."""
    models = {pace.key_of(case.settings): case.settings for case in cases}
    if simulation.one_machine:
        machines = one_machine_costs.read(store.path)
        for key in models.keys() - machines.keys():
            if models[key]["engine"] != "tape":
                raise UserError("one_machine is for the tape engine: others take too long for it")
            machines[key] = one_machine_costs.measure(models[key])
            store.write(one_machine_costs.FILE, one_machine_costs.to_json(machines))
    elif None in (simulation.call_microseconds, simulation.document_microseconds):
        known = pace.read(store.path)
        for key in models.keys() - known.keys():
            known[key] = pace.measure(models[key])
            store.write(pace.FILE, pace.to_json(known))
    return _known(cases, simulation, store.path)


def _trials(
    specification: Specification,
    cases: Sequence[Case],
    paces: Mapping[str, Simulation],
    sources: Mapping[str, str],
    virtual: bool,
) -> list[Trial]:
    def simulation_of(case: Case) -> Simulation | None:
        return paces[pace.key_of(case.settings)] if virtual else None

    weights = bool(specification.measure.reference)
    return trials(cases, specification.seeds, simulation_of, sources, weights=weights)


# --- what is to be done --------------------------------------------------------------------------


class Work:
    """Runs that are wanted, each once. ``alone``: whether the time of real ones is measured."""

    def __init__(
        self, wanted: Sequence[Trial], store: Store, folder: Path, jobs: int, alone: bool
    ) -> None:
        self.all = list({trial.digest: trial for trial in wanted}.values())
        self._store, self._folder, self._jobs, self._alone = store, folder, jobs, alone
        self._made: dict[str, tuple[int, Conditions]] = {}  # of each case, by its name
        self._guesses = {trial.digest: self._guess(trial) for trial in self.all}
        self.found = {
            trial.digest: measurement
            for trial in self.all
            if (measurement := store.finished(trial)) is not None
        }

    def _guess(self, trial: Trial) -> float:
        name = trial.case.name
        if name not in self._made:
            made = checks.prepare(trial.case.settings, 0, checks.LETTERS, self._folder)
            local = getattr(made.strategy, "steps", 1)
            self._made[name] = local if type(local) is int else 1, made.conditions
        return estimate.guess(trial, *self._made[name])

    @property
    def left(self) -> list[Trial]:
        """What is still to be run."""
        return [trial for trial in self.all if trial.digest not in self.found]

    def seconds_left(self) -> float:
        """How long that will take, by those that are over."""
        over = [digest for digest, run in self.found.items() if run.wall > 0]
        times = estimate.calibrated(
            [self._guesses[digest] for digest in over], [self.found[digest].wall for digest in over]
        )
        left = [(trial, times * self._guesses[trial.digest]) for trial in self.left]
        return estimate.total(left, self._jobs, alone=self._alone)

    def run(self) -> dict[str, Measurement]:
        """Run what is left, and tell of each. Returns all by their digests."""
        if self.found:
            say(f"{len(self.found)} of {len(self.all)} runs are finished, and kept", error=True)
        over = run_all(self.left, self._store, self._folder, self._jobs, alone=self._alone)
        for trial, measurement in over:
            self.found[trial.digest] = measurement
            say(self._line(trial, measurement), error=True)
        return self.found

    def _line(self, trial: Trial, run: Measurement) -> str:
        number = f"{len(self.found):{len(str(len(self.all)))}} of {len(self.all)}"
        told = f"failed: {run.reason}"
        if run.outcome == DONE:
            loss = f"validation loss {run.validations[-1][1]:.4f}" if run.validations else "done"
            told = f"{loss} after {run.steps[-1]:,} steps"
        left = f", about {show_seconds(self.seconds_left())} left" if self.left else ""
        return f"{number}  {trial.name}: {told} ({run.wall:.1f} s{left})"


def _tell(cases: Sequence[Case], work: Work) -> None:
    """What a dry run says."""
    for case in cases:
        say(case.name)
    done = f"; {len(work.found)} of them are finished" if work.found else ""
    say(f"{len(cases)} cases, {len(work.all)} runs{done}")
    say(f"about {show_seconds(work.seconds_left())} to go")


# --- what comes of it ----------------------------------------------------------------------------


def _write(
    store: Store, specification: Specification, rows: Sequence[Row], paces: Sequence[Simulation]
) -> None:
    """The table, the report and the drawings; the table and the sentences are shown, too."""
    measure = specification.measure
    drawn = charts(rows, specification.plots, measure)
    sentences = verdict(rows, measure)
    store.write("table.csv", as_csv(rows, measure))
    store.write("table.md", as_markdown(rows, measure))
    report = store.write("report.html", page(specification, rows, drawn, sentences, paces))
    for number, each in enumerate(drawn, 1):
        name = re.sub(r"[^a-z0-9]+", "-", each.title.lower()).strip("-")[:60]
        store.write(f"plots/{number}-{name}.svg", chart.draw(each, ALONE_STYLE) + "\n")
    texts = list(as_texts(rows, measure))
    for line in lines(texts, range(texts[0].index("runs") + 1)):
        say(line)
    for sentence in sentences:
        say(sentence)
    say(f"written to {report}, with table.csv, table.md and plots/ beside it")
