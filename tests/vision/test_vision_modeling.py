"""`EquiForImageClassification` as a model of transformers: heads, saving and loading, training, the pipeline."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    AutoBackbone,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    Trainer,
    TrainingArguments,
    ViTImageProcessorPil,
    pipeline,
)
from vision_models import LABELS, plain_classifier, small_resnet, small_vit

from equilm import EquiLMError
from equilm.vision import EquiForImageClassification, EquiImageConfig, EquivariantHead, InvariantHead

wrap = EquiForImageClassification.from_base


def images(count: int = 2, size: int = 12) -> Tensor:
    return torch.rand(count, 3, size, size)


def trainer(model: nn.Module, folder: Path, size: int = 12, **settings: Any) -> Trainer:
    rows = [{"pixel_values": images(1, size)[0], "labels": k % 3} for k in range(8)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=True,
        save_strategy="no",
        **settings,
    )
    return Trainer(model, arguments, train_dataset=cast(Any, rows), eval_dataset=cast(Any, rows))


class TestHeads:
    @pytest.mark.parametrize("make", [small_resnet, plain_classifier])
    def test_the_own_head_is_kept_as_it_is(self, make: Any) -> None:
        base = make()
        before = {name: value.clone() for name, value in base.state_dict().items()}
        for num_labels in (None, LABELS):
            model = wrap(base, num_labels=num_labels, image_size=12)
            assert model.backbone is base
            assert all(torch.equal(base.state_dict()[name], value) for name, value in before.items())
            assert model.head is None
            assert model.config.num_labels == LABELS

    def test_the_names_of_labels_are_kept(self) -> None:
        base = small_resnet(2)
        base.config.id2label = {0: "ant", 1: "bee"}
        base.config.label2id = {"ant": 0, "bee": 1}
        config = wrap(base, image_size=12).config
        assert (config.id2label, config.label2id) == ({0: "ant", 1: "bee"}, {"ant": 0, "bee": 1})

    @pytest.mark.parametrize("make", [small_resnet, plain_classifier])
    def test_another_number_of_labels_replaces_the_last_layer_in_a_copy(self, make: Any) -> None:
        base = make().eval()
        before = {name: value.clone() for name, value in base.state_dict().items()}
        model = wrap(base, num_labels=3, image_size=12)
        assert model.config.own_head is not None
        last = model.backbone.get_submodule(model.config.own_head)
        assert isinstance(last, nn.Linear) and last.out_features == 3
        assert model(images()).logits.shape == (2, 3)
        assert base.state_dict().keys() == before.keys()
        assert all(torch.equal(base.state_dict()[name], value) for name, value in before.items())
        for name, value in model.backbone.state_dict().items():  # the rest keeps its weights
            assert name.startswith(model.config.own_head) or torch.equal(value, before[name])

    def test_a_layer_that_an_in_place_relu_follows_is_no_head(self) -> None:
        base = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 5), nn.ReLU(inplace=True))
        model = wrap(base, num_labels=2, image_size=12)
        assert model.config.own_head is None
        assert isinstance(model.head, InvariantHead)

    def test_regular_features_of_a_classifier(self) -> None:
        base = plain_classifier().eval()
        own = wrap(base, "d4", "regular", image_size=12)
        x = images()
        assert own.extract_features(x).shape == (2, 8, LABELS)
        torch.testing.assert_close(own(x).logits, own.extract_features(x).mean(1))
        new = wrap(base, "d4", "regular", num_labels=3, image_size=12)
        assert new.extract_features(x).shape == (2, 8, 600)  # what the last layer saw
        assert isinstance(new.head, InvariantHead)

    def test_heads_on_the_maps_inside_a_classifier(self) -> None:
        model = wrap(small_resnet(), num_labels=3, head="equivariant", image_size=12)
        assert isinstance(model.head, EquivariantHead)
        assert model.config.feature_shape == [16, 2, 2]
        assert "classifier" not in dict(model.backbone.named_children())

    @pytest.mark.parametrize("auto", [AutoModel, AutoBackbone])
    def test_backbones(self, auto: Any) -> None:
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        model = wrap(auto.from_config(config), num_labels=3, image_size=12)
        assert model.extract_features(images()).shape == (2, 16, 2, 2)
        assert model.config.backbone_class == auto.__name__

    def test_a_model_by_name(self, tmp_path: Path) -> None:
        base = small_resnet().eval()
        base.save_pretrained(tmp_path)
        model = wrap(str(tmp_path), image_size=12)
        x = images()
        torch.testing.assert_close(model(x).logits, wrap(base, image_size=12)(x).logits)

    def test_the_mode_and_settings_of_the_base_are_left_alone(self) -> None:
        base = plain_classifier().train()
        base[1].eval()
        state = {name: value.clone() for name, value in base.state_dict().items()}
        wrap(base, num_labels=3, image_size=12)
        assert [module.training for module in base] == [True, False, True, True, True]
        assert all(torch.equal(base.state_dict()[name], value) for name, value in state.items())
        assert not any(module._forward_hooks for module in base.modules())

    @pytest.mark.parametrize(
        ("base", "arguments", "message"),
        [
            (small_resnet, {"group": "c5"}, "group='c5' is unknown: expected one of c4, d4"),
            (small_resnet, {"features": "vector"}, "features='vector' is unknown"),
            (small_resnet, {"head": "linear"}, "head='linear' is unknown"),
            (small_resnet, {"head": "invariant"}, "give num_labels="),
            (plain_classifier, {"head": "equivariant", "num_labels": 3}, r"feature maps .* \(batch, \*\[600\]\)"),
            (lambda: nn.Conv2d(3, 4, 3), {"head": "own", "num_labels": 4}, "head='own' needs a base model"),
            (lambda: nn.Flatten(2), {"num_labels": 3}, r"got a Tensor of shape \(1, 3, 144\)"),
        ],
    )
    def test_refusals(self, base: Any, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(EquiLMError, match=message):
            wrap(base(), image_size=12, **arguments)


class TestSaving:
    @pytest.mark.parametrize("features", ["scalar", "regular"])
    @pytest.mark.parametrize("head", [None, "invariant", "equivariant"])
    @pytest.mark.parametrize("make", [small_resnet, lambda: small_vit(12)])
    def test_round_trip(
        self, make: Any, head: Any, features: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = wrap(make(), "d4", features, num_labels=3, head=head, image_size=12)
        model.save_pretrained(tmp_path)
        with caplog.at_level("WARNING", "transformers"):
            loaded, info = EquiForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        x = images()
        auto = AutoModelForImageClassification.from_pretrained(tmp_path)
        assert type(auto) is EquiForImageClassification
        for again in (loaded, auto):
            torch.testing.assert_close(again.eval()(x).logits, model(x).logits)
        assert loaded.config.to_dict() == auto.config.to_dict()

    @pytest.mark.parametrize("features", ["scalar", "regular"])
    def test_a_plain_module_is_given_again(self, features: Any, tmp_path: Path) -> None:
        model = wrap(plain_classifier(), "d4", features, num_labels=3, image_size=12)
        model.save_pretrained(tmp_path)
        with pytest.raises(EquiLMError, match=r"from_pretrained\(..., backbone=module\)"):
            EquiForImageClassification.from_pretrained(tmp_path)
        x = images()
        for cls in (EquiForImageClassification, AutoModelForImageClassification):
            loaded = cls.from_pretrained(tmp_path, backbone=plain_classifier())
            torch.testing.assert_close(loaded.eval()(x).logits, model(x).logits)

    def test_another_module_is_refused(self, tmp_path: Path) -> None:
        wrap(plain_classifier(), image_size=12).save_pretrained(tmp_path)
        with pytest.raises(EquiLMError, match=r"not those of this Sequential: backbone\.4\.bias"):
            EquiForImageClassification.from_pretrained(tmp_path, backbone=plain_classifier()[:4])

    def test_buffers_that_are_not_saved_survive(self, tmp_path: Path) -> None:
        class Scaled(nn.Module):
            scale: Tensor

            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("scale", torch.full((3, 1, 1), 0.5), persistent=False)
                self.inside = plain_classifier()

            def forward(self, x: Tensor) -> Tensor:
                return self.inside(x * self.scale)

        model = wrap(Scaled(), image_size=12)
        model.save_pretrained(tmp_path)
        loaded = EquiForImageClassification.from_pretrained(tmp_path, backbone=Scaled())
        x = images()
        torch.testing.assert_close(loaded.eval()(x).logits, model(x).logits)

    def test_config_round_trip(self, tmp_path: Path) -> None:
        config = EquiImageConfig(
            backbone_config=ResNetConfig(depths=[1, 1]), group="d4", **cast(Any, {"num_labels": 3})
        )
        config.save_pretrained(tmp_path)
        loaded = EquiImageConfig.from_pretrained(tmp_path)
        assert isinstance(loaded.backbone_config, ResNetConfig)
        assert loaded.to_dict() == config.to_dict() | {"transformers_version": loaded.transformers_version}

    def test_a_config_names_no_other_class(self) -> None:
        with pytest.raises(EquiLMError, match="backbone_class='AutoTokenizer' is unknown"):
            EquiImageConfig(backbone_class="AutoTokenizer")


BASES = {
    "resnet": (small_resnet, {}),
    "vit": (lambda: small_vit(12), {}),
    "plain": (plain_classifier, {}),
    "equivariant": (small_resnet, {"head": "equivariant"}),
    "invariant": (lambda: small_vit(12), {"head": "invariant"}),
    "regular": (small_resnet, {"head": "equivariant", "features": "regular"}),
}


class TestTraining:
    @pytest.mark.parametrize("name", BASES)
    def test_every_parameter_is_trained(self, name: str, tmp_path: Path) -> None:
        """The authors' code keeps the base model in a Python list, so that its optimiser never sees it."""
        make, arguments = cast(Any, BASES[name])
        model = wrap(make(), "d4", num_labels=3, image_size=12, **arguments)
        parameters = {f"backbone.{name}": value for name, value in model.backbone.named_parameters()}
        if model.head is not None:
            parameters |= {f"head.{name}": value for name, value in model.head.named_parameters()}
        before = {name: value.detach().clone() for name, value in parameters.items()}
        tried = trainer(model, tmp_path, optim="sgd")
        tried.create_optimizer()
        in_optimizer = {id(p) for group in cast(Any, tried.optimizer).param_groups for p in group["params"]}
        assert in_optimizer == {id(p) for p in parameters.values()}
        model.train()(images(4), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        without = {name for name, p in parameters.items() if p.grad is None or not p.grad.abs().max() > 0}
        assert not without
        model.zero_grad()
        tried.train()
        assert {name for name, value in before.items() if torch.equal(value, parameters[name])} == set()

    @pytest.mark.parametrize("name", BASES)
    def test_a_frozen_base_stays(self, name: str, tmp_path: Path) -> None:
        make, arguments = cast(Any, BASES[name])
        model = wrap(make(), num_labels=3, image_size=12, freeze_backbone=True, **arguments)
        model.save_pretrained(tmp_path)
        given = {} if model.config.backbone_class else {"backbone": make()}
        for tried in (model, EquiForImageClassification.from_pretrained(tmp_path, **given)):
            head = "head." if tried.head is not None else f"backbone.{tried.config.own_head}."
            state = {key: value.clone() for key, value in tried.state_dict().items()}
            trainer(tried, tmp_path, optim="sgd").train()
            changed = {key for key, value in tried.state_dict().items() if not torch.equal(value, state[key])}
            assert changed == {key for key in state if key.startswith(head)}  # batch norm's statistics stay too

    def test_the_loss_is_that_of_the_invariant_logits(self) -> None:
        model = wrap(plain_classifier(), "d4", image_size=12)
        x, labels = images(3), torch.tensor([1, 0, 4])
        output = model(x, labels=labels)
        torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits, labels))
        assert model(x, return_dict=False)[0].shape == (3, LABELS)

    def test_trainer_evaluates(self, tmp_path: Path) -> None:
        model = wrap(small_resnet(3), image_size=12)
        tried = trainer(model, tmp_path)
        rows: Any = tried.eval_dataset
        x, labels = torch.stack([row["pixel_values"] for row in rows]), torch.tensor([row["labels"] for row in rows])
        with torch.no_grad():
            expected = nn.functional.cross_entropy(model(x).logits, labels)
        assert tried.evaluate()["eval_loss"] == pytest.approx(expected.item(), rel=1e-4)

    @pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
    def test_gradient_checkpointing_changes_nothing(self) -> None:
        model = wrap(small_vit(12), num_labels=3).train()
        x, labels = images(), torch.tensor([0, 2])
        gradients = []
        for checkpointing in (False, True):
            if checkpointing:
                model.gradient_checkpointing_enable()
            model.zero_grad()
            model(x, labels=labels).loss.backward()
            gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        assert any(gradient.abs().max() > 0 for gradient in gradients[0])
        for plain, checkpointed in zip(*gradients, strict=True):
            torch.testing.assert_close(plain, checkpointed)


