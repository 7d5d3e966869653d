"""Taking a cleaned set away: round trips, originals that stay as they are, formats, and everything that is refused."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from datasets.folder import load_folder
from datasets.label_file import with_labels
from utils import export
from utils.command_line.running import run_script
from utils.errors import UserError
from utils.experiments.record import Record
from utils.files import write_csv
from utils.results.cleaned_set import names_of, write_label_studio
from utils.results.decisions import Decided, Listed
from utils.results.suspects import Suspects

CLASSES = ("blue", "green", "red")
N, MOVED = 30, 6  # images, of which the first two of every class lie in the folder of the next one


def colour(k):
    return k % 3  # what image k shows


def folder_of(k):
    return (colour(k) + (k < MOVED)) % 3


@pytest.fixture
def photos(tmp_path):
    """30 images in three classes, told apart by colour; six lie in the wrong folder, and names repeat over classes."""
    root = tmp_path / "photos"
    for k in range(N):
        pixels = np.full((8, 8, 3), k, dtype=np.uint8)
        pixels[..., 2 - colour(k)] = 200
        path = root / "train" / CLASSES[folder_of(k)] / f"{k // 3}.png"
        path = path.with_name(f"{k // 3}_moved.png") if path.exists() else path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def shown(path):
    """The class that an image shows."""
    with Image.open(path) as image:
        return CLASSES[2 - int(np.asarray(image).mean((0, 1)).argmax())]


def experiment(tmp_path, root, data_set="folder", certain=0.95):
    """A finished experiment that suspects exactly the moved images, the last of them less surely; its rows."""
    data = load_folder(root, "train", 8)
    truth = np.array([CLASSES.index(shown(root / name)) for name in data.file_names])
    wrong = np.flatnonzero(truth != data.labels)
    p_noisy = np.where(truth != data.labels, certain, 0.1).astype(np.float32)
    p_noisy[wrong[-1]] = 0.7
    posterior = np.full((N, 3), 0.01, dtype=np.float32)
    posterior[np.arange(N), truth] = np.maximum(p_noisy, 0.9)
    table = Suspects.ranked(
        class_names=data.class_names,
        sample_ids=data.sample_ids,
        files=data.file_names if data_set == "folder" else None,
        labels=data.labels,
        true_labels=None,
        scores={"score": p_noisy},
        p_noisy=p_noisy,
        posterior=posterior,
        twin_of=np.full(N, -1),
    )
    folder = tmp_path / "experiments" / "mine"
    folder.mkdir(parents=True)
    record = Record.new(folder, "relabel.py", "relabel", {"train_root": str(root)}, {})
    record.save_array("sample_ids", data.sample_ids)
    write_csv(record.own("suspects.csv"), table.rows())
    record.update(data={"data_set": data_set, "noise_type": "none"}, status="finished")
    return table


@pytest.fixture
def call(tmp_path, capsys):
    """call("--to", folder) -> what was printed, of the experiment "mine"."""

    def run(*flags):
        export.main(["mine", "--experiments_root", str(tmp_path / "experiments"), *map(str, flags)])
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """refused("--to", folder) -> the one line; nothing has been written."""

    def run(*flags):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            run_script(export.main, ["mine", "--experiments_root", str(tmp_path / "experiments"), *map(str, flags)])
        lines = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and " — " in lines[0]
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0]

    return run


def contents(root):
    return {
        str(f.relative_to(root)): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns)
        for f in sorted(root.rglob("*.png"))
    }


def noise(root):
    """Share of the images that show another class than their folder's name, as the loader sees them."""
    data = load_folder(root, "train", 8)
    return np.mean([shown(root / f) != data.class_names[c] for f, c in zip(data.file_names, data.labels, strict=True)])


def review(tmp_path, table, decisions, **changed):
    """review.csv with {row of the table: (decision, new label)}."""
    rows = [
        {
            "sample_id": table.sample_ids[k],
            "file": table.files[k],
            "label": table.class_names[table.labels[k]],
            "decision": decision,
            "new_label": label,
        }
        | changed
        for k, (decision, label) in decisions.items()
    ]
    write_csv(tmp_path / "review.csv", rows)
    return tmp_path / "review.csv"


