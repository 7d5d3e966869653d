"""Backbones: torchvision's networks for photographs, pretrained, without their last layer, not trained any further."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import http.client
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from utils.errors import UserError
from utils.torchvision_access import download_timeout, import_torchvision

SHOWN = 5  # names in a message
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch.load heeds it, whatever its caller says


@dataclass(frozen=True)
class Backbone:
    """A network with its own preprocessing."""

    network: nn.Module  # normalised images (B, 3, H, W) -> features (B, D)
    dimension: int  # D
    transforms: Callable[[Image.Image], Tensor]  # a picture -> float32 (3, H, W): resized, cropped, normalised
    side: int  # to which they resize the shorter side, pixels
    weights: str  # what they are called by torchvision, or the digest of their file


def load_backbone(name: str, weights_file: str | None = None) -> Backbone:
    """torchvision's network `name` on the CPU, with its default weights or those in a file, up to its last Linear.

    The file is a state dict of that architecture; how many classes its last layer tells apart is all the same.
    Preprocessing is that of the default weights in either case. Nothing is unpickled but tensors. Raises UserError for
    a name that torchvision does not know, a network without a Linear, weights that cannot be had or do not fit.
    """
    default = _default_weights(name)
    last = _last_linear(name)
    transforms = default.transforms()
    if weights_file is None:
        network, words = _with_default(name, default), str(default)
    else:
        options = {"image_size": transforms.crop_size[0]} if name.startswith("vit_") else {}  # position embeddings
        network, words = _with_file(name, last, Path(weights_file), options)
    dimension = network.get_submodule(last).in_features
    network.set_submodule(last, nn.Identity())
    return Backbone(network.eval().requires_grad_(False), dimension, transforms, transforms.resize_size[0], words)


def _default_weights(name: str) -> Any:
    """The default of torchvision's weights for `name`: an enum member with url and transforms."""
    models = import_torchvision("models")
    names = models.list_models(module=models)  # those that classify images
    if name not in names:
        near = ", ".join(difflib.get_close_matches(name, names, SHOWN, cutoff=0))
        raise UserError(f"torchvision has no network {name!r} for classifying images", f"name another, such as {near}")
    return models.get_model_weights(name).DEFAULT


def _build(name: str, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about initial weights, which are replaced
        return import_torchvision("models").get_model(name, **options)


def _last_linear(name: str) -> str:
    """Where the last nn.Linear of a network lies, which makes the logits: "fc", "classifier.3" ..."""
    linears = [place for place, module in _build(name).named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise UserError(f"{name} has no linear layer, whose input would be the features", "name another network")
    return linears[-1]


# -- torchvision's weights -------------------------------------------------------------------------------------------


def _with_default(name: str, default: Any) -> nn.Module:
    """With torchvision's weights, from torch's cache or downloaded into it."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / default.url.rpartition("/")[2]
    try:
        with _weights_only(), download_timeout():
            return _build(name, weights=default)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if file.exists():
            raise _unreadable(file, error, f"remove it, or replace it by {default.url}") from error
        raise UserError(
            f"the weights of {name} are not in torch's cache and the download failed ({error})",
            f"fetch {default.url} and put it into {folder}/ as {file.name}, or name your own with --weights FILE",
        ) from error
    except Exception as error:  # unpicklers raise a dozen kinds
        raise _unreadable(file, error, f"remove it, or replace it by {default.url}") from error


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Inside, torch.load unpickles tensors alone: torchvision's builders would let it run what a file holds."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before


def _unreadable(file: Path, error: Exception, remedy: str) -> UserError:
    # Of the message the kind alone: torch's advises to unpickle without safeguards.
    return UserError(f"{file} is damaged or holds more than weights ({type(error).__name__})", remedy)


# -- one's own -------------------------------------------------------------------------------------------------------


def _with_file(name: str, last: str, file: Path, options: dict[str, Any]) -> tuple[nn.Module, str]:
    """With the state dict in a file, whose digest (16 hex digits) comes with it."""
    remedy = f"save the state dict of torchvision's {name}: torch.save(model.state_dict(), FILE)"
    try:
        with open(file, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
            handle.seek(0)
            state = torch.load(handle, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read the weights {file} ({error.strerror or error})", "check its name") from error
    except Exception as error:  # unpicklers and zip readers raise a dozen kinds
        raise _unreadable(file, error, remedy) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{file} holds no state dict, which has tensors alone", remedy)
    if f"{last}.weight" in state:
        options["num_classes"] = len(state[f"{last}.weight"])
    network = _build(name, **options)
    if fault := _load(network, state):
        raise UserError(f"{file} is no state dict of {name}: {fault}", remedy)
    return network, digest


def _load(network: nn.Module, state: dict[str, Tensor]) -> str:
    """Put the weights in place; "", or the first thing that does not fit."""
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes; a line of title, then a line each
        return str(error).splitlines()[1].strip()
    faults = [f"it lacks {key}" for key in missing] + [f"it has {key}" for key in unexpected]
    return faults[0] if faults else ""
