"""`EquiForImageClassification`: any image classifier or backbone under the equi-tune transform."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils.generic import can_return_tuple

from ..actions import Action, PixelAction, RegularAction, TrivialAction
from ..errors import EquiLMError
from ..symmetrize import group_copies, reynolds, transform_back
from .backbones import base_config, build_backbone, fit_own_head, select_features
from .configuration_vision import EquiImageConfig, Features, Head, ImageGroup
from .group_linear import GroupLinear
from .heads import EquivariantHead, InvariantHead
from .wrapping import config_and_backbone


class EquiForImageClassification(PreTrainedModel):
    """An image classifier whose logits are the same for an image and all its quarter turns (and flips, for d4).

    The base model runs on all g·x in one batch. So in training mode, batch norm computes its statistics over all
    copies, and dropout draws separately for each copy. The outputs are then transformed back: in evaluation mode the
    features are equivariant and the logits invariant, up to rounding and for any weights. Build it with `from_base`.

    Args:
        config: an `EquiImageConfig`.
        backbone: the base model, which is shared, not copied, unless its last layer is changed. None builds one from
            the config.
    """

    config_class = EquiImageConfig
    config: EquiImageConfig
    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = "image"
    model_tags = ["equilm", "equivariance"]  # what the Hub lists the model under
    accepts_loss_kwargs = False  # the keyword arguments of `forward` are for the base model
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: EquiImageConfig, backbone: nn.Module | None = None):
        super().__init__(config)
        if backbone is None:
            backbone = build_backbone(config)
        else:
            for module in backbone.modules():
                cast(Any, module)._is_hf_initialized = True  # or post_init would draw new weights
        self.backbone = fit_own_head(backbone, config)
        self.group = config.symmetry
        self.head = self._new_head()
        self.post_init()
        self._set_trained()

    def _new_head(self) -> nn.Module | None:
        config, stacked = self.config, self.config.features == "regular"
        if config.head == "own":
            return None
        channels, *size = cast(list[int], config.feature_shape)
        if config.head == "invariant":
            return InvariantHead(channels, config.labels, stacked)
        pixels = PixelAction(self.group)
        if not stacked:
            return EquivariantHead(pixels, tuple(size), channels, config.labels)
        return EquivariantHead(RegularAction(pixels, dim=-3), (self.group.order, *size), channels, config.labels)

    def _set_trained(self) -> None:
        """Freeze what ``config.freeze_backbone`` says: all except the head."""
        if self.config.freeze_backbone:
            self.backbone.requires_grad_(False)
            if self.config.head == "own" and self.config.own_head is not None:
                self.backbone.get_submodule(self.config.own_head).requires_grad_(True)

    def _init_weights(self, module: nn.Module) -> None:
        # Called for modules that did not come initialized with `backbone`. Models of transformers initialize their own.
        if isinstance(module, nn.Linear | GroupLinear):
            module.reset_parameters()
        if isinstance(module, GroupLinear):  # from_pretrained leaves non-persistent buffers empty
            for buffer, orbits in zip((module.weight_orbits, module.bias_orbits), module.orbits(), strict=True):
                init.copy_(buffer, orbits)

    @classmethod
    def from_base(
        cls,
        backbone: nn.Module | str,
        group: ImageGroup = "c4",
        features: Features = "scalar",
        num_labels: int | None = None,
        head: Head | None = None,
        freeze_backbone: bool = False,
        image_size: int | None = None,
        num_channels: int | None = None,
        **from_pretrained_kwargs: Any,
    ) -> "EquiForImageClassification":
        """Equi-tune an image classifier, or a feature extractor with a new head. Use the result directly or train it.

        Args:
            backbone: a model of transformers, timm or torchvision, or any module from images ``(B, C, H, W)`` to
                logits or pooled features ``(B, D)`` or feature maps ``(B, C', H', W')``; or the Hub id or folder of an
                image classifier of transformers.
            group: ``"c4"``, quarter turns, or ``"d4"``, quarter turns and flips.
            features: ``"scalar"``: the mean of the inverse-transformed features (paper, eq. 3); ``"regular"``: their
                stack (appendix H), whose maximum over the group the invariant head reads.
            num_labels: None, or the number of labels that the base has, keeps its own head. For another number, its
                last linear layer is replaced by a new one, in a copy. A base without a head needs a number.
            head: ``"own"``, ``"invariant"`` or ``"equivariant"`` (see `equilm.vision.heads`); None takes the base's own
                head if it has one. The other two heads use the features before a classifier's head.
            freeze_backbone: train only the head. The rest then stays in evaluation mode during training.
            image_size: height and width of the images, in pixels; None: from the base's configuration, else 224.
            num_channels: the number of channels of the images; None: from the base's configuration, else 3.
            from_pretrained_kwargs: given to ``from_pretrained`` when the base is loaded by name.

        Returns:
            The model, in evaluation mode.

        Raises:
            EquiLMError: for a base model without a usable output, and for heads that do not fit its features.

        Example:
            >>> import torch
            >>> from transformers import ResNetConfig, ResNetForImageClassification
            >>> config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
            >>> model = EquiForImageClassification.from_base(ResNetForImageClassification(config), "d4", image_size=32)
            >>> images = torch.rand(2, 3, 32, 32)
            >>> torch.allclose(model(images).logits, model(images.rot90(1, (-2, -1))).logits, atol=1e-4)
            True
        """
        if isinstance(backbone, str):
            base: nn.Module = AutoModelForImageClassification.from_pretrained(backbone, **from_pretrained_kwargs)
        else:
            base = backbone
        config, base = config_and_backbone(
            base, group, features, num_labels, head, freeze_backbone, image_size, num_channels
        )
        model = cls(config, base).eval()
        if model.head is not None:
            weight = next(base.parameters(), torch.empty(0))
            model.head.to(weight.device, weight.dtype)
        return model

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, backbone: nn.Module | None = None, **kwargs: Any
    ) -> Any:
        """As in transformers.

        Args:
            pretrained_model_name_or_path: a folder or a Hub id.
            args: as in transformers.
            backbone: for a base that transformers cannot build: the same module as was given to `from_base`, which
                gets the saved weights.
            kwargs: as in transformers.

        Raises:
            EquiLMError: if a module is needed and not given, or if the saved weights do not fit it.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        kept: dict[str, Tensor] = {}
        if backbone is not None:
            kwargs["backbone"] = backbone
            saved = backbone.state_dict()
            kept = {name: buffer.clone() for name, buffer in backbone.named_buffers() if name not in saved}
        load = cast(Any, super().from_pretrained)
        model, info = load(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        if backbone is not None and (info["missing_keys"] or info["unexpected_keys"]):
            names = sorted(info["missing_keys"] | info["unexpected_keys"])
            raise EquiLMError(
                f"The saved weights are not those of this {type(backbone).__name__}: {', '.join(names[:5])}"
                f"{', …' if len(names) > 5 else ''} are in one of the two only. Build the module that was saved."
            )
        for name, buffer in kept.items():  # loading empties the buffers that are not saved
            model.backbone.get_buffer(name).copy_(buffer)
        model._set_trained()  # loading makes new parameters
        return (model, info) if wants_info else model

    def train(self, mode: bool = True) -> "EquiForImageClassification":
        """As in torch; a frozen base model stays in evaluation mode."""
        super().train(mode)
        if self.config.freeze_backbone:
            self.backbone.eval()
        return self

    def extract_features(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        """The equivariant features that the head gets; with the base's own head, the logits.

        Args:
            pixel_values: images, shape ``(B, C, H, W)`` with H = W.
            kwargs: given to the base model.

        Returns:
            Scalar features have the shape ``(B, D)``, on which the group acts trivially, or ``(B, C', H', W')``, on
            which it acts by `equilm.actions.PixelAction`. Regular features have |G| as an additional dimension 1, and
            the group acts by `equilm.actions.RegularAction` with ``dim=1``.

        Raises:
            EquiLMError: for images that are not square or not a batch.
        """
        if pixel_values.ndim != 4:
            raise EquiLMError(
                f"Images come in a batch (B, C, H, W), got shape {tuple(pixel_values.shape)}. For one image, add a "
                "dimension: images[None]."
            )
        copies = group_copies(pixel_values, PixelAction(self.group)).flatten(0, 1)  # (|G|·B, C, H, W)
        outputs = select_features(self.backbone(copies, **kwargs), copies, base_config(self.backbone))
        outputs = outputs.unflatten(0, (self.group.order, len(pixel_values)))  # (|G|, B, ...)
        action: Action = PixelAction(self.group) if outputs.ndim == 5 else TrivialAction(self.group)
        if self.config.features == "scalar":
            return reynolds(outputs, action)
        return transform_back(outputs, action).transpose(0, 1)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> ImageClassifierOutput:
        """The logits, and the loss if labels are given.

        Args:
            pixel_values: images, shape ``(B, C, H, W)`` with H = W.
            labels: int64, shape ``(B,)``; other problem types as in transformers.
            kwargs: given to the base model.

        Returns:
            ``.logits``, shape ``(B, num_labels)``, and ``.loss``.
        """
        features = self.extract_features(pixel_values, **kwargs)
        if self.head is not None:
            logits = self.head(features)
        elif self.config.features == "scalar":
            logits = features
        else:
            logits = reynolds(features.transpose(0, 1), TrivialAction(self.group))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(loss=loss, logits=logits)
