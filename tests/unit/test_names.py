"""References, checkpoint names, file names."""

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st

from metta_hub import names
from metta_hub.errors import BadNameError, BadReferenceError, UsageError
from metta_hub.names import Reference, check_name, checkpoint_name, epoch_in, parse_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("org/nav", Reference("org", "nav")),
        ("nav", Reference("", "nav")),
        ("hf://org/nav", Reference("org", "nav")),
        ("org/nav@v1.0", Reference("org", "nav", "v1.0")),
        ("org/nav@refs/pr/1", Reference("org", "nav", "refs/pr/1")),
        ("org/nav@4f2c9e1", Reference("org", "nav", "4f2c9e1")),
        ("org/nav:best", Reference("org", "nav", None, "best")),
        ("org/nav:latest", Reference("org", "nav", None, "latest")),
        ("org/nav@v1:model_0100", Reference("org", "nav", "v1", "model_0100")),
        ("org/nav:best=agent:group", Reference("org", "nav", None, "best=agent:group")),
        ("org/nav:best=a@b", Reference("org", "nav", None, "best=a@b")),
        ("org/nav:min=evals.a=b", Reference("org", "nav", None, "min=evals.a=b")),
        ("org/nav:epoch=140", Reference("org", "nav", None, "epoch=140")),
        ("a" * 50 + "/" + "b" * 96, Reference("a" * 50, "b" * 96)),
        ("_o_/n.a-v_", Reference("_o_", "n.a-v_")),
    ],
)
def test_references(text, reference):
    assert parse_reference(text) == reference
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hf://",
        "org/",
        "/nav",
        "a/b/c",
        "org/nav@",
        "org/nav:",
        "org/na v",
        "org/na--v",
        "org/na..v",
        "org/-nav",
        "org/nav.",
        "org/nav.git",
        "org/näv",
        "org/nav\n",
        "org/" + "a" * 97,
        "org/nav@a..b",
        "org/nav@../b",
        "org/nav@/b",
        "org/nav@b/",
        "org/nav@b//c",
        "org/nav@b/.c",
        "org/nav@b c",
        "org/nav@" + "a" * 251,
        "org/nav:index",
        "org/nav:best=",
        "org/nav:max=x",
        "org/nav:epoch=x",
        "org/nav:epoch=-1",
        "org/nav:epoch=" + "1" * 16,
        "org/nav:epoch=١",
        "org/nav:../x",
        "https://huggingface.co/org/nav",
    ],
)
def test_what_is_no_reference(text):
    with pytest.raises(BadReferenceError) as caught:
        parse_reference(text)
    assert caught.value.text == text
    assert isinstance(caught.value, UsageError)


@given(
    st.text(alphabet="ab-._/9é ", max_size=12) | st.from_regex(r"[a-z._-]{1,5}/[a-z._-]{1,6}(\.git)?", fullmatch=True)
)
def test_a_repo_is_what_the_hub_says(text):
    try:
        validate_repo_id(text)
        allowed = True
    except HFValidationError:
        allowed = False
    try:
        parsed = parse_reference(text).repo_id == text
    except BadReferenceError:
        parsed = False
    assert parsed == allowed


@pytest.mark.parametrize("name", ["model_0100", "a", "0", "A.b-c_d", "x" * 96, "indexes", "best_1"])
def test_names(name):
    assert check_name(name) == name
    assert checkpoint_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "_a", "a b", "a/b", "a\n", "é", "x" * 97, "index", "Latest", "BEST"]
)
def test_what_is_no_name(name):
    with pytest.raises(BadNameError) as caught:
        check_name(name)
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("hearts.lstm:v140", "hearts.lstm_v140"),
        ("_model", "m_model"),
        ("run e1 s2", "run_e1_s2"),
        ("..", "m.."),
        ("é", "m_"),
        ("x" * 200, "x" * 96),
        ("_" * 200, "m" + "_" * 95),
        ("latest", "latest_"),
        ("BEST", "BEST_"),
    ],
)
def test_what_cannot_stand_in_a_name_is_replaced(original, name):
    assert checkpoint_name(original) == name


def test_what_leaves_no_name():
    with pytest.raises(BadNameError):
        checkpoint_name("")


@given(st.text(max_size=120))
def test_a_made_name_is_a_name(original):
    try:
        name = checkpoint_name(original)
    except BadNameError:
        return
    assert check_name(name) == name
    assert checkpoint_name(name) == name


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("model_0100", 100),
        ("model_000140", 140),
        ("hearts.lstm_v202", 202),
        ("7", 7),
        ("v2_final", None),
        ("model", None),
        ("", None),
        ("model_5\n", None),
        ("model_" + "9" * 15, 999_999_999_999_999),
        ("model_" + "9" * 16, None),
        ("model_١٢", None),
    ],
)
def test_the_epoch_in_a_name(name, epoch):
    assert epoch_in(name) == epoch


def test_files_of_different_kinds_never_meet():
    makers = (names.metadata_file, names.recipe_file, names.weights_file, names.stored_pt)
    for name in ("a", "a.json", "a.recipe", "a.pt", "index.json"):
        paths = {maker(name) for maker in makers}
        assert len(paths) == 4
        assert names.INDEX not in paths
        assert not paths & {maker("b") for maker in makers}
