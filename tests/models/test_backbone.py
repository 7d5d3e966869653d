"""Pretrained networks up to their last layer: what they compute, and which weights and names are refused."""

import os
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from models.backbone import FORCE, load_backbone
from utils.errors import UserError

NAME = "shufflenet_v2_x0_5"  # the smallest


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """No downloads, and an empty cache under tmp_path."""

    def refuse(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))


@pytest.fixture
def own(tmp_path):
    """A state dict of NAME for 3 classes in a file, and the network it is of."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(NAME, num_classes=3).eval()
    torch.save(network.state_dict(), tmp_path / "own.pt")
    return tmp_path / "own.pt", network


def given_to_the_last_layer(network, images):
    """What torchvision's whole network gives its last layer."""
    given = []
    hook = network.fc.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.inference_mode():
        network(images)
    hook.remove()
    return given[0]


def test_features_are_what_the_last_layer_of_torchvisions_network_is_given(own):
    file, network = own
    backbone = load_backbone(NAME, str(file))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    transforms = torchvision.models.get_model_weights(NAME).DEFAULT.transforms()
    image = backbone.transforms(Image.fromarray(pixels))[None]
    assert torch.equal(image, transforms(Image.fromarray(pixels))[None])
    features = backbone.network(image)
    assert features.shape == (1, backbone.dimension) == (1, 1024) and backbone.side == 256
    assert torch.equal(features, given_to_the_last_layer(network, image)) and features.std() > 0


def test_torchvisions_own_weights_are_taken_from_its_cache(tmp_path):
    weights = torchvision.models.get_model_weights(NAME).DEFAULT
    network = torchvision.models.get_model(NAME).eval()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "hub" / "checkpoints" / os.path.basename(weights.url))
    backbone = load_backbone(NAME)
    assert backbone.weights == "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1" and FORCE not in os.environ
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(backbone.network(images), given_to_the_last_layer(network, images))


def test_weights_that_cannot_be_fetched(tmp_path):
    with pytest.raises(UserError) as refused:
        load_backbone(NAME)
    line = str(refused.value)
    url = torchvision.models.get_model_weights(NAME).DEFAULT.url
    assert f"fetch {url} and put it into {tmp_path / 'hub' / 'checkpoints'}/ as {os.path.basename(url)}" in line
    assert "Name or service not known" in line and "--weights FILE" in line


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("cached", [True, False], ids=["in torch's cache", "one's own"])
def test_a_file_that_would_run_something_is_refused(tmp_path, cached):
    file = tmp_path / "evil.pt"
    if cached:
        file = (
            tmp_path / "hub" / "checkpoints" / os.path.basename(torchvision.models.get_model_weights(NAME).DEFAULT.url)
        )
        file.parent.mkdir(parents=True)
    torch.save({"fc.weight": Touch(str(tmp_path / "ran"))}, file)
    with pytest.raises(UserError, match=f"{file.name} is damaged or holds more than weights"):
        load_backbone(NAME, None if cached else str(file))
    assert not (tmp_path / "ran").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "ran").exists()  # so the file is one that would


@pytest.mark.parametrize(
    "content, line",
    [
        (None, "cannot read the weights .*No such file"),
        (b"no weights", "is damaged or holds more than weights"),
        ([1, 2], "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        ("of another network", "no state dict of shufflenet_v2_x0_5: it lacks conv1.0.weight"),
        ("of another width", "no state dict of shufflenet_v2_x0_5: size mismatch for stage2"),
    ],
    ids=["missing", "damaged", "a list", "numbers", "of another network", "of another width"],
)
def test_files_that_are_no_weights_of_the_network(tmp_path, content, line):
    file = tmp_path / "own.pt"
    if content == "of another network":
        content = {"fc.weight": torch.zeros(3, 1024)}
    elif content == "of another width":
        content = torchvision.models.get_model("shufflenet_v2_x1_0").state_dict()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(UserError, match=line):
        load_backbone(NAME, str(file))


@pytest.mark.parametrize(
    "name, line",
    [
        ("resnet81", "no network 'resnet81' .*such as .*resnet18"),
        ("fcn_resnet50", "no network 'fcn_resnet50'"),  # which tells pixels apart, not images
        ("squeezenet1_1", "squeezenet1_1 has no linear layer"),
    ],
)
def test_networks_that_give_no_features(name, line):
    with pytest.raises(UserError, match=line):
        load_backbone(name)
