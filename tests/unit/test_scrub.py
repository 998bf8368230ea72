"""What must not be published."""

import re
from re import _constants, _parser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metta_hub import scrub as module
from metta_hub.errors import SecretError
from metta_hub.scrub import CUTS, SECRETS, Redaction, check_text, scrub, scrub_text

# --- home paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/alice1/train_dir/x", "~/train_dir/x"),
        ("/home/alice1", "~"),
        ("/home/alice1/", "~/"),
        ("/home/al.ice-1_x/y", "~/y"),
        ("/home/ålice/y", "~/y"),
        ("/home//alice1/y", "~/y"),
        ("file:///home/alice1/x", "file://~/x"),
        ("file://localhost/home/alice1/x", "file://~/x"),
        ("file://box.lab.example/home/alice1/x", "file://~/x"),
        ("file:/home/alice1/x", "file:~/x"),
        ("file:///home/al%20ice/x", "file://~/x"),
        ("file:%2F%2F%2Fhome%2Falice1%2Fx", "file:%2F%2F~%2Fx"),
        ("/Users/al/x", "~/x"),
        ("/Users/John Smith/x", "~/x"),
        ("file:///Users/al/x", "file://~/x"),
        ("/System/Volumes/Data/Users/al/x", "~/x"),
        ("/root/x", "~/x"),
        ("file:///root/x", "file://~/x"),
        ("/export/home/al/x", "~/x"),
        ("/usr/home/al/x", "~/x"),
        ("/mnt/home/al/x", "~/x"),
        (r"C:\Users\al\x", r"~\x"),
        (r"c:\users\al\x", r"~\x"),
        (r"C:\Users\John Q Smith\x", r"~\x"),
        (r"C:\\Users\\al\\x", r"~\\x"),
        (r"C:\Users\al", "~"),
        ("C:/Users/al/x", "~/x"),
        ("file:///C:/Users/al/x", "file://~/x"),
        ("file:///C%3A/Users/al/x", "file://~/x"),
        ("/mnt/c/Users/al/x", "~/x"),
        ("/cygdrive/c/Users/al/x", "~/x"),
        ("/c/Users/al/x", "~/x"),
        (r"\\?\C:\Users\al\x", r"~\x"),
        (r"\\server\Users\al\x", r"~\x"),
        (r"\\server\share\home\al\x", r"~\x"),
        (r"\\wsl$\Ubuntu\home\al\x", r"~\x"),
        (r"\\wsl.localhost\Ubuntu-24.04\home\al\x", r"~\x"),
        ("/home/a/x:/home/b/y:/Users/c", "~/x:~/y:~"),
        ("No such file: '/home/alice1/a b', nor \"/Users/bob/c\"", "No such file: '~/a b', nor \"~/c\""),
        ("cc -I/home/al/include --sysroot=/home/al/x -L /home/al", "cc -I~/include --sysroot=~/x -L ~"),
        ("al@box:/home/al/x", "al@box:~/x"),
        ("(/home/al)", "(~)"),
        ("see /Users/al and /tmp/x", "see ~ and /tmp/x"),
        ("[/home/al,/home/bo]", "[~,~]"),
    ],
)
def test_home_paths_lose_their_heads(text, left):
    assert scrub_text(text) == (left, True)
    assert scrub_text(left) == (left, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.org/home/page",
        "https://example.org/Users/list",
        "https://home/al",
        "http://localhost:8000/home/page",
        "s3://bucket/home/x",
        "hf://org/home/x",
        "agent/home/base",
        "navigation/home/easy",
        "./home/x",
        "/home",
        "/home/",
        "/homes/alice",
        "/homework/1",
        "/root",
        "/rootfs/x",
        "/data/train_dir/x",
        "/tmp/home",
        "~/train_dir/x",
        "file://model_000140.pt",
        "C:/data/x",
        r"D:\work\x",
        "at home / users",
        "components._core_._net.weight_ih_l0",
    ],
)
def test_what_only_looks_like_a_home_path_stays(text):
    assert scrub_text(text) == (text, False)


