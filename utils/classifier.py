"""Using a trained model: load what ssl.py left and classify images.

python3 -m utils.classifier experiments/NAME/model.pt FOLDER_OF_IMAGES
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import models
from datasets.decoding import EXTENSIONS, Undecodable, decode, refusing_bombs
from utils.command_line.parser import Parser, number
from utils.command_line.running import run_script
from utils.compute import Compute, choose
from utils.data.device_images import DeviceImages
from utils.errors import UserError
from utils.experiments.artifacts import load_torch
from utils.training.passes import probabilities

KINDS = {
    "network": str, "width": int | float, "class_names": list | tuple, "side": list | tuple, "mean": torch.Tensor,
    "std": torch.Tensor, "weights": dict,
}  # fmt: skip


MOST_WIDTH, MOST_PIXELS = 8, 4096  # beyond these, of the network and of an image's side, a model.pt is not believed


def complain(error: UserError) -> None:
    print(f"error: {error}", file=sys.stderr)


class Classifier:
    """A network with its class names and the preprocessing that it was trained with."""

    def __init__(self, saved: dict, compute: Compute) -> None:
        self.class_names: list[str] = saved["class_names"]
        self._side, self._statistics, self._compute = tuple(saved["side"]), (saved["mean"], saved["std"]), compute
        model = models.build(saved["network"], len(self.class_names), width=saved["width"])
        model.load_state_dict(saved["weights"])
        self._model = compute.prepare(model)

    @classmethod
    def load(cls, path: str | Path, cuda_dev: int = 0) -> Classifier:
        """The classifier in a model.pt, on GPU number `cuda_dev` where there is one; -1 = on the CPU.

        Raises UserError where the file is missing or damaged.
        """
        try:
            saved = load_torch(Path(path), KINDS, "train one with ssl.py")
            require_sizes(saved)
            return cls(saved, choose(cuda_dev))
        except FileNotFoundError:
            raise UserError(f"there is no {path}", "train one with ssl.py") from None
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:  # entries that fit no network
            raise UserError(f"{path} is no model of ssl.py ({error})", "train one with ssl.py") from error

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, 3, H, W) -> softmax float32 (N, C); images are resized to the training size."""
        mean, std = (s.to(self._compute.device) for s in self._statistics)
        batch = DeviceImages(images, self._compute, mirrored=False, side=self._side, statistics=(mean, std))
        return probabilities(self._model, batch, self._compute).cpu().numpy()

    def classify_folder(
        self, folder: str | Path, broken: Callable[[Undecodable], object] = complain
    ) -> Iterator[tuple[Path, str, float]]:
        """(file, class name, probability of that class in [0, 1]) of every image under a folder, sorted by path.

        Of a single image where `folder` is that. What is hidden is left aside.
        Images that do not decode are left out; `broken` is told why. Raises UserError where there are no images.
        """
        folder = Path(folder)
        if not os.path.exists(folder):
            raise UserError(f"there is no {folder}", "name a folder of images")
        files = sorted(_visible(folder)) if os.path.isdir(folder) else [folder]
        files = [file for file in files if file.suffix.lower() in EXTENSIONS]
        if not files:
            raise UserError(f"{folder} holds no images ({', '.join(EXTENSIONS)})", "name a folder of images")
        size = self._compute.eval_batch_size
        portions = (files[start : start + size] for start in range(0, len(files), size))
        return (answer for portion in portions for answer in self._classified(portion, broken))

    def _classified(
        self, files: list[Path], broken: Callable[[Undecodable], object]
    ) -> Iterator[tuple[Path, str, float]]:
        with refusing_bombs(), ThreadPoolExecutor() as pool:  # decoders work without the interpreter lock
            decoded = dict(zip(files, pool.map(self._pixels, files), strict=True))
        for error in (found for found in decoded.values() if isinstance(found, Undecodable)):
            broken(error)
        images = {file: found for file, found in decoded.items() if not isinstance(found, Undecodable)}
        probs = self.probabilities(np.stack(list(images.values()))) if images else []
        for file, of in zip(images, probs, strict=True):
            yield file, self.class_names[of.argmax()], float(of.max())

    def _pixels(self, file: Path) -> np.ndarray | Undecodable:
        if os.path.exists(file) and not os.path.isfile(file):  # a pipe would be waited for
            return Undecodable(file, "is not a regular file")
        try:
            return decode(file, self._side[0])
        except Undecodable as error:
            return error


def require_sizes(saved: dict) -> None:
    """Raises ValueError where no network of ours has that width, or sees images prepared like that."""
    if not 0 < saved["width"] <= MOST_WIDTH:
        raise ValueError(f"width {saved['width']}")
    side, statistics = saved["side"], torch.stack([saved["mean"], saved["std"]])
    if statistics.shape != (2, 3) or not statistics.isfinite().all():
        raise ValueError("mean and std are not of three channels")
    if len(side) != 2 or not all(type(pixels) is int and 0 < pixels <= MOST_PIXELS for pixels in side):
        raise ValueError(f"images of {side} pixels")


def _visible(folder: Path) -> Iterator[Path]:
    """The files under a folder, but for hidden ones and those of hidden folders."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename} ({error.strerror})", "make it readable") from error

    for path, subfolders, names in os.walk(folder, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (Path(path) / name for name in names if not name.startswith("."))


def main(argv: list[str] | None = None) -> None:
    parser = Parser("-m utils.classifier", __doc__, epilog=None)
    parser.add_argument("model", help="model.pt of ssl.py, or model_0.pt of parallel.py --keep_models")
    parser.add_argument("folder", help="folder of images, or one image")
    parser.add_argument("--cuda_dev", type=number(int, -1), default=0, metavar="K", help="GPU number; -1 = CPU")
    args = parser.parse_args(argv)
    broken: list[Undecodable] = []
    answers = Classifier.load(args.model, args.cuda_dev).classify_folder(args.folder, broken.append)
    for file, name, probability in answers:
        print(f"{file}\t{name}\t{probability:.4f}")
    for error in broken:
        complain(error)
    if broken:
        raise UserError(f"images not classified: {len(broken)}", "replace or remove them")


if __name__ == "__main__":
    run_script(main, remedy="--cuda_dev -1 takes the CPU")
