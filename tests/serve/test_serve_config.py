"""Settings of the gateway: the command line, the file, and what both refuse."""

import json
from pathlib import Path

import pytest

from equilm.cli.main import main
from equilm.errors import EquiLMError
from equilm.serve import GatewayConfig, Upstream

UPSTREAM = Upstream("http://127.0.0.1:8000")


def test_report_says_what_is_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "team.json").write_text('{"name": "team", "words": [["red", "blue", "green"]]}')
    config = {
        "upstreams": [{"url": "http://127.0.0.1:8000/v1", "models": ["a"]}, {"url": "http://127.0.0.1:8001"}],
        "axes": ["gender", "team.json"],
        "allowed_axes": ["race"],
        "stall_timeout": 5,
    }
    (tmp_path / "serve.json").write_text(json.dumps(config))
    assert main(["serve", "--config", str(tmp_path / "serve.json"), "--report", "--max-choices", "7"]) == 0
    out = capsys.readouterr().out
    for part in ("team: red/blue/green", "of order 6", "on request     race", "n up to 7", "stalled 5 s", "8001/v1"):
        assert part in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "No upstream"),
        (["--upstream", "localhost:8000"], "is no base URL"),
        (["--upstream", "http://127.0.0.1:8000"], "No axis"),
        (["--upstream", "http://127.0.0.1:8000", "--axis", "nothing"], "nothing"),
        (["--upstream", "http://me:key@127.0.0.1", "--axis", "gender"], "name or password"),
        (["--upstream", "http://127.0.0.1:8000", "--axis", "gender", "--stall-timeout", "0"], "--stall-timeout"),
        (["--upstream", "http://127.0.0.1:8000", "--axis", "gender", "--max-choices", "0"], "--max-choices"),
        (["--upstream", "http://127.0.0.1:8000", "--axis", "gender", "--port", "70000"], "--port"),
        (["--upstream", "http://127.0.0.1:8000", "--axis", "gender", "--allow-axis", "gender"], "given twice"),
        (["--config", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_settings_are_one_clear_line(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main(["serve", *arguments, "--report"])
    except SystemExit as stopped:  # what argparse refuses
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert part in error and "Traceback" not in error
    assert "key@" not in error


def test_wrong_files(tmp_path: Path) -> None:
    for content, part in (
        ("{", "is not JSON"),
        ("[]", "expected an object"),
        ('{"axis": ["gender"]}', "unknown key 'axis'"),
        ('{"upstreams": {}}', "list of objects"),
        ('{"upstreams": [{"url": "http://a", "model": "x"}]}', "unknown key 'model'"),
        ('{"axes": "gender", "upstreams": [{"url": "http://a"}]}', "list of names"),
    ):
        (tmp_path / "serve.json").write_text(content)
        with pytest.raises(EquiLMError, match=part):
            GatewayConfig.load(tmp_path / "serve.json")


def test_upstreams_that_share_a_model_or_lack_their_key() -> None:
    with pytest.raises(EquiLMError, match="both serve"):
        GatewayConfig(upstreams=(UPSTREAM, Upstream("http://127.0.0.1:8001")), axes=("gender",))
    with pytest.raises(EquiLMError, match="NO_SUCH_KEY"):
        Upstream("http://127.0.0.1:8000", api_key_env="NO_SUCH_KEY")
