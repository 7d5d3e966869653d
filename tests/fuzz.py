#!/usr/bin/env python3
"""Hand the scripts what users hand in, damaged, hostile and extreme: each is taken, or refused in one line.

python3 -m tests.fuzz --inputs 10000                      spread over the kinds; exit status 1 on any failure
python3 -m tests.fuzz --seed 5 --only labels.csv:123      one of them again

A failure is any other exception, a flood of warnings, an input that takes longer than LIMIT seconds, and one that is
refused after files were changed.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

import datasets
import models
from datasets.decoding import Undecodable, decode, decode_whole, refusing_bombs
from datasets.image_set import ImageSet
from datasets.label_file import with_labels
from models.backbone import load_backbone
from tests import mutations
from tests.tiny import TINY_ARGS, load_script
from utils import export, summary
from utils import page as page_command
from utils.classifier import Classifier
from utils.command_line.flags import experiment_name
from utils.command_line.running import print_result
from utils.compute import choose
from utils.data.choice import DataChoice, first_choice
from utils.data.noisy_data import prepare
from utils.errors import UserError
from utils.experiments.artifacts import load_torch, save_torch
from utils.experiments.experiment import Experiment
from utils.experiments.format import FORMAT, KEY
from utils.experiments.record import experiment_path
from utils.files import write_csv
from utils.methods.forgetting import STAGE1_ENTRIES, FinishedStage1
from utils.results import suspects_page, thumbnails
from utils.results.comparison import compare_experiments, read_comparable
from utils.results.found_scores import read_score_file, read_scores
from utils.results.suspect_files import write_suspects
from utils.results.suspects import Suspects, printable
from utils.separations import FORGET, RELABEL
from utils.training.learner import Progress

LIMIT = 120  # seconds for one input, some of which wait for the disk
MEMORY = 8e9  # bytes more than at the start, beyond which memory is refused
WARNINGS = 5  # more lines than these on stderr are a flood
SIZE = 16  # pixels, of decoded images

Use = Callable[[], None]  # hands in an input that is there; raises UserError where it is refused
Prepare = Callable[[random.Random], Use]  # makes an input, whatever was there before


class TooLong(BaseException):
    """No Exception: nothing that handles the errors of a file may swallow it."""


# -- command lines -----------------------------------------------------------------------------------------------------


def words(parser: argparse.ArgumentParser, chance: random.Random) -> list[str]:
    """A few flags with values that they may have, extreme ones and others."""
    found = []
    for action in chance.sample(
        parser._actions[2:], chance.choice([0, 1, 1, 2, 3, 6])
    ):  # without --help and --help_all
        found.append(chance.choice(action.option_strings))
        if action.nargs == 0:
            continue
        for _ in range(chance.choice([0, 1, 1, 1, 1, 1, 2, 3])):
            good = [*map(str, action.choices or ["1", "2", "0.5", "digits", "none"])]
            value = chance.choice([chance.choice(good), chance.choice(mutations.NUMBERS), mutations.text(chance)])
            found.append(value.replace("\0", ""))  # which no system lets through
    if chance.random() < 0.1:
        found.append(chance.choice(["stray", "--no_such_flag", "--epoch", "--exp", "-h=1", "-"]))
    return found


def script_with_flags(script: str, entries: dict | None = None) -> tuple[Callable, Callable]:
    """(What it does with flags, short of the work; its parser.) `entries` gets what a run would record of them."""
    module = load_script(script)

    def instead(script: str, key: str, method: object, args: argparse.Namespace, given: dict[str, Any]) -> None:
        if entries is not None:
            entries.update(settings=vars(args), given=given)
        experiment_path(args.experiments_root, experiment_name(script, args))
        first_choice(args).in_words()

    def main(words: list[str]) -> None:
        with mock.patch("utils.command_line.script.run_experiment", instead):
            module.main(words)

    return main, module.parser


def flags(script: str) -> Callable[[Path], Prepare]:
    def kind(root: Path) -> Prepare:
        main, parser = script_with_flags(script)

        def make(chance: random.Random) -> Use:
            given = words(parser(), chance)
            if script == "ssl.py" and chance.random() < 0.8:
                given.append("--forget")
            return lambda: main(given)

        return make

    return kind


def settings(root: Path) -> Prepare:
    """--settings FILE of an earlier run."""
    scripts = {script: script_with_flags(script) for script in TINY_ARGS}
    recorded = {script: entries_of(script) for script in scripts}
    file = root / "run.json"

    def make(chance: random.Random) -> Use:
        script = chance.choice(list(scripts))
        main, parser = scripts[script]
        entries = {"script": script, "given": recorded[script]["given"]}
        file.write_bytes(mutated_json(entries, chance, 0.7))
        given = ["--settings", str(file), *(words(parser(), chance) if chance.random() < 0.3 else [])]
        return lambda: main(given)

    return make


def entries_of(script: str) -> dict[str, dict[str, Any]]:
    """The settings and the flags given, as its run.json holds them."""
    entries: dict[str, Any] = {}
    main, _ = script_with_flags(script, entries)
    main([*TINY_ARGS[script], *(["--relabel", "mine"] if script == "ssl.py" else [])])
    return json.loads(json.dumps(entries, default=str))


def mutated_json(entries: Any, chance: random.Random, share: float) -> bytes:
    """In `share` of the cases its entries change, else its bytes."""
    if chance.random() < share:
        return json.dumps(mutations.mutated_value(entries, chance), indent=1).encode()
    return mutations.mutated_bytes(json.dumps(entries, indent=1).encode(), chance)


# -- images ------------------------------------------------------------------------------------------------------------


def encoded_images() -> dict[str, list[bytes]]:
    """By format, pictures of every mode that it can hold."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # turned
    found: dict[str, list[bytes]] = {}
    options = {
        "JPEG": [{"mode": mode, "exif": exif, "progressive": mode == "L"} for mode in ("RGB", "L", "CMYK")],
        "PNG": [{"mode": mode} for mode in ("RGB", "RGBA", "P", "LA", "1", "I;16")] + [{"mode": "RGB", "exif": exif}],
        "GIF": [{"mode": "P"}, {"mode": "P", "save_all": True, "append_images": [picture.convert("P")]}],
        "BMP": [{"mode": "RGB"}, {"mode": "P"}, {"mode": "1"}],
        "TIFF": [{"mode": m, "compression": c} for m in ("RGB", "F", "I") for c in (None, "tiff_lzw", "tiff_deflate")],
        "WEBP": [{"mode": "RGB"}, {"mode": "RGBA", "lossless": True}],
        "PPM": [{"mode": "RGB"}, {"mode": "L"}, {"mode": "1"}],
    }
    for name, ways in options.items():
        for way in ways:
            buffer, saved = io.BytesIO(), dict(way)
            mode = saved.pop("mode")
            picture.convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, name, **saved)
            found.setdefault(name, []).append(buffer.getvalue())
    return found