def test_nested_values_and_keys_are_cleaned():
    values = {
        "uri": "file:///home/alice1/x.pt",
        "list": [1, None, True, 2.5, ["/Users/al/a"]],
        "/home/alice1/key": {"/root/inner": "ok"},
        "a/b~c": {"d": "/home/al"},
    }
    clean, redactions = scrub(values)
    assert clean == {
        "uri": "file://~/x.pt",
        "list": [1, None, True, 2.5, ["~/a"]],
        "~/key": {"~/inner": "ok"},
        "a/b~c": {"d": "~"},
    }
    assert [one.pointer for one in redactions] == [
        "/uri",
        "/list/4/0",
        "/~0~1key",
        "/~0~1key/~0~1inner",
        "/a~1b~0c/d",
    ]
    assert {one.kind for one in redactions} == {"home path"}
    assert values["uri"] == "file:///home/alice1/x.pt"
    assert "alice" not in repr((clean, redactions))


def test_keys_that_become_alike_are_all_kept():
    clean, _ = scrub({"/home/a/x": 1, "/home/b/x": 2, "~/x": 3})
    assert clean == {"~/x (2)": 1, "~/x (3)": 2, "~/x": 3}


def test_pointers_start_where_the_caller_says():
    assert scrub({"a": "/home/al"}, at="/metta_hub")[1] == (Redaction("/metta_hub/a", "home path"),)


def test_scrubbing_twice_finds_nothing_more():
    once, _ = scrub({"a": "/home/al/x", "/home/b/x": 1, "/home/c/x": 2})
    assert scrub(once) == (once, ())


texts = st.lists(
    st.sampled_from(["/home/", "/Users/", "alice", "/", "\\", "C:", "file://", "~", " ", ":", "%2F", "root", "x"]),
    max_size=12,
).map("".join)


@given(texts)
def test_a_clean_text_is_clean(text):
    left, cut = scrub_text(text)
    assert cut == (left != text)
    assert scrub_text(left) == (left, False)


@given(st.dictionaries(texts, texts | st.lists(texts), max_size=4))
def test_nothing_is_lost_but_heads(values):
    clean, _ = scrub(values)
    assert len(clean) == len(values)


# --- credentials ----------------------------------------------------------------------------------------

# Made up here in two halves, so that no scanner takes this file for a leak.
ALNUM = "abcDEF0123456789" * 8
TOKENS = [
    ("a Hugging Face token", "hf_" + ALNUM[:34]),
    ("a Hugging Face token", "api_org_" + ALNUM[:34]),
    ("a GitHub token", "ghp_" + ALNUM[:36]),
    ("a GitHub token", "gho_" + ALNUM[:36]),
    ("a GitHub token", "ghs_" + ALNUM[:36]),
    ("a GitHub token", "github_pat_" + ALNUM[:22] + "_" + ALNUM[:59]),
    ("a GitLab token", "glpat-" + ALNUM[:20]),
    ("an API key", "sk-" + ALNUM[:48]),
    ("an API key", "sk-proj-" + ALNUM[:20] + "-_" + ALNUM[:20]),
    ("an API key", "sk-ant-" + "api03-" + ALNUM[:40]),
    ("an AWS access key", "AKIA" + "ABCDEFGH01234567"),
    ("an AWS access key", "ASIA" + "ABCDEFGH01234567"),
    ("a Slack token", "xoxb-" + "123456789012-" + ALNUM[:20]),
    ("a Google API key", "AIza" + ALNUM[:35]),
    ("a private key", "-----BEGIN " + "RSA PRIVATE KEY-----"),
    ("a private key", "-----BEGIN " + "PRIVATE KEY-----"),
    ("a private key", "-----BEGIN " + "OPENSSH PRIVATE KEY-----"),
    ("a password in a URL", "https://al:" + "s3cret@example.org/x"),
    ("a password in a URL", "postgres://al:" + "p:w@db/x"),
    ("a bearer token", "Authorization: Bearer " + ALNUM[:40]),
]


