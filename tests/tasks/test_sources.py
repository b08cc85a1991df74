"""Sources: columns are renamed, golds are never empty (R19), and a faulty row is named."""

import json

import pytest

from rlvr.errors import RecipeError
from rlvr.recipe.schema import Columns, CustomSource, HubSource, JsonlSource
from rlvr.tasks.sources import load_rows

GSM8K = {"question": "Two and two?", "answer": "2+2=4\n#### 1,004", "level": 3}


@pytest.fixture
def rows_file(tmp_path):
    def write(rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
        return str(path)

    return write


def jsonl(path, size=None, **columns):
    return load_rows(JsonlSource(source="jsonl", path=path, columns=Columns(**columns), size=size))


def test_columns_are_renamed_and_the_pattern_finds_the_gold(rows_file):
    rows = jsonl(rows_file([GSM8K]), prompt="question", answer_pattern=r"#### *(.+)")
    assert rows == [{"prompt": "Two and two?", "answer": "1,004", "level": 3}]


def test_solution_and_domain_are_columns_too(rows_file):
    row = {"prompt": "a", "answer": 5, "how": "b", "topic": 7, "extra": [1]}
    rows = jsonl(rows_file([row]), solution="how", domain="topic")
    assert rows == [{"prompt": "a", "answer": "5", "solution": "b", "domain": "7", "extra": [1]}]


def test_a_dotted_column_reaches_into_nested_values(rows_file):
    row = {"prompt": [{"role": "user", "content": "hi"}], "reward_model": {"ground_truth": "34", "style": "rule"}}
    [loaded] = jsonl(rows_file([row]), answer="reward_model.ground_truth")
    assert loaded["answer"] == "34"
    assert loaded["prompt"] == [{"role": "user", "content": "hi"}]


def test_rows_without_answers_and_the_first_rows_only(rows_file):
    path = rows_file([{"prompt": str(index)} for index in range(9)])
    assert [row["prompt"] for row in jsonl(path, size=3, answer=None)] == ["0", "1", "2"]
    assert jsonl(path, size=1, answer=None)[0]["answer"] is None


@pytest.mark.parametrize(
    ("row", "columns", "fault"),
    [
        ({"prompt": "a", "answer": "  "}, {}, "row 0: the gold answer is empty"),
        ({"prompt": "a", "answer": None}, {}, "row 0: the answer must be text or a number, got None"),
        ({"prompt": "a", "answer": ["5"]}, {}, "must be text or a number"),
        ({"prompt": "", "answer": "1"}, {}, "row 0: the prompt is empty"),
        ({"prompt": 5, "answer": "1"}, {}, "the prompt must be text or a list"),
        ({"question": "a", "answer": "1"}, {}, "no column 'prompt'; it has question, answer"),
        ({"prompt": "a", "answer": "12"}, {"answer_pattern": "#(.)"}, "answer_pattern '#(.)' matches nothing in '12'"),
        ({"prompt": "a", "answer": "12"}, {"answer_pattern": "#"}, "needs a group"),
        ({"prompt": "a", "answer": "12"}, {"answer_pattern": "("}, "answer_pattern '('"),
        ([1], {}, "rows.jsonl:1: expected an object"),
    ],
)
def test_a_faulty_row_is_named(rows_file, row, columns, fault):
    with pytest.raises(RecipeError) as caught:
        jsonl(rows_file([row]), **columns)
    assert fault in str(caught.value)


def test_broken_json_and_empty_files(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": \n')
    with pytest.raises(RecipeError, match=r"rows.jsonl:2: not valid JSON"):
        jsonl(str(path))
    path.write_text("")
    with pytest.raises(RecipeError, match="no rows"):
        jsonl(str(path))


def test_parquet_gives_the_same_rows(rows_file, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([GSM8K]).to_parquet(str(tmp_path / "rows.parquet"))
    columns = {"prompt": "question", "answer_pattern": r"#### *(.+)"}
    assert jsonl(str(tmp_path / "rows.parquet"), **columns) == jsonl(rows_file([GSM8K]), **columns)


def hub(directory, split, **options):
    source = HubSource(source="hub", dataset=str(directory), split=split, columns=Columns(prompt="question"), **options)
    return load_rows(source)


def test_a_local_copy_of_a_hub_dataset(rows_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("datasets")
    (tmp_path / "copy").mkdir()
    rows = [{"question": f"q{index}", "answer": str(index)} for index in range(6)]
    rows_file(rows, "copy/train.jsonl")
    assert [row["answer"] for row in hub(tmp_path / "copy", "train[2:4]")] == ["2", "3"]
    assert [row["answer"] for row in hub(tmp_path / "copy", "train", size=1)] == ["0"]
    with pytest.raises(RecipeError, match=r"split tset.*check the names"):
        hub(tmp_path / "copy", "tset")


def test_a_dataset_saved_to_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([{"question": f"q{index}", "answer": str(index)} for index in range(6)])
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "saved"))
    assert [row["answer"] for row in hub(tmp_path / "saved", "train[4:]")] == ["4", "5"]
    assert len(hub(tmp_path / "saved", "train")) == 6
    with pytest.raises(RecipeError, match="has the splits train"):
        hub(tmp_path / "saved", "test")


def test_a_function_of_the_users_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def rows(n):\n    return [{'prompt': f'{i}?', 'answer': i, 'solution': 's', 'k': i} for i in range(n)]\n"
        "def bad():\n    return [3]\n"
    )
    rows = load_rows(CustomSource(source="custom", function=f"{file}:rows", params={"n": 2}))
    assert rows[1] == {"prompt": "1?", "answer": "1", "solution": "s", "k": 1}
    with pytest.raises(RecipeError, match="called with task params"):
        load_rows(CustomSource(source="custom", function=f"{file}:rows", params={"m": 2}))
    with pytest.raises(RecipeError, match="row 0: expected a dict, got int"):
        load_rows(CustomSource(source="custom", function=f"{file}:bad"))
    with pytest.raises(RecipeError, match="defines no function 'none'"):
        load_rows(CustomSource(source="custom", function=f"{file}:none"))
