"""Finished experiments that differ by nothing but the seed, and the table of their figures. Imports no torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.data.choice import flag_names
from utils.errors import UserError
from utils.experiments.experiment import NOT_COMPARED, ROUNDING, spelt_out
from utils.experiments.record import Record
from utils.results.tables import Row, Spread, Table, figure_label
from utils.separations import SEPARATIONS

# What changes no result but for rounding, beside the seed. `first_stage_from` takes over what the same settings made;
# `keep_models` and `save_best_AUC_model` leave files, and figures of an oracle, beside the rest.
NOT_GROUPED_BY = NOT_COMPARED | ROUNDING | {
    "seed", "first_stage_from", "compile", "report", "keep_models", "save_best_AUC_model",
}  # fmt: skip
DATA = flag_names()  # ssl.py refuses scores of other data
FILES = ("scores", "labels")  # flags that may name a file of another experiment
MAIN_SCORE = "auc_score"  # auc_KEY_score of each method, in one column
DEFAULT_FIGURES = ("test_accuracy", MAIN_SCORE, "noise_ratio_estimated")


@dataclass(frozen=True)
class Group:
    """Experiments with the same settings."""

    settings: dict[str, Any]  # that make the group; those of a source as "relabel.lr"
    records: list[Record]


# -- settings ----------------------------------------------------------------------------------------------------------


def setting_name(flag: str) -> str:
    """A flag, with or without its dashes, by the name that it has in all scripts."""
    name = flag.lstrip("-")
    of_data = name.removeprefix("first_stage_").replace("data_name", "dataset")
    return of_data if of_data in DATA else name


def settings_of(record: Record) -> dict[str, Any]:
    """The settings that make an experiment what it is, its script among them.

    Where it read another experiment, those of that one stand in the place of its name.
    """
    found = {"script": record["script"]} | own_settings(record["settings"])
    for key in SEPARATIONS:
        source = source_settings(record, key) if found.get(key) is not None else None
        if source is not None:  # else the name is all that is known
            found[key] = True
            found |= {f"{key}.{name}": value for name, value in own_settings(source).items() if name not in DATA}
    for key in FILES:
        source = settings_beside(record, found.get(key))
        if source is not None:
            found[key] = Path(found[key]).name
            found |= {f"{key}.{name}": value for name, value in own_settings(source).items()}
    return found


def own_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that groups are made by."""
    return all_settings({name: value for name, value in settings.items() if name not in NOT_GROUPED_BY})


def all_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {setting_name(name): value for name, value in spelt_out(settings).items()}


def source_settings(record: Record, key: str) -> dict[str, Any] | None:
    """Of the separation that ssl.py read, as recorded; in early records, as they are found; None where they are not."""
    if key in record.get("sources", {}):
        return record["sources"][key]["settings"]
    name = record["settings"][key]
    return read_settings(record.path.parent / name) if name and isinstance(name, str) else None


def settings_beside(record: Record, file: Any) -> dict[str, Any] | None:
    """Of the experiment that `file` lies in, which may have moved together with this one; None where it is no name."""
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    found = read_settings(folder)
    return found if found is not None or not folder.name else read_settings(record.path.parent / folder.name)