@pytest.mark.parametrize(("kind", "token"), TOKENS, ids=lambda value: value[:12])
@pytest.mark.parametrize("around", ["{}", "x={}", '"{}"', "see {} there", "\n{}\n", "/{}/", "ä{}ä"])
def test_credentials_stop_everything(kind, token, around):
    text = around.format(token)
    for attempt in (
        lambda: check_text(text, "the commit message"),
        lambda: scrub({"deep": [{"x": text}]}),
        lambda: scrub({"deep": {text: 1}}),
    ):
        with pytest.raises(SecretError) as caught:
            attempt()
        assert caught.value.kind == kind
        assert caught.value.pointer in {"the commit message", "/deep/0/x", "a key of /deep"}
        for part in (token, token[4:20], token[-12:]):
            assert part not in f"{caught.value} {caught.value.hint} {caught.value.pointer} {caught.value.args}"


@pytest.mark.parametrize(
    "text",
    [
        "0123456789abcdef" * 4,
        "4f2c9e1a" * 5,
        "sha256:" + "0123456789abcdef" * 4,
        "QUtJQUFCQ0RFRkdIMDEyMzQ1Njc=" * 4,
        "hf_hub_download",
        "hf_model_with_a_very_long_name_for_a_repo",
        "sk-learn-pipeline-with-a-long-name",
        "task-force-navigation-0123456789abcdef",
        "components._core_._net.weight_ih_l0",
        "AKIAH",
        "xAKIAABCDEFGH01234567",
        "https://example.org:8080/a@b",
        "https://example.org/a:b@c",
        "git@github.com:org/repo.git",
        "ssh://git@github.com/org/repo",
        "https://user:$TOKEN@example.org",
        "https://user:<token>@example.org",
        "https://user:***@example.org",
        "Bearer of the long-awaited-and-very-hyphenated news",
        "-----BEGIN PUBLIC KEY-----",
        "AIzawa",
        "2026-11-23T15:00:00Z",
    ],
)
def test_what_is_no_credential_passes(text):
    check_text(text, "here")
    assert scrub({"a": text, text: 1})[1] == ()


# --- how long it takes ----------------------------------------------------------------------------------

REPEATS = {_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT}


def repeats(parsed, inside=1):
    """For every repetition in a pattern: how often it may repeat, times all that repeat around it."""
    for operator, argument in parsed:
        if operator in REPEATS:
            _, most, below = argument
            yield inside * int(most)
            yield from repeats(below, inside * int(most))
        elif operator is _constants.BRANCH:
            for below in argument[1]:
                yield from repeats(below, inside)
        elif operator is _constants.SUBPATTERN:
            yield from repeats(argument[-1], inside)
        elif operator in {_constants.ASSERT, _constants.ASSERT_NOT}:
            yield from repeats(argument[1], inside)


@pytest.mark.parametrize("pattern", [one.pattern for one in (*CUTS, *SECRETS)])
def test_no_pattern_can_look_far(pattern):
    parsed = _parser.parse(pattern.pattern, pattern.flags)
    assert max([*repeats(parsed), 1]) <= 256
    assert parsed.getwidth()[1] <= 1024


def test_the_look_before_all_others_is_no_exception():
    assert _parser.parse(module._MAYBE.pattern).getwidth()[1] <= 16
    assert isinstance(module._MAYBE, re.Pattern)


@pytest.mark.parametrize(
    "unit",
    [
        "/home/",
        "/Users/a ",
        "C:\\",
        "file://",
        "\\\\",
        "\\\\a\\",
        "://a:",
        "hf_",
        "sk-",
        "-----BEGIN A ",
        "Bearer ",
        "eyJ",
        "%2F",
        "home a",
    ],
)
def test_a_megabyte_of_anything_comes_to_an_end(unit):
    text = unit * (1_000_000 // len(unit)) + "home"
    check_text(text, "here")
    scrub_text(text)
