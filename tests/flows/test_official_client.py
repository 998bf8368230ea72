"""What the official client and git make of a published repo."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import metta_hub
from support import CARDS_ARE_VALIDATED_HERE, DATA

PT = DATA / "run" / "model_000140.pt"
HF = Path(sys.executable).parent / "hf"


@pytest.fixture
def published(repo_id):
    metta_hub.push(PT, repo_id, license="mit")
    return repo_id


def test_hf_download(published, tmp_path):
    subprocess.run([HF, "download", published, "--local-dir", tmp_path], check=True, capture_output=True)
    assert (tmp_path / "model_000140.pt").read_bytes() == PT.read_bytes()
    assert metta_hub.verify(tmp_path).ok


def test_get_safetensors_metadata(published, api):
    metadata = api.get_safetensors_metadata(published)
    assert metadata.parameter_count == {"F32": 167_942}


def test_list_models_finds_it_by_its_library(published, api):
    assert published in [model.id for model in api.list_models(filter="metta-hub")]
    info = api.model_info(published)
    assert info.library_name == "metta-hub"
    assert info.pipeline_tag == "reinforcement-learning"


def validate(card):
    """What ModelCard.validate asks: by itself where it asks this Hub, and no other; else in the same words."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if CARDS_ARE_VALIDATED_HERE:
        card.validate()
        return
    url, body = f"{constants.ENDPOINT}/api/validate-yaml", {"content": str(card), "repoType": "model"}
    answer = get_session().post(url, json=body, headers={"Accept": "text/plain"})
    assert answer.status_code == 200, answer.text


def test_the_card_is_valid_and_its_results_are_read(published, api):
    from huggingface_hub import ModelCard

    card = ModelCard.load(published)
    validate(card)
    assert card.data.license == "mit"
    results = {result.dataset_name: result.metric_value for result in card.data.eval_results}
    assert results["hearts"] == 18.8813


def test_git_clone(published, hub, tmp_path):
    target = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "--quiet", f"{hub.endpoint}/{published}", target],
        env=os.environ | {"GIT_LFS_SKIP_SMUDGE": "1", "GIT_TERMINAL_PROMPT": "0"},
        check=True,
        capture_output=True,
    )
    assert (target / "checkpoints" / "index.json").is_file()
    assert (target / "model.safetensors").read_text().startswith("version https://git-lfs.github.com/spec/v1")
    shutil.rmtree(target)


def test_load_file_works_without_anything_of_ours(published):
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    tensors = load_file(hf_hub_download(published, "model.safetensors"))
    assert sum(tensor.numel() for tensor in tensors.values()) == 167_942


def test_config_json_is_flat_strict_json(published):
    from huggingface_hub import hf_hub_download

    text = Path(hf_hub_download(published, "config.json")).read_text()
    config = json.loads(text, parse_constant=pytest.fail)
    assert list(config) == sorted(config)
    assert config["epoch"] == 140
    assert config["metta_hub"]["checkpoint"] == "model_000140"
    assert not {"architectures", "auto_map", "model_type"} & set(config)


def test_keys_that_loaders_act_on_are_held(repo_id, run):
    from huggingface_hub import hf_hub_download

    document = run / "model_000140.json"
    added = {"auto_map": {"AutoModel": "evil.py"}, "model_type": "x", "metta_hub": {"a": 1}}
    document.write_text(json.dumps(json.loads(document.read_text()) | added))
    metta_hub.push(run / "model_000140.pt", repo_id)
    config = json.loads(Path(hf_hub_download(repo_id, "config.json")).read_text())
    assert "auto_map" not in config
    assert config["metta_hub"]["held"] == {
        "auto_map": {"AutoModel": "evil.py"},
        "metta_hub": {"a": 1},
        "model_type": "x",
    }