def test_pipeline(tmp_path: Path) -> None:
    base = small_vit(12, 2)
    base.config.id2label = {0: "ant", 1: "bee"}
    base.config.label2id = {"ant": 0, "bee": 1}
    wrap(base, "d4").save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 12, "width": 12}).save_pretrained(tmp_path)
    processor = ViTImageProcessorPil.from_pretrained(tmp_path)
    classify = pipeline("image-classification", model=str(tmp_path), image_processor=processor)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))
    upright, turned = classify(image), classify(image.rotate(90))
    assert {row["label"] for row in upright} == {"ant", "bee"}
    for before, after in zip(upright, turned, strict=True):
        assert before["label"] == after["label"]
        assert before["score"] == pytest.approx(after["score"], abs=1e-6)
    other = classify(Image.fromarray(255 - np.asarray(image)))
    assert abs(other[0]["score"] - upright[0]["score"]) > 1e-5, "another image must matter"


def test_it_is_a_model_of_transformers() -> None:
    model = wrap(small_resnet(), image_size=12)
    assert isinstance(model, PreTrainedModel)
    assert model.base_model is model.backbone
    assert model.main_input_name == "pixel_values"
    copied = type(model)(model.config)  # drawn anew, of the same shape
    assert {k: v.shape for k, v in copied.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.skipif(find_spec("timm") is None, reason="needs timm, which needs torchvision")
class TestTimm:
    @pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_lite0"])
    def test_models(self, name: str) -> None:
        import timm

        base = timm.create_model(name, num_classes=LABELS, **({"img_size": 32} if "vit" in name else {})).eval()
        x = images(size=32)
        for num_labels in (None, 3):
            model = wrap(base, "d4", num_labels=num_labels, image_size=32)
            assert model.config.own_head is not None
            logits = model(x).logits
            assert (logits[0] - logits[1]).abs().max() > 10 * (logits - model(x.rot90(1, (-2, -1))).logits).abs().max()
            torch.testing.assert_close(logits, model(x.rot90(1, (-2, -1))).logits)

    @pytest.mark.parametrize("arguments", [{}, {"num_labels": 3}, {"num_labels": 3, "features": "regular"}], ids=str)
    def test_the_wrapper_of_transformers_is_rebuilt(self, arguments: dict[str, Any], tmp_path: Path) -> None:
        settings = {"architecture": "resnet18", "num_classes": 2, "label_names": ["ant", "bee"]}
        base = TimmWrapperForImageClassification(TimmWrapperConfig.from_dict(settings))
        model = wrap(base, image_size=32, **arguments)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
        x = images(size=32)
        torch.testing.assert_close(loaded(x).logits, model(x).logits)