def image(name: str) -> Callable[[Path], Prepare]:
    """One image file of a format, through everything that reads such files."""

    def kind(root: Path) -> Prepare:
        whole, file = encoded_images()[name], root / "picture.png"  # misnamed or not: decoded as what it is

        def make(chance: random.Random) -> Use:
            file.write_bytes(mutations.mutated_bytes(chance.choice(whole), chance))
            return lambda: read_image(file)

        return make

    return kind


def read_image(file: Path) -> None:
    with refusing_bombs():
        try:
            pixels = decode(file, SIZE)
        except Undecodable:
            with contextlib.suppress(Undecodable):
                thumbnails.of_file(file)
            with contextlib.suppress(Undecodable):
                decode_whole(file, SIZE)
            raise
        assert pixels.shape == (3, SIZE, SIZE) and pixels.dtype == np.uint8
        with contextlib.suppress(Undecodable):  # of a size at which it would fill the memory
            assert decode_whole(file, SIZE).mode == "RGB"


def image_folder(root: Path) -> Prepare:
    """A folder of images, some of them damaged, in classes and files of any name: down to the page and the export."""
    formats, compute = encoded_images(), choose(-1, "fp32")
    whole = [one for images in formats.values() for one in images]

    def make(chance: random.Random) -> Use:
        pictures = root / "pictures"
        shutil.rmtree(pictures, ignore_errors=True)
        damage = chance.random() < 0.3
        for _ in range(chance.choice([1, 2, 2, 2, 3])):
            folder = pictures / mutations.file_name(chance)
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(chance.choice([1] * 8 + [0, 2, 2, 2])):
                file = folder / (mutations.file_name(chance) + chance.choice([".png", ".JPG", ".gif"]))
                content = chance.choice(whole)
                with contextlib.suppress(OSError):  # too long a name
                    file.write_bytes(mutations.mutated_bytes(content, chance) if damage else content)
        skip = chance.random() < 0.5
        return lambda: judge_folder(root, pictures, skip, compute)

    return make