def read_settings(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(UserError):
        return Record.read(folder)["settings"]
    return None


# -- groups ------------------------------------------------------------------------------------------------------------


def grouped(records: Sequence[Record], by: Sequence[str] | None = None) -> list[Group]:
    """The groups in the order of the settings that tell them apart; `by`: of these settings only.

    Raises UserError for a setting that no record has.
    """
    found = [(record, settings_of(record)) for record in records]
    if by is not None:
        found = [(record, all_settings(record["settings"]) | settings) for record, settings in found]
        known = {name for _, settings in found for name in settings}
        if unknown := [name for name in by if name not in known]:
            own = sorted(name for name in known if "." not in name)
            raise UserError(f"no experiment has the setting {unknown[0]}", f"take one of {', '.join(own)}")
        found = [(record, {name: settings.get(name) for name in by}) for record, settings in found]
    groups: dict[str, Group] = {}
    for record, settings in found:
        groups.setdefault(as_key(settings), Group(settings, [])).records.append(record)
    names = telling_apart(groups.values())
    return sorted(groups.values(), key=lambda group: [order(group.settings.get(name)) for name in names])


def telling_apart(groups: Iterable[Group]) -> list[str]:
    """The settings by which groups differ: script and data of all of them, the rest of those of one script."""
    groups = list(groups)
    of_script, of_sources = parted(groups, lambda group: group.settings.get("script")), parted(groups, sources)

    def differs(name: str) -> bool:
        values = [
            {as_key(group.settings[name]) for group in some if name in group.settings}
            for some in ([groups] if name in ("script", *DATA) else of_script)
        ]
        there = [{name in group.settings for group in some} for some in of_sources]  # both: it is a flag of later runs
        return any(len(different) > 1 for different in (*values, *there))

    return [name for name in dict.fromkeys(name for group in groups for name in group.settings) if differs(name)]


def parted(groups: list[Group], key: Callable[[Group], Hashable]) -> list[list[Group]]:
    parts: dict[Hashable, list[Group]] = {}
    for group in groups:
        parts.setdefault(key(group), []).append(group)
    return list(parts.values())


def sources(group: Group) -> tuple[str | None, ...]:
    """The script and what it read, which decide what settings there are."""
    return (group.settings.get("script"), *(key for key in (*SEPARATIONS, *FILES) if group.settings.get(key)))


def as_key(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def order(value: object) -> tuple:
    """Nothing first, then numbers by size, then the rest."""
    number = isinstance(value, int | float)
    return (value is not None, not number, value if number else 0, "" if number else in_words(value))


def in_words(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "-", False: "no", True: "yes"}[value]
    if isinstance(value, list):
        return " ".join(map(in_words, value)) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value) or "newest"  # a bare --relabel of an early record


# -- the table ---------------------------------------------------------------------------------------------------------


def seed_table(
    records: Sequence[Record], by: Sequence[str] | None = None, figures: Sequence[str] | None = None
) -> Table:
    """Mean, sd and n of figures in each group. `by`: group by these settings only; `figures`: None = the usual few, or
    all where there are none of these.

    Raises UserError for a setting or figure that no record has.
    """
    groups = grouped(records, by)
    known = {name for record in records for name in figures_of(record)}
    if figures is None:
        figures = [name for name in DEFAULT_FIGURES if name in known] or sorted(known)
    if unknown := [name for name in figures if name not in known]:
        raise UserError(f"no experiment has the figure {unknown[0]}", f"take some of {', '.join(sorted(known))}")
    names = telling_apart(groups) if by is None else list(by)
    rows = []
    for group in groups:
        labels = [in_words(group.settings[name]) if name in group.settings else "" for name in names]
        found = [figures_of(record) for record in group.records]
        spreads = [Spread.of(of[name] for of in found if name in of) for name in figures]
        rows.append(Row(labels, spreads, notes_of(group)))
    return Table(names, [figure_label(name) for name in figures], rows)


def figures_of(record: Record) -> dict[str, float]:
    """The numbers among the figures of an experiment, and the AUC of its default score as `auc_score` once more."""
    figures = record["figures"]
    numbers = {name: value for name, value in figures.items() if type(value) in (int, float)}
    main = f"auc_{record['method']}_score"
    return numbers | ({MAIN_SCORE: numbers[main]} if main in numbers else {})


def notes_of(group: Group) -> tuple[str, ...]:
    """What makes the experiments of a group hard to compare."""
    records = group.records
    versions = [record.get("versions", {}) for record in records]
    notes = []
    for package in dict.fromkeys(name for of in versions for name in of):
        notes += mixed(package, [of.get(package) for of in versions])
    notes += mixed("precision", [record.get("resolved_precision") for record in records])
    if len({str((record["data"] or {}).get("images")) for record in records}) > 1:
        notes.append("mixed images")
    inside = telling_apart([Group(settings_of(record), [record]) for record in records])
    if inside:  # grouped by some settings only
        notes.append(f"mixed settings: {', '.join(inside)}")
    seeds = [record["settings"].get("seed") for record in records]
    if again := sorted({seed for seed in seeds if seed is not None and seeds.count(seed) > 1}):
        notes.append(f"more than one run of seed {', '.join(map(str, again))}")
    if any(record["settings"].get("choose") == "oracle" for record in records):
        notes.append("oracle: score and moment chosen by the true labels")
    return tuple(notes)


def mixed(what: str, values: list[str | None]) -> list[str]:
    different = sorted({str(value or "unknown") for value in values})
    return [f"mixed {what}: {', '.join(different)}"] if len(different) > 1 else []
