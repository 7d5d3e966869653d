"""The two networks: shapes, sizes, and what acts in training only."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

import models
from models import CNN13, MODELS, PREACT_RESNET18
from models.preact_resnet import PreActBlock
from tests.tiny import ROOT

SIDES = [(8, 8), (16, 16), (32, 32), (8, 12), (40, 24)]


def build(name, classes=5, seed=0, **options):
    """A narrow network, in evaluation mode."""
    torch.manual_seed(seed)
    return models.build(name, classes, **{"width": 0.1} | options).eval()


def images(samples=3, side=(16, 16), seed=1):
    return torch.randn(samples, 3, *side, generator=torch.Generator().manual_seed(seed))


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


# Both.


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", SIDES, ids=str)
def test_images_become_logits_and_features(name, side):
    model = build(name)
    batch = images(side=side)
    logits, features = model(batch, return_features=True)
    assert logits.shape == (3, 5) and features.shape == (3, model.num_features)
    assert logits.isfinite().all()
    assert torch.equal(logits, model(batch)) and torch.equal(features, model.forward_features(batch))
    torch.testing.assert_close(logits, model.head1(features))


@pytest.mark.parametrize(("name", "features"), [(PREACT_RESNET18, 512), (CNN13, 128)])
@pytest.mark.parametrize("width", [0.25, 0.5])
def test_width_multiplies_the_channels(name, features, width):
    model = build(name, width=width)
    assert model.num_features == model.forward_features(images()).shape[1] == width * features


@pytest.mark.parametrize("name", MODELS)
def test_the_narrowest_network_still_works(name):
    assert build(name, width=1e-6)(images()).shape == (3, 5)


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_alone_decides_the_weights(name):
    first, again, other = (build(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_draws_nothing(name):
    model = build(name, dropout=0.5)
    before = torch.get_rng_state()
    assert torch.equal(model(images()), model(images()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_acts_in_training_only(name, dropout):
    model = build(name, dropout=dropout, input_noise=0.0).train()
    for norm in layers(model, nn.BatchNorm2d):
        norm.eval()
    same = torch.equal(model(images()), model(images()))
    assert same == (dropout == 0)


def test_input_noise_of_the_cnn_acts_in_training_only_and_is_on_unless_asked_otherwise():
    def differs(**options):
        model = build(CNN13, **options).train()
        for norm in layers(model, nn.BatchNorm2d):
            norm.eval()
        assert torch.equal(model.eval()(images()), model(images()))
        model.train()
        for norm in layers(model, nn.BatchNorm2d):
            norm.eval()
        return not torch.equal(model(images()), model(images()))

    assert differs() and build(CNN13).input_noise == 0.15
    assert differs(input_noise=0.05) and not differs(input_noise=0.0)


def test_aliases_are_the_same_networks():
    for alias, name in (("PR18", PREACT_RESNET18), ("MT_Net", CNN13)):
        assert type(build(alias)) is type(build(name))


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="known: preactResNet18, 13-CNN, PR18, MT_Net"):
        models.build("resnet50", 10)


# PreAct-ResNet-18.


def resnet_parameters(classes):
    """Counted from the paper's table: 3x3 convolutions without bias, batch norm before each, 1x1 shortcuts."""
    total, channels_in = 3 * 64 * 9, 64
    for channels in (64, 128, 256, 512):
        for block in range(2):
            total += 2 * channels_in + 9 * channels_in * channels  # batch norm, convolution
            total += 2 * channels + 9 * channels * channels
            if channels != channels_in and block == 0:
                total += channels_in * channels
            channels_in = channels
    return total + 2 * 512 + 512 * classes + classes


def test_the_full_resnet_has_the_papers_size():
    assert resnet_parameters(10) == 11_172_170
    assert parameters(build(PREACT_RESNET18, 10, width=1.0)) == 11_172_170


def test_the_resnet_halves_the_side_three_times():
    model = build(PREACT_RESNET18)
    assert model.blocks(model.stem(images(side=(32, 24)))).shape[2:] == (4, 3)


@pytest.mark.parametrize(("channels", "stride"), [(6, 1), (6, 2), (8, 1)])
def test_the_shortcut_is_the_identity_or_a_projection_of_the_activated_input(channels, stride):
    block = PreActBlock(6, channels, stride).eval()
    nn.init.zeros_(block.conv2.weight)  # the shortcut is all that is left
    x = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    if (channels, stride) == (6, 1):
        assert block.shortcut is None and torch.equal(block(x), x)
    else:
        torch.testing.assert_close(block(x), F.conv2d(block.bn1(x).relu(), block.shortcut.weight, stride=stride))