def judge_folder(root: Path, pictures: Path, skip_broken: bool, compute: Any) -> None:
    choice = DataChoice("folder", str(pictures), None, None, SIZE, "none", 0.0, 1, skip_broken=skip_broken)
    data = prepare(choice, compute)
    shutil.rmtree(root / "experiments", ignore_errors=True)
    with Experiment(root / "experiments", "mine").open("relabel.py", "relabel", {"train_root": str(pictures)}) as mine:
        mine.begin(data.fingerprint())
        mine.log(data.describe())
        n = len(data)
        p_noisy = np.linspace(0, 1, n, dtype=np.float32)
        mine.save_array("sample_ids", data.sample_ids)
        posterior = np.full((n, data.num_classes), 1 / data.num_classes, dtype=np.float32)
        write_suspects(mine, data, {"score": p_noisy}, p_noisy, posterior)
        mine.finish({})
    page = parsed((mine.path / "suspects.html").read_text(encoding="utf-8"))
    assert page["classes"] == [printable(name) for name in data.class_names]
    assert sorted(page["file"]) == sorted(printable(name) for name in data.file_names)
    rows = [
        {"sample_id": k, "file": file, "label": page["classes"][label], "decision": "keep", "new_label": ""}
        for k, file, label in zip(page["sample_id"], page["file"], page["label"], strict=True)
    ]
    write_csv(root / "experiments" / "review.csv", rows)
    flags = ["mine", "--experiments_root", str(root / "experiments"), "--review", str(root / "experiments/review.csv")]
    export.main([*flags, "--to", str(root / "experiments" / "clean")])
    export.main([*flags, "--labels_csv", str(root / "experiments" / "labels.csv")])
    options = {"image_size": SIZE, "skip_broken": skip_broken}
    again = datasets.load("folder", pictures, labels=str(root / "experiments" / "labels.csv"), **options)
    assert again.file_names == data.file_names and (again.labels == data.labels).all()
    assert len([path for path in (root / "experiments" / "clean").rglob("*") if path.is_file()]) == n


# -- the page ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements and texts of suspects.html as a browser sees them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self._open = Counter(), {}, None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._open = dict(attrs).get("id", tag)

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data


def parsed(text: str) -> dict[str, Any]:
    """The data of a page. Raises AssertionError where a name became more than text."""
    page = Page()
    page.feed(text)
    page.close()
    assert page.tags == tags_of_the_template(), page.tags - tags_of_the_template()
    assert "<" not in page.texts["data"] + page.texts["pictures"]
    return json.loads(page.texts["data"]) | {"title": page.texts.get("h1", ""), "command": page.texts.get("code", "")}


def tags_of_the_template() -> Counter:
    page = Page()
    page.feed(suspects_page.page(of_names(["a", "b"], ["a"], "a"), np.arange(1), [""], "a", "a", "a"))
    return page.tags


def of_names(class_names: list[str], files: list[str], experiment: str) -> Suspects:
    n = len(files)
    return Suspects.ranked(
        class_names=class_names,
        sample_ids=np.arange(n),
        files=files,
        labels=np.arange(n) % len(class_names),
        true_labels=None,
        scores={"score": np.zeros(n)},
        p_noisy=np.ones(n, dtype=np.float32),
        posterior=np.full((n, len(class_names)), 0.5, dtype=np.float32),
        twin_of=np.full(n, -1),
    )


def page(root: Path) -> Prepare:
    """Names of classes, files and the experiment on suspects.html."""

    def make(chance: random.Random) -> Use:
        class_names, files, (experiment, command) = (
            [mutations.text(chance) for _ in range(k)] for k in (3, chance.randint(1, 4), 2)
        )

        def use() -> None:
            suspects = of_names(class_names, files, experiment)
            text = suspects_page.page(suspects, np.arange(len(files)), [""] * len(files), experiment, "f", command)
            data = parsed(text.encode().decode())  # as a file
            assert data["classes"] == [printable(name) for name in class_names]
            assert data["file"] == [printable(name) for name in files]
            assert as_parsed(data["title"]) == as_parsed(printable(experiment))
            assert as_parsed(data["command"]) == as_parsed(printable(command))

        return use

    return make


