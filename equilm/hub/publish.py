"""Writing and uploading repositories: a wrapped model with its card, or a base model beside a fair `generate`."""

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import EquiLMError
from ..modeling_equilm import EquiLMForCausalLM
from .card import model_card
from .measure import Measurements

_CUSTOM_GENERATE = files(__package__).joinpath("custom_generate")


def save_model(
    model: EquiLMForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    measurements: Measurements,
    *,
    repo_id: str | None = None,
    base_model: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's name for it
) -> None:
    """Write a wrapped model's repository: weights, tokenizer, the code to load it without this package, and its card.

    Args:
        model: the wrapped model.
        tokenizer: its tokenizer.
        folder: the folder to write, created if it does not exist.
        measurements: the result of `equilm.hub.measure`, for the card.
        repo_id: where the folder will be on the Hub; None: readers load it from the folder itself.
        base_model: Hub id of the base model, if it has one.
        license: the license of the weights, a Hub license id.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = model_card(model, measurements, repo_id or str(folder), base_model=base_model, license=license)
    card.save(Path(folder) / "README.md")


def save_custom_generate(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    *,
    repo_id: str | None = None,
    base_model: str | None = None,
    license: str | None = None,  # noqa: A002 - the Hub's name for it
) -> None:
    """Write a Hub `custom_generate` repository: the plain base model, and a fair ``generate`` that any model can use.

    Args:
        base: the plain model, which is saved unchanged.
        tokenizer: its tokenizer.
        folder: the folder to write, created if it does not exist.
        repo_id: where the folder will be on the Hub; None: readers load it from the folder itself.
        base_model: Hub id of the base model, if it has one.
        license: the license of the weights, a Hub license id.
    """
    if isinstance(base, EquiLMForCausalLM):
        raise EquiLMError("A custom_generate repository contains the plain model: pass model.language_model.")
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with as_file(_CUSTOM_GENERATE) as source:
        target = Path(folder) / "custom_generate"
        target.mkdir(exist_ok=True)
        for name in ("generate.py", "requirements.txt"):
            shutil.copyfile(source / name, target / name)
        card = ModelCard.from_template(
            ModelCardData(
                base_model=base_model,
                library_name="transformers",
                license=license,
                pipeline_tag="text-generation",
                tags=["custom_generate", "equilm", "fairness"],
            ),
            template_path=str(source / "README.md.jinja"),
            repo_id=repo_id or str(folder),
            base_name=base_model or f"a {type(base).__name__}",
        )
    card.save(Path(folder) / "README.md")


def publish(folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a folder as a Hub model repository, created if it does not exist.

    Args:
        folder: a folder written by `save_model` or `save_custom_generate`.
        repo_id: "name" or "owner/name".
        private: whether a repository that is created now is private.
        token: an access token; None uses the saved login.

    Returns:
        The URL of the commit.
    """
    api = HfApi(token=token)
    repo = api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(folder_path=folder, repo_id=repo.repo_id, commit_message="Upload by equilm"))
