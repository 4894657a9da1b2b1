"""What the README's badges say is what setup.cfg says."""

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def badges() -> dict[str, str]:
    readme = (ROOT / "README.md").read_text("utf-8")
    return dict(re.findall(r"img\.shields\.io/badge/([a-z]+)-(.+)-blue\)", readme))


def test_license(setup: configparser.ConfigParser, badges: dict[str, str]) -> None:
    assert badges["license"].replace("--", "-") == setup["metadata"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_python_versions(setup: configparser.ConfigParser, badges: dict[str, str]) -> None:
    classified = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    assert badges["python"].split("_|_") == classified
    assert setup["options"]["python_requires"] == f">={classified[0]}"


@pytest.mark.parametrize("package", ["transformers", "torch"])
def test_dependencies(setup: configparser.ConfigParser, badges: dict[str, str], package: str) -> None:
    (required,) = re.findall(rf"^{package}(\S+)$", setup["options"]["install_requires"], re.MULTILINE)
    assert badges[package].replace("≥", ">=") == required