def as_parsed(text: str) -> str:
    """HTML knows no NUL, and one kind of line end."""
    return text.replace("\0", "").replace("\ufffd", "").replace("\r\n", "\n").replace("\r", "\n")


# -- labels ------------------------------------------------------------------------------------------------------------


def image_set(files: bool) -> ImageSet:
    names = ("a/1.png", "a/2.png", "b/ü, 3.png", "b/4.png", "a/caf\udce9.png", "b/6.png")
    return ImageSet(
        name="folder" if files else "digits",
        split="train",
        images=np.zeros((6, 3, 2, 2), dtype=np.uint8),
        labels=np.array([0, 0, 1, 1, 0, 1]),
        class_names=("a", "b"),
        sample_ids=np.arange(6),
        mirrored=False,
        file_names=names if files else None,
        left_out={"a/9.png": "does not decode"} if files else {},
    )


def take_labels(files: bool, source: str) -> None:
    own = image_set(files)
    taken = with_labels(own, source, trusted=not files)
    assert len(taken) + len(taken.left_out) == len(own) + len(own.left_out)
    assert ((taken.labels >= 0) & (taken.labels < 2)).all()


def label_tables(root: Path) -> Prepare:
    def make(chance: random.Random) -> Use:
        files = chance.random() < 0.6
        own = image_set(files)
        rows = [["file" if files else "sample_id", "label", "true_label"][: chance.choice([2, 3])]]
        for name, label in zip(own.file_names or map(str, range(6)), own.labels, strict=True):
            rows.append([name, own.class_names[label], chance.choice(["a", "b", ""])][: len(rows[0])])
        (root / "labels.csv").write_bytes(mutations.mutated_table(rows, chance))
        return lambda: take_labels(files, str(root / "labels.csv"))

    return make


def random_array(chance: random.Random, n: int) -> np.ndarray:
    """Of about n entries, of any type and shape."""
    shape = chance.choice([(n,), (n,), (n,), (n,), (n, 1), (1, n), (), (0,), (n + 1,), (n - 1,), (n, 0), (2, n, 2)])
    types = [
        "<i8",
        "<i8",
        "u1",
        "i1",
        ">i4",
        "<u8",
        "f8",
        "f4",
        "f2",
        ">f4",
        "c16",
        "?",
        "U3",
        "S2",
        "O",
        "M8[s]",
        "V4",
    ]
    dtype = np.dtype(chance.choice([*types, [("a", "i4"), ("b", "f8")]]))
    values = np.full(shape, chance.choice([0, 1, 1, 1, 0.5, -1, 2, 255, 1e30, float("nan"), float("inf")]))
    with np.errstate(all="ignore"):
        array = values.astype("f8").astype(dtype) if dtype.kind in "iufc?O" else np.zeros(shape, dtype)
    if array.size and dtype.kind in "iuf" and chance.random() < 0.5:
        array.flat[:: chance.choice([2, 3])] = 0
    if dtype.kind == "O" and array.size:
        array.flat[0] = chance.choice([None, {}, 10**400, "a"])
    return np.asfortranarray(array) if chance.random() < 0.1 else array


