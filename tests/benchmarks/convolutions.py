"""How near training and evaluation come to the convolutions alone, and what would bring evaluation nearer.

    python3 -m tests.benchmarks.convolutions --width 0.25

The same convolutions (shapes, layout, precision, batch), one after the other on tensors that are there, are the peak
that a machine has for this work: no network of these layers takes less. A training step has their forward pass and both
gradients, an evaluation the forward pass. Ways to evaluate:

as it is    as a pass of utils/training/passes.py does
cached      the weights of weight-normalised layers computed once a pass, not once a batch
folded      and batch norm in the convolution before it, where there is one: all of the 13-layer CNN, conv1 + bn2 of a
            pre-activation block
frozen      and compiled by inductor with frozen weights
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch._inductor.config
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

import models
from models.cnn13 import ConvBlock
from models.preact_resnet import PreActBlock
from tests.benchmarks import plain
from tests.benchmarks.measuring import Report, add_compute_flags, chosen_compute, side_by_side
from tests.benchmarks.training import Ours
from utils.compute import Compute

Call = Callable[[], object]
Convolution = tuple[nn.Conv2d, Tensor]  # and what comes into it


def convolutions_of(network: nn.Module, images: Tensor, compute: Compute) -> list[Convolution]:
    """Every convolution of an evaluation, with weights of its own, and what came into it, in the precision of a run."""
    network = copy.deepcopy(network).eval()
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, args, _: seen.append((layer, args[0].detach())))
    with torch.no_grad(), compute.autocast():
        network(images)
    return [(bare(layer), entering) for layer, entering in seen]


def bare(layer: nn.Conv2d) -> nn.Conv2d:
    """The same convolution without weight norm."""
    there = layer.bias is not None
    plain_one = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=there
    )
    with torch.no_grad():
        plain_one.weight.copy_(layer.weight)
        if there:
            plain_one.bias.copy_(layer.bias)
    return plain_one.to(layer.weight.device, memory_format=torch.channels_last).eval()


def sees_images(convolution: Convolution) -> bool:
    """Whether no gradient of what comes in is asked for."""
    return convolution[0].in_channels == 3


def flops_of(convolutions: list[Convolution], compute: Compute) -> int:
    """Of the forward pass: two for each multiplication and addition."""
    with FlopCounterMode(display=False) as counter:
        alone(convolutions, compute, backward=False)()
    return counter.get_total_flops()


def alone(convolutions: list[Convolution], compute: Compute, backward: bool) -> Call:
    """All of them, one after the other; `backward`: with the gradients of weights and of what comes in, but images."""
    entering = [one[1].clone().requires_grad_(backward and not sees_images(one)) for one in convolutions]

    def work() -> None:
        with torch.set_grad_enabled(backward), compute.autocast():
            for (layer, _), x in zip(convolutions, entering, strict=True):
                layer.weight.grad = x.grad = None  # as a step begins: adding to them would be more work
                out = layer(x)
                if backward:
                    out.backward(torch.ones_like(out))

    return work


def folded(network: nn.Module) -> nn.Module:
    """A copy for evaluation without weight norm, and without batch norm behind a convolution."""
    network = copy.deepcopy(network).eval()
    for block in list(network.modules()):
        if isinstance(block, PreActBlock):
            block.conv1, block.bn2 = fuse_conv_bn_eval(bare(block.conv1), block.bn2), nn.Identity()
        elif isinstance(block, ConvBlock):
            block[0], block[1] = fuse_conv_bn_eval(bare(block[0]), block[1]), nn.Identity()
    return network


def ways_to_evaluate(network: nn.Module, images: Tensor, compute: Compute) -> dict[str, Call]:
    """{way: a pass over a batch}; each with the logits of the first, up to rounding."""
    network, small = compute.prepare(copy.deepcopy(network).eval()), folded(network)  # a copy is not compiled

    def evaluate(network: nn.Module) -> Tensor:
        with torch.inference_mode(), compute.autocast():
            return network(images)

    def cached() -> Tensor:
        with parametrize.cached():
            return evaluate(network)

    ways = {"as it is": partial(evaluate, network), "cached": cached, "folded": partial(evaluate, small)}
    with torch._inductor.config.patch(freezing=True):
        frozen = torch.compile(folded(network))
        ways["frozen"] = partial(evaluate, frozen)
        expected = evaluate(network)
        for name, work in ways.items():
            apart = float((work() - expected).abs().max() / expected.abs().max())
            if apart > (0.05 if compute.bf16 else 1e-4):
                raise ValueError(f"{name}: the logits are another network's, {apart:.3f} apart")
    return ways


def say(
    report: Report, title: str, times: dict[str, list[float]], batches: float, of_alone: list[float], flops: int
) -> None:
    """A line of each way, and one of the convolutions alone, which make so many `flops` for a batch."""
    peak = statistics.median(of_alone)
    report(f"{title}: convolutions alone {1e3 * peak:.1f} ms, {flops / peak / 1e9:.0f} GFLOP/s")
    for way, values in times.items():
        took = statistics.median(values) / batches
        rate = flops / took / 1e9
        report(f"    {way:9} {1e3 * took:7.1f} ms, {rate:4.0f} GFLOP/s, {peak / took:.0%} of it convolutions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="of an epoch of training; a multiple of 100")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=float, default=1.0)
    add_compute_flags(parser)
    args = parser.parse_args()
    compute = chosen_compute(args)
    report = Report("Training and evaluation beside their convolutions alone: milliseconds for 100 images", compute)
    pixels = np.random.default_rng(0).integers(0, 256, (args.images, 3, 32, 32), dtype=np.uint8)
    for name in (models.CNN13, models.PREACT_RESNET18):
        part = Ours(name, pixels, np.arange(args.images) % 10, args.width, compute)
        network = part.learner.network
        images = part.images.batch(part.ids[: plain.BATCH])
        convolutions = convolutions_of(network, images, compute)
        flops = flops_of(convolutions, compute)
        without = flops_of([one for one in convolutions if sees_images(one)], compute)

        batches = args.images / plain.BATCH
        works = {"step": part.train, "alone": alone(convolutions, compute, backward=True)}
        times = side_by_side(works, args.rounds, compute)
        say(report, f"{name}, training", {"as it is": times["step"]}, batches, times["alone"], 3 * flops - without)

        ways = ways_to_evaluate(network, images, compute)
        times = side_by_side(ways | {"alone": alone(convolutions, compute, backward=False)}, args.rounds, compute)
        of_alone = times.pop("alone")
        say(report, f"{name}, evaluation", times, 1, of_alone, flops)
    report.save(f"convolutions_{compute.device.type}{'' if compute.bf16 else '_fp32'}", args)


if __name__ == "__main__":
    main()