def test_two_heads_answer_for_two_data_sets():
    model = build(PREACT_RESNET18, 5)
    model.add_second_head(7)
    first, second = model(images()), model(images(), head=2)
    assert first.shape == (3, 5) and second.shape == (3, 7)
    torch.testing.assert_close(second, model.head2(model.forward_features(images())))


def test_a_second_head_can_be_added_without_changing_the_first():
    model = build(PREACT_RESNET18)
    before, size = model(images()), len(model.backbone())
    assert model.head2 is None
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        model.add_second_head(7)
        drawn.append(model(images(), head=2))
    assert torch.equal(model(images()), before) and torch.equal(*drawn) and drawn[0].shape == (3, 7)
    heads = {id(parameter) for head in (model.head1, model.head2) for parameter in head.parameters()}
    assert len(model.backbone()) == size and not heads & {id(parameter) for parameter in model.backbone()}
    assert size + 4 == len(list(model.parameters()))


# The 13-layer CNN.


def cnn13_parameters(classes):
    """Nine convolutions and a linear layer, each with bias and weight norm's length per output, and batch norm."""
    total = 0
    convolutions = [(3, 128, 9), (128, 128, 9), (128, 128, 9), (128, 256, 9), (256, 256, 9), (256, 256, 9),
                    (256, 512, 9), (512, 256, 1), (256, 128, 1)]  # fmt: skip
    for channels_in, channels, kernel in convolutions:
        total += kernel * channels_in * channels + channels + channels + 2 * channels
    return total + 128 * classes + classes + classes


def test_the_full_cnn_has_the_papers_size():
    assert cnn13_parameters(10) == 3_125_908
    assert parameters(build(CNN13, 10, width=1.0)) == 3_125_908


def test_every_layer_of_the_cnn_has_weight_norm():
    weighted = layers(build(CNN13), (nn.Conv2d, nn.Linear))
    assert len(weighted) == 10
    assert all(parametrize.is_parametrized(layer, "weight") for layer in weighted)
    direction = weighted[0].parametrizations.weight.original1
    before = weighted[0].weight.clone()
    direction.data *= 3  # only the direction counts, not its length
    torch.testing.assert_close(weighted[0].weight, before)


def test_the_cnn_leaks_a_tenth():
    leaks = layers(build(CNN13), nn.LeakyReLU)
    assert len(leaks) == 9 and {leak.negative_slope for leak in leaks} == {0.1}


@pytest.mark.parametrize(("side", "enlarged"), [((8, 8), (16, 16)), ((8, 12), (16, 24)), ((20, 10), (32, 16))])
def test_the_cnn_enlarges_small_images(side, enlarged):
    model, batch = build(CNN13), images(side=side)
    by_hand = F.interpolate(batch, size=enlarged, mode="bilinear", align_corners=False)
    assert torch.equal(model(batch), model(by_hand))


def test_the_cnn_adds_input_noise_in_training_only(monkeypatch):
    model = build(CNN13).train()
    seen = []
    model.stages.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = images(samples=50)
    model(batch)
    model.eval()(batch)
    noise = seen[0] - batch
    # 50·3·16·16 = 38,400 draws: the standard error of their standard deviation is 0.15 / sqrt(2·38,400) = 0.0005.
    assert noise.std().item() == pytest.approx(0.15, abs=0.003) and abs(noise.mean().item()) < 0.004
    assert torch.equal(seen[1], batch)


@pytest.mark.parametrize("name", ["preactResNet18", "13-CNN"])
def test_logits_and_features_stay_in_fp32_under_bf16_autocast(name):
    model = models.build(name, 3, width=0.1).eval()
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = model(torch.rand(2, 3, 16, 16), return_features=True)
    assert logits.dtype == features.dtype == torch.float32


@pytest.mark.parametrize(
    ("paper", "width", "expected"), [(64, 1, 64), (64, 0.25, 16), (64, 0.05, 16), (512, 0.05, 32), (256, 0.3, 80)]
)
def test_channels_are_multiples_of_16(paper, width, expected):
    assert models.channels(paper, width) == expected


@pytest.mark.slow
def test_the_narrowest_network_does_not_write_beyond_its_arrays():
    """With 8 channels torch's convolutions corrupted the heap at these batch sizes, which showed a few steps later."""
    code = """
import torch, models
torch.set_num_threads(2)
network = models.build(models.PREACT_RESNET18, 2, width=0.05).to(memory_format=torch.channels_last)
for batch in (19, 33) * 4:
    network(torch.randn(batch, 32, 32, 3).permute(0, 3, 1, 2)).sum().backward()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