def saved(save: Callable[..., object], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def array_file(chance: random.Random, n: int) -> bytes:
    content = saved(np.save, random_array(chance, n))
    return mutations.mutated_bytes(content, chance) if chance.random() < 0.6 else content


def label_arrays(root: Path) -> Prepare:
    def make(chance: random.Random) -> Use:
        file = root / f"labels.{chance.choice(['npy', 'npy', 'npz'])}"
        source = str(file) + chance.choice(["", ":a", ":b", ":", ":a:b", f":{mutations.text(chance)}"])
        if file.suffix == ".npy":
            file.write_bytes(array_file(chance, 6))
            source = source if chance.random() < 0.1 else str(file)
        else:
            save = chance.choice([np.savez, np.savez_compressed])
            content = saved(save, a=random_array(chance, 6), b=np.array([0, 0, 1, 1, 0, 1]))
            file.write_bytes(mutations.mutated_bytes(content, chance) if chance.random() < 0.5 else content)
        files = chance.random() < 0.5
        return lambda: take_labels(files, source)

    return make


FORMATS = ["csv", "labelstudio"]

# -- what runs leave ---------------------------------------------------------------------------------------------------

CHOICE = DataChoice("folder", None, None, None, None, "none", 0.0, 1)
FINGERPRINT = {
    "data_set": "folder", "class_subset": None, "noise_type": "none", "noise_ratio": 0.0, "seed": 1, "samples": 6,
    "images": "abc", "labels": "def",
}  # fmt: skip


def finished_run(root: Path, name: str = "mine", script: str = "relabel.py", method: str = "relabel") -> Experiment:
    """One with scores, a posterior and suspects of six images."""
    recorded = entries_of(script)["settings"] | {"train_root": str(root / "pictures")}
    own, generator = image_set(files=True), np.random.default_rng(0)
    for file in own.file_names:
        (root / "pictures" / file).parent.mkdir(parents=True, exist_ok=True)
        (root / "pictures" / file).write_bytes(b"a picture")
    with Experiment(root, name).open(script, method, recorded) as run:
        run.begin(dict(FINGERPRINT), resolved_precision="fp32")
        p_noisy = generator.random(6, dtype=np.float32)
        posterior = np.full((6, 2), 0.5, dtype=np.float32)
        names = ("score", "loss", "prediction", "mean_loss", "aum")
        arrays = {f"{method}_{score}": generator.random(6, dtype=np.float32) for score in names}
        arrays |= {"p_noisy": p_noisy, "labels": own.labels, "clean_labels": own.labels, "sample_ids": own.sample_ids}
        arrays |= {f"{method}_posterior": posterior, f"{method}_transition": np.full((2, 2), 0.5)}
        for array, values in (arrays | {"trained_labels": own.labels}).items():
            run.save_array(array, values)
        suspects = of_names(list(own.class_names), list(own.file_names), name)
        run.write_csv("suspects.csv", suspects.rows())
        run.history.add(stage=1, epoch=1, train_loss=0.5)
        run.record["seconds"]["stage1"] = 1.5
        run.finish({"auc_relabel_score": 0.9, "test_accuracy": 0.8, "epochs": 3})
    return run


def run_record(root: Path) -> Prepare:
    """run.json, before everything that reads those of other runs, and its own run again."""
    run = finished_run(root)
    finished_run(root, "other")
    entries, file = json.loads((run.path / "run.json").read_text()), run.path / "run.json"
    recorded = entries["settings"]

    def show() -> None:
        with Experiment(root, "mine").open("relabel.py", "relabel", recorded) as mine:
            if mine.finished:
                print_result(mine, "next")

    def compare() -> None:
        read_comparable(str(root), "mine")
        with Experiment(root, "other").open("relabel.py", "relabel", recorded) as other:
            compare_experiments(other, "mine")

    where = ["--experiments_root", str(root), "--p_noisy", "0.5", "--suspects", "relabel"]
    readers: list[Use] = [
        show,
        compare,
        lambda: summary.main([str(root)]),
        lambda: summary.main([str(root), "--by", "lr", "seed", "noise_ratio"]),
        lambda: page_command.main(["mine", "--experiments_root", str(root), "--report", "3"]),
        lambda: export.main(["mine", *where, "--to", str(root / "clean")]),
        lambda: export.main(["mine", *where, "--labels_csv", str(root / "out.json"), "--format", "labelstudio"]),
        lambda: read_scores(str(root), RELABEL, "mine", CHOICE, FINGERPRINT) and None,
        lambda: read_scores(str(root), RELABEL, "", CHOICE, FINGERPRINT) and None,
    ]

    def make(chance: random.Random) -> Use:
        file.write_bytes(mutated_json(entries, chance, 0.8))
        return chance.choice(readers)

    return make


def score_files(root: Path) -> Prepare:
    """Scores from elsewhere, for ssl.py --scores."""

    def make(chance: random.Random) -> Use:
        (root / "scores.npy").write_bytes(array_file(chance, 6))

        def use() -> None:
            scores = read_score_file(str(root / "scores.npy"), 6).scores
            assert scores.dtype == np.float32 and scores.shape == (6,) and np.isfinite(scores).all()

        return use

    return make


def separation_files(root: Path) -> Prepare:
    """The arrays that ssl.py reads of a separation, one of them changed, lost, or another one."""
    run = finished_run(root)
    names = ["relabel_score", "relabel_posterior", "relabel_transition", "trained_labels"]

    def make(chance: random.Random) -> Use:
        file = run.path / f"{chance.choice(names)}.npy"
        content = chance.choice([mutations.mutated_bytes(file.read_bytes(), chance), array_file(chance, 6), None])
        file.unlink() if content is None else file.write_bytes(content)

        def use() -> None:
            found = read_scores(str(root), RELABEL, "mine", CHOICE, FINGERPRINT)
            assert found.scores.shape == (6,) and (found.posterior is None or found.posterior.shape == (6, 2))

        return use

    return make


def tables_of_a_run(name: str) -> Callable[[Path], Prepare]:
    """review.csv or suspects.csv, before utils.export."""

    def kind(root: Path) -> Prepare:
        run = finished_run(root)
        listed = list(csv.reader((run.path / "suspects.csv").read_text(errors="surrogateescape").splitlines()))
        reviewed = [[printable(field) for field in row[:3]] for row in listed[1:]]
        decisions = [["keep", ""], ["keep", ""], ["remove", ""], ["relabel", "a"], ["relabel", "b"]]

        def make(chance: random.Random) -> Use:
            to = ["--to", str(root / "clean")]
            to = chance.choice([to, ["--labels_csv", str(root / "labels.csv"), "--format", chance.choice(FORMATS)]])
            if name == "review.csv":
                rows = [["sample_id", "file", "label", "decision", "new_label"]]
                rows += [row + chance.choice(decisions) for row in reviewed if chance.random() < 0.8]
                (root / name).write_bytes(mutations.mutated_table(rows, chance))
                how = ["--review", str(root / name)]
            else:
                (run.path / name).write_bytes(mutations.mutated_table(listed, chance))
                how = ["--p_noisy", chance.choice(["0.5", "1"]), "--suspects", chance.choice(["drop", "relabel"])]
            return lambda: export.main(["mine", "--experiments_root", str(root), *how, *to])

        return make

    return kind


# -- what torch writes -------------------------------------------------------------------------------------------------


def mutated_state(file: Path, state: dict, chance: random.Random, ours: bool = True) -> None:
    """In half of the cases the entries, tensors among them, else the bytes; `ours`: with the number of our format."""
    if chance.random() < 0.5:
        file.write_bytes(mutations.mutated_bytes(file.read_bytes(), chance))
        return
    tensors = (torch.zeros(3), torch.tensor(1), torch.zeros(2, 2, dtype=torch.int64), torch.full((4,), torch.nan))
    state = state | {KEY: FORMAT} if ours else state
    torch.save(mutations.mutated_value(state, chance, tensors), file)


def checkpoints(root: Path) -> Prepare:
    """checkpoint.pt or the one before it, of an unfinished run."""

    def parts() -> dict[str, Any]:
        network = models.build("13-CNN", 2, width=0.02)
        return {
            "network": network,
            "optimiser": torch.optim.SGD(network.parameters(), 0.1, 0.9),
            "progress": Progress(),
        }

    flags = {"lr": 0.1}
    with Experiment(root, "begun").open("main.py", "forget", flags) as begun:
        begun.begin({"images": "abc"})
        work = parts() | {"progress": Progress(3, 1, torch.zeros(4))}
        with begun.phase("stage1", work) as phase:
            begun.tracks.new("loss_track", 4, 3).append(np.ones(3, dtype=np.float32))
            begun.history.add(epoch=1, train_loss=0.5)
            phase.checkpoint()
            phase.checkpoint()
    begun.record["seconds"].clear()
    begun.record.write()
    files = [begun.path / name for name in ("checkpoint.pt", "checkpoint_previous.pt")]
    state = torch.load(files[0], weights_only=True)

    def make(chance: random.Random) -> Use:
        kind = chance.random()
        if kind < 0.8:
            mutated_state(chance.choice(files), state, chance)
        elif kind < 0.9:
            part = begun.path / "loss_track.npy.part"
            part.write_bytes(mutations.mutated_bytes(part.read_bytes(), chance))
        else:
            for file in files:
                file.write_bytes(mutations.mutated_bytes(file.read_bytes(), chance))

        def use() -> None:
            with Experiment(root, "begun").open("main.py", "forget", flags) as again:
                again.begin({"images": "abc"})
                again.tracks.new("loss_track", 4, 3)
                if again.state.restore("stage1", parts()) is not None:
                    again.history.write(again.path / "history.csv")

        return use

    return make


def trained_models(root: Path) -> Prepare:
    """model.pt, before utils.classifier."""
    file, network = root / "model.pt", models.build("13-CNN", 2, width=0.02)
    state = {"network": "13-CNN", "width": 0.02, "class_names": ["a", "b"], "side": [8, 8], "mean": torch.zeros(3)}
    state |= {"std": torch.ones(3), "weights": dict(network.state_dict())}
    save_torch(file, state)
    (root / "images").mkdir()
    Image.new("RGB", (8, 8)).save(root / "images" / os.fsdecode(b"caf\xe9.png"))

    def make(chance: random.Random) -> Use:
        mutated_state(file, state, chance)

        def use() -> None:
            from utils import classifier

            Classifier.load(file, cuda_dev=-1)
            classifier.main([str(file), str(root / "images"), "--cuda_dev", "-1"])

        return use

    return make


def first_stages(root: Path) -> Prepare:
    """stage1.pt and history.csv, before main.py --first_stage_from."""
    source = finished_run(root, "source", "main.py", "forget")
    settings = {"lr": 0.1, "seed": 1, "mirror": True, "track_from": "passes"}
    for name in ("stage1_loss", "stage1_loss_track"):
        source.save_array(name, np.zeros(6, dtype=np.float32))
    source.record.write()
    state = dict.fromkeys(STAGE1_ENTRIES, 1) | {"settings": settings, "weights": {"a": torch.zeros(2)}}
    state["evidence"] = {"learnt": {"epochs": torch.zeros(2)}, "own": None}
    save_torch(source.path / "stage1.pt", state)

    def make(chance: random.Random) -> Use:
        if chance.random() < 0.7:
            mutated_state(source.path / "stage1.pt", state, chance)
        else:
            rows = [["stage", "epoch", "train_loss"], ["1", "1", "0.5"], ["1", "2", "0.4"], ["2", "1", ""]]
            (source.path / "history.csv").write_bytes(mutations.mutated_table(rows, chance))

        shutil.rmtree(root / "new", ignore_errors=True)
        (root / "new").mkdir()

        def use() -> None:
            with Experiment(root, "new").open("main.py", FORGET.key, {}) as new:
                new.begin({})
                FinishedStage1.read("source", settings, "fp32", new).take_over(new)
                load_torch(new.path / "stage1.pt", STAGE1_ENTRIES, "")

        return use

    return make


def backbone_weights(root: Path) -> Prepare:
    """parallel.py --features NAME --weights FILE."""
    import torchvision

    name, file = "shufflenet_v2_x0_5", root / "weights.pt"  # the smallest
    state = dict(torchvision.models.get_model(name, num_classes=2).state_dict())
    torch.save(state, file)  # as users save it

    def make(chance: random.Random) -> Use:
        mutated_state(file, state, chance, ours=False)
        return lambda: load_backbone(name, str(file)) and None

    return make


# -- all of them -------------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[int, Callable[[Path], Prepare]]] = {  # with their shares of the inputs
    **{f"flags of {script}": (8, flags(script)) for script in TINY_ARGS},
    "settings": (6, settings),
    **{name.lower(): (4, image(name)) for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")},
    "image folder": (4, image_folder),
    "names on the page": (6, page),
    "labels.csv": (8, label_tables),
    "labels.npy": (8, label_arrays),
    "scores.npy": (6, score_files),
    "separation": (6, separation_files),
    "review.csv": (8, tables_of_a_run("review.csv")),
    "suspects.csv": (6, tables_of_a_run("suspects.csv")),
    "run.json": (10, run_record),
    "checkpoint.pt": (6, checkpoints),
    "model.pt": (4, trained_models),
    "stage1.pt": (4, first_stages),
    "weights.pt": (1, backbone_weights),
}


def contents(root: Path) -> dict[Path, bytes | None]:
    """Of every file and folder that a refused input must leave as it is; locks and what is cached are made anew."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".cache"]
        found |= {Path(folder) / name: None for name in folders}
        found |= {Path(folder) / name: (Path(folder) / name).read_bytes() for name in names if name != ".lock"}
    return found


def put_back(root: Path, whole: dict[Path, bytes | None]) -> None:
    now = contents(root)
    for path in sorted(now.keys() - whole.keys(), reverse=True):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    for path, content in whole.items():
        if content is None:
            path.mkdir(exist_ok=True)
        elif now.get(path) != content:
            path.write_bytes(content)


@contextlib.contextmanager
def listening(heard: list[str]) -> Iterator[None]:
    """As in run_script, for no more than LIMIT seconds; `heard` gets the lines on stderr, those of C libraries too."""

    def stop(*_: object) -> None:
        raise TooLong

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    before, stderr = signal.signal(signal.SIGALRM, stop), os.dup(2)
    with tempfile.TemporaryFile() as err:
        os.dup2(err.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            with contextlib.redirect_stdout(out), warnings.catch_warnings():
                warnings.simplefilter("always")
                yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
        err.seek(0)
        heard += err.read().decode(errors="replace").splitlines()


def outcome(root: Path, make: Prepare, chance: random.Random) -> tuple[str, str]:
    """Of one input: "taken", "refused" or "failed", and what was said of it."""
    use, heard = make(chance), []
    before = contents(root)
    try:
        with listening(heard):
            use()
        result, said = "taken", ""
    except UserError as error:
        result, said = "refused", str(error)
    except (Exception, TooLong, SystemExit):
        return "failed", traceback.format_exc()
    if result == "refused":
        after = contents(root)
        changed = [str(path) for path in before | after if before.get(path, 0) != after.get(path, 0)]
        if changed:
            return "failed", f"refused after {changed} were changed: {said}"
        if " — " not in said or "\n" in said:
            return "failed", f"not one line that says what to do: {said!r}"
    if len(heard) > WARNINGS:
        return "failed", f"{len(heard)} lines on stderr, such as {heard[:3]}"
    return result, said


def fuzz(
    kind: str, numbers: range, seed: int, enough: Callable[[Counter], bool] = lambda found: False
) -> tuple[Counter, list[tuple[int, str]]]:
    """Inputs of one kind, until there are `enough`; (how many ended how, the failures with their numbers)."""
    found, failures = Counter(), []
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make = KINDS[kind][1](root)
        whole = contents(root)
        for number in numbers:
            put_back(root, whole)
            result, said = outcome(root, make, random.Random(f"{seed} {kind} {number}"))
            found[result] += 1
            if result == "failed":
                failures.append((number, said))
            if enough(found):
                break
    return found, failures


def spread(inputs: int) -> dict[str, int]:
    """How many inputs each kind gets, one at least."""
    total = sum(share for share, _ in KINDS.values())
    return {kind: max(1, round(inputs * share / total)) for kind, (share, _) in KINDS.items()}


def table_row(kind: str, found: Counter) -> str:
    return f"{kind:<22}{found.total():>8}{found['taken']:>8}{found['refused']:>9}{found['failed']:>10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="of these kinds alone")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="this input alone, with what is said of it")
    args = parser.parse_args()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + int(MEMORY), resource.RLIM_INFINITY))
    if args.only:
        kind, _, number = args.only.rpartition(":")
        found, failures = fuzz(kind, range(int(number), int(number) + 1), args.seed)
        print(*found, *(said for _, said in failures))
        sys.exit(bool(failures))
    print(f"seed {args.seed}\n{'kind':<22}{'inputs':>8}{'taken':>8}{'refused':>9}{'failures':>10}{'seconds':>9}")
    total, failed = Counter(), []
    for kind, inputs in spread(args.inputs).items():
        if kind not in args.kinds:
            continue
        start = time.monotonic()
        found, failures = fuzz(kind, range(inputs), args.seed)
        total += found
        failed += [(kind, *failure) for failure in failures]
        seconds = time.monotonic() - start
        print(table_row(kind, found) + f"{seconds:>9.1f}", flush=True)
    print(table_row("all", total))
    shown = set()
    for kind, number, said in failed:
        last = said.strip().splitlines()[-1][:100]
        if (kind, last[:40]) not in shown:  # one of each
            shown.add((kind, last[:40]))
            print(f"\n{said.strip()[-1500:]}\n^ python3 -m tests.fuzz --seed {args.seed} --only '{kind}:{number}'")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
