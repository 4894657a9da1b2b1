"""The configuration of an equi-tuned image classifier: its base model, group, features and head."""

from typing import Any, Literal, get_args

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ..errors import EquiLMError
from ..groups import CyclicGroup, DihedralGroup, Group

ImageGroup = Literal["c4", "d4"]
Features = Literal["scalar", "regular"]
Head = Literal["own", "invariant", "equivariant"]
BackboneClass = Literal["AutoModelForImageClassification", "AutoModel", "AutoBackbone"]


@strict
class EquiImageConfig(PreTrainedConfig):
    """Configuration of `EquiForImageClassification`; `EquiForImageClassification.from_base` writes it for you.

    Args:
        backbone_config: the base model's configuration, or a dict of it; None for a module that transformers has no
            configuration for; pass it to ``from_pretrained`` as ``backbone=``.
        backbone_class: the auto class of transformers that builds the base model from ``backbone_config``.
        group: ``"c4"``, the quarter turns, or ``"d4"``, quarter turns and flips.
        features: ``"scalar"``: the mean of the inverse-transformed features; ``"regular"``: their stack.
        head: ``"own"``: the base model's; ``"invariant"`` or ``"equivariant"``: a new one, see `equilm.vision.heads`.
        own_head: the name of the linear layer that makes the base model's logits, if there is one. A head of another
            kind removes this layer; another number of labels replaces it.
        feature_shape: the shape of the base model's features of one image: ``(channels,)``, or ``(channels, size,
            size)``.
        freeze_backbone: whether training changes only the head, so that batch norm's statistics are frozen too.
        image_size: height and width, in pixels, of the images that ``feature_shape`` belongs to.
        num_channels: the number of channels of the images.

    Raises:
        EquiLMError: for an unknown group, kind of features, head or auto class, and for an equivariant head on
            features that are not maps.
    """

    model_type = "equilm_image"
    sub_configs = {"backbone_config": AutoConfig}

    backbone_config: dict[str, Any] | PreTrainedConfig | None = None
    backbone_class: str | None = None
    group: str = "c4"
    features: str = "scalar"
    head: str = "own"
    own_head: str | None = None
    feature_shape: list[int] | None = None
    freeze_backbone: bool = False
    image_size: int = 224
    num_channels: int = 3

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.backbone_config, dict):
            # Not for_model(**...): the configuration of timm's models names its labels in a way of its own.
            empty = AutoConfig.for_model(self.backbone_config["model_type"])
            self.backbone_config = empty.from_dict(self.backbone_config)
        super().__post_init__(**kwargs)
        check_choice("group", self.group, get_args(ImageGroup))
        check_choice("features", self.features, get_args(Features))
        check_choice("head", self.head, get_args(Head))
        if self.backbone_class is not None:
            check_choice("backbone_class", self.backbone_class, get_args(BackboneClass))
        if self.head == "equivariant" and len(self.feature_shape or ()) != 3:
            raise EquiLMError(
                "head='equivariant' shares its weights over pixels, so it needs feature maps (batch, channels, size, "
                f"size), but the base model's features have the shape (batch, *{self.feature_shape}). Give a module "
                "that returns maps, or head='invariant'."
            )

    @property
    def labels(self) -> int:
        """The number of labels."""
        return len(self.id2label or {})

    @property
    def symmetry(self) -> Group:
        """The group as an object."""
        return CyclicGroup(4) if self.group == "c4" else DihedralGroup(4)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise an `EquiLMError` for a value that is not among the choices."""
    if value not in choices:
        raise EquiLMError(f"{name}={value!r} is unknown: expected one of {', '.join(choices)}.")
