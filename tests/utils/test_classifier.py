"""Classifying a folder with a network that was saved: what it leaves out, and how much of it is in memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import models
from utils import classifier
from utils.classifier import Classifier, main
from utils.errors import UserError
from utils.experiments.artifacts import save_torch

CLASSES = ["blue", "red"]


@pytest.fixture
def model(tmp_path):
    """A model.pt that was not trained."""
    torch.manual_seed(0)
    weights = models.build(models.PREACT_RESNET18, len(CLASSES), width=0.1).state_dict()
    saved = {"network": models.PREACT_RESNET18, "width": 0.1, "class_names": CLASSES, "side": [8, 8]}
    save_torch(tmp_path / "model.pt", saved | {"mean": torch.zeros(3), "std": torch.ones(3), "weights": weights})
    return tmp_path / "model.pt"


@pytest.fixture
def pictures(tmp_path):
    """Five pictures, 2.png broken; a folder, a hidden file and one of a hidden folder with names of pictures."""
    folder = tmp_path / "pictures"
    (folder / "a.jpg").mkdir(parents=True)
    (folder / "._0.png").write_bytes(b"of a file system")
    for k in range(5):
        Image.fromarray(np.full((20, 30, 3), 50 * k, dtype=np.uint8)).save(folder / f"{k}.png")
    (folder / ".thumbnails").mkdir()
    Image.new("RGB", (20, 30)).save(folder / ".thumbnails" / "0.png")
    (folder / "2.png").write_bytes(b"broken")
    return folder


def test_all_but_what_is_broken_is_classified(model, pictures, capsys):
    with pytest.raises(UserError, match="^images not classified: 1"):
        main([str(model), str(pictures), "--cuda_dev", "-1"])
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(pictures / f"{k}.png") for k in (0, 1, 3, 4)]
    assert err.startswith(f"error: {pictures / '2.png'} does not decode") and err.count("\n") == 1


def test_answers_are_the_same_in_portions_which_alone_are_in_memory(model, pictures, monkeypatch, capsys):
    loaded = Classifier.load(model, cuda_dev=-1)
    whole = list(loaded.classify_folder(pictures))
    assert "2.png does not decode" in capsys.readouterr().err
    probs = loaded.probabilities(np.stack([classifier.decode(file, 8) for file, *_ in whole]))
    assert [name for _, name, _ in whole] == [CLASSES[k] for k in probs.argmax(1)]
    assert [probability for *_, probability in whole] == pytest.approx(probs.max(1), abs=1e-5)
    decoded, decode = [], classifier.decode
    monkeypatch.setattr(classifier, "decode", lambda file, side: decoded.append(file.name) or decode(file, side))
    loaded._compute = replace(loaded._compute, eval_batch_size=2)
    answers = loaded.classify_folder(pictures, broken=lambda error: None)
    first = next(answers)
    assert sorted(decoded) == ["0.png", "1.png"]
    assert [(file, name) for file, name, _ in (first, *answers)] == [(file, name) for file, name, _ in whole]


def test_a_folder_without_images_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        Classifier.load(model, cuda_dev=-1).classify_folder(tmp_path)


def test_a_folder_that_is_not_there_is_told_from_an_empty_one(model, tmp_path):
    with pytest.raises(UserError, match="there is no .*nowhere"):
        Classifier.load(model, cuda_dev=-1).classify_folder(tmp_path / "nowhere")


def test_one_image_may_be_named_itself(model, pictures):
    loaded, of_folder = Classifier.load(model, cuda_dev=-1), {}
    for file, name, probability in loaded.classify_folder(pictures, broken=lambda error: None):
        of_folder[file] = name, pytest.approx(probability, abs=1e-5)
    ((file, *answer),) = loaded.classify_folder(pictures / "3.png")
    assert file == pictures / "3.png" and tuple(answer) == of_folder[file]
