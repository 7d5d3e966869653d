"""PreAct-ResNet-18 for small images (He et al. 2016, "Identity Mappings in Deep Residual Networks"), 1 or 2 heads."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import channels


class PreActBlock(nn.Module):
    """Batch norm and ReLU come before each convolution; the shortcut is the identity wherever the shape allows."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        same_shape = stride == 1 and channels_in == channels_out
        self.shortcut = None if same_shape else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + shortcut


class PreActResNet18(nn.Module):
    """Images (B, 3, H, W), H and W from 8 up, to logits.

    Head 1 answers for the first data set, head 2, once `add_second_head` was called, for the second.
    `width` 1 means the paper's 64-128-256-512 channels. `dropout` acts on the pooled features, in training only.
    """

    def __init__(self, num_classes: int, *, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [channels(paper, width) for paper in (64, 128, 256, 512)]
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        blocks, channels_in = [], widths[0]
        for stage, channels_out in enumerate(widths):
            blocks.append(PreActBlock(channels_in, channels_out, stride=1 if stage == 0 else 2))
            blocks.append(PreActBlock(channels_out, channels_out, stride=1))
            channels_in = channels_out
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels_in)
        self.dropout = nn.Dropout(dropout)
        self.num_features = channels_in
        self.head1 = nn.Linear(channels_in, num_classes)
        self.head2: nn.Linear | None = None

    def forward_features(self, images: Tensor) -> Tensor:
        """Pooled features float32 (B, D), D about 512 · width."""
        x = self.blocks(self.stem(images))
        return F.relu(self.bn(x)).float().mean(dim=(2, 3))

    def forward(self, images: Tensor, head: int = 1, return_features: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, C) of a head, or (logits, features (B, D)) from the same pass."""
        features = self.forward_features(images)
        with torch.autocast(images.device.type, enabled=False):  # bf16 logits would tie the small losses
            logits = (self.head1 if head == 1 else self.head2)(self.dropout(features))
        return (logits, features) if return_features else logits

    def add_second_head(self, num_classes: int) -> None:
        """A fresh head 2 on the device of the network, drawn from torch's global random state."""
        self.head2 = nn.Linear(self.num_features, num_classes).to(self.head1.weight.device)

    def backbone(self) -> list[nn.Parameter]:
        """Every parameter that both heads share."""
        return [p for name, p in self.named_parameters() if not name.startswith("head")]
