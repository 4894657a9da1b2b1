"""Records are whole or not there, and those of another measurement are refused."""

import json
from pathlib import Path

import pytest

from equilm import EquiLMError
from equilm.metrics.record_file import RecordFile, RecordHeader, read_record_header

SETTINGS = {"model": "tiny", "seed": 0}
RECORDS = [{"text": "é"}, {"text": "a\nb"}, {"text": ""}]


def test_records_come_back_in_order(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "new" / "records.jsonl", SETTINGS, {"torch": "2"})
    assert file.read() == [] and read_record_header(file.path) is None
    file.append(RECORDS[:2])
    file.append(RECORDS[2:])
    assert file.read() == RECORDS
    assert read_record_header(file.path) == RecordHeader(SETTINGS, {"torch": "2"})
    assert len(file.path.read_text("utf-8").splitlines()) == 1 + len(RECORDS)


def test_an_interruption_at_any_byte_loses_the_unfinished_record_only(tmp_path: Path) -> None:
    whole = RecordFile(tmp_path / "whole.jsonl", SETTINGS)
    whole.append(RECORDS)
    written = whole.path.read_bytes()
    for size in range(len(written)):
        file = RecordFile(tmp_path / "cut.jsonl", SETTINGS)
        file.path.write_bytes(written[:size])
        found = file.read()
        assert found == RECORDS[: len(found)] and len(found) == max(0, written[:size].count(b"\n") - 1)
        file.append(RECORDS[len(found) :])
        assert file.read() == RECORDS


@pytest.mark.parametrize("name", ["model", "seed"])
def test_other_settings_are_refused_by_name(name: str, tmp_path: Path) -> None:
    RecordFile(tmp_path / "records.jsonl", SETTINGS).append(RECORDS)
    other = RecordFile(tmp_path / "records.jsonl", {**SETTINGS, name: 7})
    with pytest.raises(
        EquiLMError, match=rf"contains another measurement: {name} differ \({name} was .* and is now 7\)"
    ):
        other.read()


@pytest.mark.parametrize("content", ["no records\n", "[]\n", json.dumps({"model": "tiny"}) + "\n"])
def test_another_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(content)
    with pytest.raises(EquiLMError, match=r"records\.jsonl is not a file of records"):
        RecordFile(tmp_path / "records.jsonl", SETTINGS).read()
