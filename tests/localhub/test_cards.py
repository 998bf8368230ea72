"""What the Hub says about cards."""

import pytest
from huggingface_hub import HfApi

from metta_hub.localhub.cards import check
from support import CARDS_ARE_VALIDATED_HERE

GOOD = """---
license: mit
tags: [rl]
pipeline_tag: reinforcement-learning
model-index:
- name: nav
  results:
  - task: {type: reinforcement-learning}
    dataset: {type: metta, name: navigation}
    metrics: [{type: mean_reward, value: 1.5 +/- 0.1}]
---
# Nav
"""


def test_good_card():
    assert check(GOOD) == ([], [])
    assert check("\n\n" + GOOD) == ([], [])
    assert check(GOOD.replace("\n", "\r\n")) == ([], [])


@pytest.mark.parametrize("text", ["", "# no metadata", "---\n---\n", "text\n---\nlicense: nope\n---\n"])
def test_no_metadata_is_a_warning(text: str):
    errors, warnings = check(text)
    assert errors == []
    assert "empty or missing yaml metadata" in warnings[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: mit", "license: wtf", '"license" must be one of ['),
        ("license: mit", "license: [mit, 7]", '"license" must be one of ['),
        ("tags: [rl]", "tags: rl", '"tags" must be an array'),
        ("tags: [rl]", "tags: [1]", '"tags" must be a string or an array of strings'),
        ("tags: [rl]", "library_name: [a]", '"library_name" must be a string'),
        ("pipeline_tag: reinforcement-learning", "pipeline_tag: flying", '"pipeline_tag" must be one of ['),
        ("pipeline_tag: reinforcement-learning", "pipeline_tag: [robotics]", '"pipeline_tag" must be one of ['),
        ("- name: nav\n  results", "- results", '"model-index[0].name" is required'),
        ("task: {type: reinforcement-learning}", "task: {}", '"model-index[0].results[0].task.type" is required'),
        ("dataset: {type: metta, name: navigation}", "x: 1", "results[0].dataset.type"),
        ("value: 1.5 +/- 0.1", "name: x", "metrics[0].value"),
        ("metrics: [{type: mean_reward, value: 1.5 +/- 0.1}]", "metrics: []", "at least one item"),
        ("license: mit", "license: [", "not valid YAML"),
        ("license: mit", "date: 2024-13-45", "not valid YAML"),
    ],
)
def test_wrong_types_are_errors(old: str, new: str, message: str):
    assert old in GOOD
    errors, _ = check(GOOD.replace(old, new))
    assert any(message in error for error in errors), errors


def test_metadata_that_are_no_mapping():
    assert check("---\n- a\n---\n")[0] == ["the metadata must be a mapping (key: value)"]
    assert check("---\nmodel-index: 5\n---\n")[0] == ['"model-index" must be an array']


def test_any_licence_of_ones_own_is_other():
    assert check("---\nlicense: other\nlicense_name: mine\n---\n") == ([], [])


def test_a_bad_card_stops_the_commit(api: HfApi, repo: str):
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md") as caught:
        api.upload_file(path_or_fileobj=b"---\nlicense: nope\n---\n", path_in_repo="README.md", repo_id=repo)
    assert '"license" must be one of' in str(caught.value)
    assert api.list_repo_files(repo) == [".gitattributes"]


def test_a_card_without_metadata_warns_and_passes(api: HfApi, repo: str):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(path_or_fileobj=b"# hi", path_in_repo="README.md", repo_id=repo)


def test_plain_text_for_those_who_ask(ask):
    body = {"content": "---\nlicense: nope\n---\n", "repoType": "model"}
    answer = ask("POST", "/api/validate-yaml", body, token=None, headers={"Accept": "text/plain"})
    assert answer.status == 400
    assert answer.body.decode().startswith('- Error: "license" must be one of [')


@pytest.mark.skipif(
    not CARDS_ARE_VALIDATED_HERE, reason="before 2.2 this client asks the real Hub, whatever HF_ENDPOINT says"
)
def test_model_card_of_the_official_client(python, api: HfApi, repo: str):
    api.upload_file(path_or_fileobj=GOOD.encode(), path_in_repo="README.md", repo_id=repo)
    python(
        f"""
from huggingface_hub import ModelCard
card = ModelCard.load({repo!r})
assert card.data.license == "mit" and card.data.eval_results[0].dataset_name == "navigation"
card.validate()
card.data.license = "nope"
try:
    card.validate()
except ValueError as error:
    assert '- Error: "license" must be one of [' in str(error), error
else:
    raise SystemExit("not refused")
card.data.license = "apache-2.0"
card.push_to_hub({repo!r})
assert ModelCard.load({repo!r}).data.license == "apache-2.0"
"""
    )
