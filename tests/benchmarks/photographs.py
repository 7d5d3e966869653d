"""The photographs of the results tables: the first images of each class of CIFAR-10 as JPEG files in an image folder.

    python3 -m tests.benchmarks.photographs data/photos5k --train_per_class 500 --test_per_class 200

OUT/train/<class>/NNNN.jpg and OUT/test/<class>/NNNN.jpg, from torchvision's files, which are downloaded where they are
not in --root. Those of the recorded results came as JPEG files of another encoder: the same pictures, not the same
bytes, and figures that agree within seeds.
"""

from pathlib import Path

from PIL import Image

from datasets import load
from utils.command_line import running
from utils.command_line.parser import COUNT, Parser
from utils.errors import UserError

QUALITY = 95  # of JPEG


def write(out: Path, split: str, per_class: int, root: Path | None) -> int:
    """How many images were written."""
    images = load("cifar10", root, split)
    written = [0] * len(images.class_names)
    for pixels, label in zip(images.images, images.labels, strict=True):
        if written[label] == per_class:
            continue
        file = out / split / images.class_names[label] / f"{written[label]:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file, quality=QUALITY)
        written[label] += 1
    return sum(written)


def main(argv: list[str] | None = None) -> None:
    parser = Parser("-m tests.benchmarks.photographs", __doc__, epilog=None)
    parser.add_argument("out", type=Path, metavar="OUT", help="must not exist")
    parser.add_argument("--train_per_class", type=COUNT, default=500)
    parser.add_argument("--test_per_class", type=COUNT, default=200)
    parser.add_argument("--root", type=Path, help="of torchvision's files (default: as the scripts have it)")
    args = parser.parse_args(argv)
    if args.out.exists():
        raise UserError(f"{args.out} is there already", "name another folder")
    for split, per_class in (("train", args.train_per_class), ("test", args.test_per_class)):
        print(f"{write(args.out, split, per_class, args.root)} images in {args.out / split}")


if __name__ == "__main__":
    running.run_script(main)
