"""The private names of other packages that equilm uses: each is still there, and each is listed here.

A release may drop a private name without notice. Then a test here fails that says which one.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.modeling_utils
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel, Trainer

import equilm

PACKAGE = Path(equilm.__file__).parent

# Where each name lives. There is no public way to say or ask which attention a configuration has chosen, what a model's
# class supports, how to build a model of a class that no auto class names, whether adapters are its own, in what order
# a module holds its parts, which hooks it has, how a Trainer draws batches, when generate() makes its cache, and how it
# checks, repeats and prolongs what a model takes besides the ids, positions of its own kind among it.
ATTRIBUTES: dict[str, Any] = {
    "_attn_implementation": PreTrainedConfig,
    "_buffers": torch.nn.Module(),
    "_can_compile_fullgraph": PreTrainedModel,
    "_expand_inputs_for_generation": GenerationMixin,
    "_forward_hooks": torch.nn.Module(),
    "_forward_pre_hooks": torch.nn.Module(),
    "_from_config": PreTrainedModel,
    "_get_train_sampler": Trainer,
    "_hf_peft_config_loaded": PreTrainedModel,
    "_init_weights": PreTrainedModel,
    "_is_stateful": PreTrainedModel,
    "_modules": torch.nn.Module(),
    "_prepare_cache_for_generation": GenerationMixin,
    "_prepare_inputs": Trainer,
    "_prepare_position_ids_for_generation": GenerationMixin,
    "_supports_attention_backend": PreTrainedModel,
    "_supports_flash_attn": PreTrainedModel,
    "_supports_flex_attn": PreTrainedModel,
    "_supports_sdpa": PreTrainedModel,
    "_update_model_kwargs_for_generation": GenerationMixin,
    "_validate_model_kwargs": GenerationMixin,
    "_version": torch.Tensor,
}
# Names that are set on objects, and the code that sets or reads them.
SET_ON_OBJECTS: dict[str, Any] = {
    "_is_hf_initialized": transformers.modeling_utils,
    "_train_batch_size": Trainer,
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_attribute_is_there(name: str) -> None:
    assert hasattr(ATTRIBUTES[name], name)


@pytest.mark.parametrize("name", SET_ON_OBJECTS)
def test_the_name_is_still_used(name: str) -> None:
    assert name in inspect.getsource(SET_ON_OBJECTS[name])


def test_every_private_name_in_use_is_listed() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    trees = {file: ast.parse(file.read_text("utf-8")) for file in files}
    own = {name for tree in trees.values() for name in _defined(tree)}
    used = {name for tree in trees.values() for name in _foreign(tree, own)}
    assert used == ATTRIBUTES.keys() | SET_ON_OBJECTS.keys()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from transformers.utils._new import thing", "_new"),
        ("from torch import _C", "_C"),
        ("import torch._dynamo", "_dynamo"),
        ("model._reorder_cache(cache)", "_reorder_cache"),
        ("getattr(model, '_tied_weights_keys')", "_tied_weights_keys"),
        ("self._undefined_here()", "_undefined_here"),
        ("class A:\n    def _own(self): ...\nmodel._own()\nmodel._other()", "_other"),
        ("def _version(): ...\ntensor._version", "_version"),
        ("class A(PreTrainedModel):\n    _no_split_modules = []", "_no_split_modules"),
        ("class A(PreTrainedModel):\n    def _init_weights(self, module): ...", "_init_weights"),
    ],
)
def test_a_new_private_name_is_found(code: str, name: str) -> None:
    tree = ast.parse(code)
    assert set(_foreign(tree, set(_defined(tree)))) == {name}


def test_own_private_names_are_not_taken_for_foreign_ones() -> None:
    tree = ast.parse(
        "from ._own import _f\nclass A:\n    def _g(self):\n        self._h = _f.__name__\n        self._g()"
    )
    assert not set(_foreign(tree, set(_defined(tree))))


def _is_private(name: str) -> bool:
    return name.startswith("_") and name != "_" and not (name.startswith("__") and name.endswith("__"))


def _defined(tree: ast.Module) -> Iterator[str]:
    """The private functions, classes, variables and members that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _is_private(node.name):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and _is_private(node.id):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own_object(node.value):
            yield node.attr


def _is_own_object(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _foreign(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """The private names of other packages that a module imports, reads, sets or overrides.

    Args:
        tree: the module.
        own: the private names that the package defines. One that a class of another package has too counts as foreign.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] != "equilm":
            names = [part for alias in node.names for part in f"{node.module}.{alias.name}".split(".")]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute) and (node.attr not in own or _is_inherited(node.attr)):
            names = [node.attr]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BY_NAME:
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        elif isinstance(node, ast.ClassDef):
            members = {name for statement in node.body for name in _defined(ast.Module([statement], []))}
            names = list(filter(_is_inherited, members))
        else:
            continue
        yield from filter(_is_private, names)


def _is_inherited(name: str) -> bool:
    return any(hasattr(owner, name) for owner in _BASES)


_BY_NAME = ("getattr", "setattr", "hasattr", "delattr")
_BASES = (
    PreTrainedModel,
    PreTrainedConfig,
    GenerationMixin,
    GenerationConfig,
    Trainer,
    torch.nn.Module(),
    torch.Tensor,
)