def read_csv(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


# What comes out.


@pytest.mark.parametrize("suspects, left", [("drop", N - MOVED), ("relabel", N)])
@pytest.mark.parametrize("copy", [False, True])
def test_a_round_trip_leaves_less_noise_and_the_originals_alone(call, tmp_path, photos, suspects, left, copy):
    experiment(tmp_path, photos)
    before, out = contents(photos), tmp_path / "clean" / "train"
    assert noise(photos) == MOVED / N
    printed = call("--p_noisy", 0.5, "--suspects", suspects, "--to", out, *["--copy"] * copy)
    assert noise(out.parent) == 0 and len(contents(out)) == left
    assert contents(photos) == before
    pictures = {digest for digest, _ in contents(out).values()}
    assert pictures <= {digest for digest, _ in before.values()} and len(pictures) == left
    linked = {file.stat().st_nlink for file in out.rglob("*.png")} == {2}
    assert linked != copy and f"{0 if copy else left} hard links" in printed
    assert [f.name for f in out.parent.iterdir() if f.name.startswith(".") and f.suffix == ".tmp"] == []


def test_only_those_from_the_given_p_noisy_on_are_touched(call, tmp_path, photos):
    experiment(tmp_path, photos)
    printed = call("--p_noisy", 0.9, "--suspects", "relabel", "--to", tmp_path / "clean" / "train")
    assert noise(tmp_path / "clean") == pytest.approx(1 / N)
    assert "30 samples: 25 with the label they had, 5 with another one, 0 removed" in printed


def test_a_p_noisy_that_no_label_has_is_said(call, tmp_path, photos):
    experiment(tmp_path, photos)
    said = "no label has a p_noisy of 1 or more, the highest is 0.9500: give less"
    assert said in call("--p_noisy", 1, "--suspects", "drop", "--labels_csv", tmp_path / "labels.csv")
    assert "no label" not in call("--p_noisy", 0.95, "--suspects", "drop", "--labels_csv", tmp_path / "l2.csv")


def test_a_relabelled_file_takes_no_other_ones_name(call, tmp_path, photos):
    experiment(tmp_path, photos)
    call("--p_noisy", 0.5, "--suspects", "relabel", "--to", tmp_path / "clean")
    names = [str(file.relative_to(tmp_path / "clean")).casefold() for file in (tmp_path / "clean").rglob("*.png")]
    assert len(names) == len(set(names)) == N
    for k in range(MOVED, N):  # who stayed keeps its name
        assert (tmp_path / "clean" / CLASSES[colour(k)] / f"{k // 3}.png").exists()


@pytest.mark.parametrize("before", ["", "train/"])
def test_files_keep_their_place_below_their_class(before):
    files = [f"{before}cat/a.png", f"{before}cat/sub/a.png", f"{before}dog/A.png", f"{before}dog/sub/b.png"]
    kept = [Decided(Listed(k, file, "any", "any", 1.0, 0.0), "cat", 1.0) for k, file in enumerate(files)]
    assert names_of(kept) == ["cat/a.png", "cat/sub/a.png", "cat/A_2.png", "cat/sub/b.png"]


def test_a_review_is_followed_exactly(call, tmp_path, photos):
    table = experiment(tmp_path, photos)
    given = [table.class_names[label] for label in table.labels]
    third = next(name for name in CLASSES if name not in (given[2], table.class_names[table.suggested[2]]))
    decisions = {0: ("keep", ""), 1: ("remove", ""), 2: ("relabel", third), 20: ("remove", "")}
    printed = call("--review", review(tmp_path, table, decisions), "--labels_csv", tmp_path / "labels.csv")
    assert "30 samples, 4 of them judged: 27 with the label they had, 1 with another one, 2 removed" in printed
    expected = dict(zip(table.files, given, strict=True)) | {table.files[2]: third}
    expected |= {table.files[1]: "", table.files[20]: ""}  # removed
    rows = read_csv(tmp_path / "labels.csv")
    assert {row["file"]: row["label"] for row in rows} == expected and list(rows[0]) == ["file", "label"]
    again = with_labels(load_folder(photos, "train", 8), str(tmp_path / "labels.csv"), trusted=False)
    assert len(again) == N - 2 and set(again.file_names) == {file for file, label in expected.items() if label}


def test_what_a_labels_file_left_out_stays_out_of_the_next_one(call, tmp_path, photos):
    table = experiment(tmp_path, photos)
    gone = "red/no_more.png"
    rows = [{"file": gone, "reason": "has no label in labels.csv"}, {"file": "red/x.png", "reason": "is broken"}]
    write_csv(tmp_path / "experiments" / "mine" / "skipped.csv", rows)
    call("--p_noisy", 1, "--suspects", "drop", "--labels_csv", tmp_path / "labels.csv")
    labels = {row["file"]: row["label"] for row in read_csv(tmp_path / "labels.csv")}
    assert labels.keys() == {*table.files, gone} and labels[gone] == ""


def test_folder_and_labels_at_once(call, tmp_path, photos):
    experiment(tmp_path, photos)
    call("--p_noisy", 0.5, "--suspects", "drop", "--to", tmp_path / "clean", "--labels_csv", tmp_path / "labels.csv")
    labels = {
        (tmp_path / "photos" / row["file"]).read_bytes(): row["label"]
        for row in read_csv(tmp_path / "labels.csv")
        if row["label"]
    }
    assert labels == {file.read_bytes(): file.parent.name for file in (tmp_path / "clean").rglob("*.png")}


def test_an_empty_destination_is_used(call, tmp_path, photos):
    experiment(tmp_path, photos)
    (tmp_path / "clean").mkdir()
    call("--p_noisy", 1, "--suspects", "drop", "--to", tmp_path / "clean")
    assert len(contents(tmp_path / "clean")) == N


def test_images_that_moved_since_are_found_where_they_are_said_to_be(call, refused, tmp_path, photos):
    experiment(tmp_path, photos)
    photos.rename(tmp_path / "elsewhere")
    flags = ["--p_noisy", 0.5, "--suspects", "drop", "--to", tmp_path / "clean"]
    assert "there is no" in refused(*flags) and not (tmp_path / "clean").exists()
    call(*flags, "--train_root", tmp_path / "elsewhere")
    assert len(contents(tmp_path / "clean")) == N - MOVED


def test_label_studio_gets_every_image_with_its_label_as_a_prediction(call, tmp_path, photos):
    table = experiment(tmp_path, photos)
    out = tmp_path / "tasks.json"
    printed = call("--p_noisy", 0.5, "--suspects", "relabel", "--labels_csv", out, "--format", "labelstudio")
    choices = "".join(f'<Choice value="{name}"/>' for name in CLASSES)
    assert f"_DOCUMENT_ROOT={photos.parent}\n" in printed and f"interface,\n  {photos}\n" in printed
    assert f'<Choices name="label" toName="image">{choices}</Choices></View>' in printed
    tasks = json.loads(out.read_text())
    assert len(tasks) == N
    assert tasks[0] == {
        "data": {
            "image": f"/data/local-files/?d={photos.name}/{table.files[0]}",
            "file": table.files[0],
            "label_given": table.class_names[table.labels[0]],
            "p_noisy": 0.95,
        },
        "predictions": [
            {
                "model_version": "mine",
                "score": 0.95,
                "result": [
                    {
                        "from_name": "label",
                        "to_name": "image",
                        "type": "choices",
                        "value": {"choices": [table.class_names[table.suggested[0]]]},
                    }
                ],
            }
        ],
    }


def test_label_studio_gets_names_that_it_can_read(tmp_path, photos):
    """In an address and in the interface, which is XML; of a root that is told from the working folder."""
    name, file = 'a "b" & <c>', "a/a 1#.png"
    (photos / "a").mkdir()
    (photos / file).write_bytes(b"")
    sample = Listed(7, file, name, "dog", 0.5, 0.5)
    out = tmp_path / "tasks.json"
    *_, folder, interface = write_label_studio(
        [Decided(sample, name, 0.5)], [name, "dog"], Path(os.path.relpath(photos)), out, "mine"
    )
    (task,) = json.loads(out.read_text())
    assert task["data"]["image"] == f"/data/local-files/?d={photos.name}/a/a%201%23.png"
    assert folder.strip() == str(photos)
    choices = [choice.get("value") for choice in ElementTree.fromstring(interface.strip()).iter("Choice")]
    assert choices == [name, "dog"] and task["predictions"][0]["result"][0]["value"] == {"choices": [name]}
    with pytest.raises(UserError, match="there is no"):
        write_label_studio([Decided(replace(sample, file="a/gone.png"), name, 0.5)], [name], photos, out, "mine")


def test_a_train_folder_may_be_a_link_to_elsewhere(call, refused, tmp_path, photos):
    elsewhere = tmp_path / "disk"
    (photos / "train").rename(elsewhere)
    (photos / "train").symlink_to(elsewhere)
    experiment(tmp_path, photos)
    assert "lies within the originals" in refused(*DROP, "--to", elsewhere / "clean")
    call(*DROP, "--to", tmp_path / "clean")
    assert len(contents(tmp_path / "clean")) == N - MOVED and noise(tmp_path / "clean") == 0
    call(*DROP, "--labels_csv", tmp_path / "tasks.json", "--format", "labelstudio")
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == N - MOVED


def test_a_record_that_lacks_what_an_export_needs(refused, call, tmp_path, photos):
    experiment(tmp_path, photos)
    record = Record.read(tmp_path / "experiments" / "mine")
    record.update(settings={"train_root": 3}, data={"data_set": "folder"})
    assert "does not say where the images lay — add --train_root" in refused(*DROP, "--to", tmp_path / "clean")
    record.update(data=None)
    assert "is damaged (it lacks its data)" in refused(*DROP, "--to", tmp_path / "clean")


def test_images_that_are_no_files_are_named_by_sample(call, refused, tmp_path, photos):
    experiment(tmp_path, photos, data_set="digits")
    flags = ["--p_noisy", 0.5, "--suspects", "drop"]
    call(*flags, "--labels_csv", tmp_path / "labels.csv")
    rows = read_csv(tmp_path / "labels.csv")
    assert list(rows[0]) == ["sample_id", "label"] and sum(row["label"] != "" for row in rows) == N - MOVED
    assert "whose images are no files" in refused(*flags, "--to", tmp_path / "clean")


def test_names_that_are_no_text_and_names_with_commas_survive(call, tmp_path, photos):
    strange = os.fsdecode(b'caf\xe9, "so"\r\n.png')
    (photos / "train" / "blue" / "9.png").rename(photos / "train" / "blue" / strange)
    table = experiment(tmp_path, photos)
    k = table.files.index(f"train/blue/{strange}")
    decided = review(tmp_path, table, {k: ("relabel", "red")}, file=table.files[k].replace("\udce9", "\ufffd"))
    call("--review", decided, "--to", tmp_path / "clean", "--labels_csv", tmp_path / "labels.csv")
    assert (tmp_path / "clean" / "red" / strange).exists()
    with (tmp_path / "labels.csv").open(newline="", errors="surrogateescape") as handle:
        assert {row["file"]: row["label"] for row in csv.DictReader(handle)}[table.files[k]] == "red"


# What is refused.

DROP = ["--p_noisy", 0.5, "--suspects", "drop"]


def test_flags_that_say_too_little_or_too_much(refused, tmp_path, photos):
    experiment(tmp_path, photos)
    out = ["--to", tmp_path / "clean"]
    assert "nothing would be written" in refused(*DROP)
    assert "what becomes of the suspects is not said" in refused(*out)
    assert "what becomes of the suspects is not said" in refused("--p_noisy", 0.5, *out)
    assert "--p_noisy does nothing beside --review" in refused(*DROP, "--review", "r.csv", *out)
    assert "outside [0, 1]" in refused("--p_noisy", 2, "--suspects", "drop", *out)
    labels = ["--labels_csv", tmp_path / "labels.csv"]
    assert "--copy does nothing without --to" in refused(*DROP, "--copy", *labels)
    assert "--train_root does nothing without" in refused(*DROP, "--train_root", photos, *labels)
    assert "--format labelstudio does nothing" in refused(*DROP, "--format", "labelstudio", *out)


def test_an_experiment_that_is_missing_unfinished_or_damaged(refused, tmp_path, photos):
    out = ["--to", tmp_path / "clean"]
    assert "is no experiment folder" in refused(*DROP, *out)
    experiment(tmp_path, photos)
    folder = tmp_path / "experiments" / "mine"
    record = Record.read(folder)
    record.update(status="running")
    assert "is not finished" in refused(*DROP, *out)
    record.update(status="finished")
    whole = (folder / "suspects.csv").read_text()
    for text, line in [
        (whole.replace("suggested_label", "other"), "has no column suggested_label"),
        (whole.replace("0.9500", "much"), "is damaged"),
        (whole[: whole.rindex("\n", 0, -1) + 1], "does not list the samples of its run"),
        (",../../train/".join(whole.rsplit(",train/", 1)), "lies outside"),
    ]:
        (folder / "suspects.csv").write_text(text)
        assert line in refused(*DROP, *out)
    (folder / "suspects.csv").unlink()
    assert "cannot read" in refused(*DROP, *out)


def test_a_score_that_was_chosen_by_the_true_labels(refused, tmp_path, photos):
    experiment(tmp_path, photos)
    record = Record.read(tmp_path / "experiments" / "mine")
    record.update(settings=record["settings"] | {"choose": "oracle"})
    line = refused(*DROP, "--to", tmp_path / "clean")
    assert "mine chose its score by the true labels — use an experiment without --choose oracle: python3" in line


@pytest.mark.parametrize(
    "decision, changed, line",
    [
        (("keep", ""), {"sample_id": 99}, "line 2: the experiment has no sample 99"),
        (("keep", ""), {"file": "train/blue/other.png"}, "the experiment has no sample"),
        (("keep", ""), {"label": "cat"}, "the experiment has no sample"),
        (("keep", ""), {"sample_id": "a"}, "the experiment has no sample"),
        (("keep", ""), {"sample_id": "9" * 5000}, "the experiment has no sample"),  # more digits than int() reads
        (("relabel", "cat"), {}, "there is no class 'cat'"),
        (("relabel", ""), {}, "there is no class ''"),
        (("burn", ""), {}, "unknown decision 'burn'"),
        (("keep", "red"), {}, "keep with the new label 'red'"),
    ],
)
def test_reviews_that_are_of_something_else(refused, tmp_path, photos, decision, changed, line):
    table = experiment(tmp_path, photos)
    path = review(tmp_path, table, {0: decision}, **changed)
    assert line in refused("--review", path, "--to", tmp_path / "clean")


def test_reviews_that_cannot_be_read(refused, tmp_path, photos):
    table = experiment(tmp_path, photos)
    path = review(tmp_path, table, {0: ("keep", ""), 1: ("remove", "")})
    whole, out = path.read_text(), ["--review", path, "--to", tmp_path / "clean"]
    assert "cannot read" in refused("--review", tmp_path / "nowhere.csv", "--to", tmp_path / "clean")
    for text, line in [
        ("", "has no column sample_id"),
        (whole.replace("new_label", "label_new"), "has no column new_label"),
        (whole + whole.splitlines()[1] + "\n", "is decided twice"),
        (whole + "1,a\n", "too many or too few fields"),
        (whole + '1,"a', "is no csv file"),
    ]:
        path.write_text(text)
        assert line in refused(*out)


def test_a_class_that_would_be_empty(refused, tmp_path, photos):
    table = experiment(tmp_path, photos)
    reds = {k: ("remove", "") for k in range(N) if table.class_names[table.labels[k]] == "red"}
    path = review(tmp_path, table, reds)
    for flags in (["--to", tmp_path / "clean"], ["--labels_csv", tmp_path / "labels.csv"]):
        assert "no image of class red would be left" in refused("--review", path, *flags)


def test_destinations_that_are_taken_or_among_the_originals(refused, tmp_path, photos):
    experiment(tmp_path, photos)
    (tmp_path / "link").symlink_to(photos)
    for out in (photos, photos / "clean", tmp_path / "link" / "clean", photos / ".." / "photos" / "new"):
        assert "lies within the originals" in refused(*DROP, "--to", out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    assert "is not empty" in refused(*DROP, "--to", tmp_path / "full")
    assert "is no folder" in refused(*DROP, "--to", tmp_path / "full" / "a.txt")
    assert "exists already" in refused(*DROP, "--labels_csv", tmp_path / "full" / "a.txt")
    assert "there is no folder" in refused(*DROP, "--labels_csv", tmp_path / "nowhere" / "a.csv")


def test_a_disk_that_fills_up_leaves_nothing(refused, tmp_path, photos, monkeypatch):
    experiment(tmp_path, photos)

    def full(*names, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    assert "No space left on device" in refused(*DROP, "--to", tmp_path / "clean", "--copy")


def test_an_export_that_is_told_to_stop_leaves_nothing(tmp_path, photos):
    experiment(tmp_path, photos)
    code = """
import os, runpy, shutil, signal
shutil.copy2 = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
runpy.run_module("utils.export", run_name="__main__")
"""
    before = sorted(tmp_path.rglob("*"))
    flags = ["mine", "--experiments_root", tmp_path / "experiments", *DROP, "--to", tmp_path / "clean", "--copy"]
    assert subprocess.run([sys.executable, "-c", code, *map(str, flags)]).returncode == 143
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_system_without_hard_links_gets_copies(call, tmp_path, photos, monkeypatch):
    experiment(tmp_path, photos)

    def no_links(*names, **options):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_links)
    assert f"0 hard links, {N - MOVED} copies" in call(*DROP, "--to", tmp_path / "clean")
