"""The residual network for small images (He, Zhang, Ren and Sun 2015, section 4.2)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from downslope.core.errors import ModelError
from downslope.models.parts import Norm, activation_of, dropout_of, image, norm2d, sizes

Shortcut = Literal["A", "B"]


class Subsampled(nn.Module):
    """``x`` at every `stride`-th pixel, with channels of zeros added: a shortcut without parameters."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, height, width) to (n, after, height / stride, width / stride), rounded up."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))


class ResidualBlock(nn.Module):
    """``act(shortcut(x) + residual(x))``; the residual is two convolutions 3 by 3, each with its norm."""

    def __init__(
        self,
        before: int,
        after: int,
        stride: int,
        *,
        shortcut: Shortcut,
        activation: str,
        norm: Norm | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=norm is None),
            *norm2d(norm, after),
            activation_of(activation),
            *dropout_of(dropout),
            nn.Conv2d(after, after, 3, 1, 1, bias=norm is None),
            *norm2d(norm, after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 and shortcut == "A":
            self.shortcut = Subsampled(before, after, stride)
        elif stride > 1:
            mapped = nn.Conv2d(before, after, 1, stride, bias=norm is None)
            self.shortcut = nn.Sequential(mapped, *norm2d(norm, after))
        self.activation = activation_of(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, height, width) to (n, after, height / stride, width / stride), rounded up."""
        out: Tensor = self.activation(self.shortcut(x) + self.residual(x))
        return out


def resnet(
    channels: int,
    size: int | tuple[int, int],
    outputs: int,
    *,
    width: int = 16,
    depth: int = 20,
    shortcut: Shortcut = "A",
    activation: str = "relu",
    dropout: float = 0.0,
    norm: Norm | None = "batch",
) -> nn.Module:
    """A convolution, three stages of n residual blocks, mean over the pixels, an affine map: 6n + 2 layers.

    Stages have `width`, twice and four times as many channels; the second and third start with stride 2. On
    three channels with 10 outputs ResNet-20 has 269 722 parameters (0.27 million in table 6 of the paper)
    with shortcut "A", 272 474 with "B". Weights start by He's normal form for fan-in.

    Args:
        channels: of the images, at least 1.
        size: height and width of the images in pixels, or one number for both; at least 4. The model takes
            images of any size; the check keeps pixels in the last stage.
        outputs: number of outputs, at least 1.
        width: channels of the first stage, at least 1; 16 in the paper.
        depth: layers with weights along the longest way, 8, 14, 20, ... (6n + 2); 20 to 110 in the paper.
        shortcut: where the size changes: "A" subsamples and adds channels of zeros (the paper's choice here),
            "B" maps by a convolution 1 by 1.
        activation: a name such as "relu", "silu".
        dropout: share dropped between the convolutions of a block in training, float in [0, 1); 0 in the
            paper.
        norm: "batch" (the paper's), "layer" (over channels and pixels, as one group) or None.

    Returns:
        A module (n, channels, height, width) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share, depth or name outside its domain.
    """
    sizes(channels=channels, outputs=outputs, width=width, depth=depth)
    image(size, 4, "resnet halves twice")
    if depth < 8 or (depth - 2) % 6:
        n = max(1, round((depth - 2) / 6))
        raise ModelError(
            f"depth={depth}: must be 6n + 2 with n at least 1, three stages of n blocks of two layers; "
            f"{6 * n + 2} is the nearest"
        )
    if shortcut not in ("A", "B"):
        raise ModelError(f"shortcut={shortcut!r}: must be 'A' (zeros, no parameters) or 'B' (convolution)")
    stages: list[nn.Module] = []
    before = width
    for stage in range(3):
        for index in range((depth - 2) // 6):
            stride = 2 if stage and not index else 1
            stages.append(
                ResidualBlock(
                    before, width * 2**stage, stride,
                    shortcut=shortcut, activation=activation, norm=norm, dropout=dropout,
                )
            )  # fmt: skip
            before = width * 2**stage
    model = nn.Sequential(
        nn.Conv2d(channels, width, 3, 1, 1, bias=norm is None),
        *norm2d(norm, width),
        activation_of(activation),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(before, outputs),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
