"""The pages that a browser sees: what is in this Hub, in plain HTML without scripts."""

from html import escape
from typing import Any
from urllib.parse import quote

from dulwich.objects import Commit
from starlette.responses import HTMLResponse, Response

from metta_hub.localhub.calls import Call, in_url
from metta_hub.localhub.discussions import Discussions
from metta_hub.localhub.gitrepo import MAIN
from metta_hub.localhub.history import author_name, commit_date, log, title_and_message
from metta_hub.localhub.listing import describe_entry
from metta_hub.localhub.trees import walk
from metta_hub.localhub.web import Route

_COMMITS = 20
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def home(call: Call) -> Response:
    """All repos that the caller may see."""
    ids = [repo.id for repo in call.hub.repos() if repo.can_read(call.caller)]
    items = "".join(f'<li><a href="/{quote(name)}">{escape(name)}</a></li>' for name in ids)
    return _page("A Hub for trying things", f"<ul>{items}</ul>" if items else "<p>No repos yet.</p>")


def repo_page(call: Call) -> Response:
    """The files and the last commits of one repo."""
    repo = call.repo_for_files()
    with repo.git() as git:
        commit = git.resolve(call.params.get("rev", MAIN.decode()))
        entries = [e for e in walk(git.objects, git.tree(commit), recursive=True) if not e.is_folder]
        files = [describe_entry(repo, git, entry) for entry in entries[: call.hub.limits.page]]
        history = log(git, commit, skip=0, count=_COMMITS)
    base = f"/{quote(repo.id)}/resolve/{commit.decode()}"
    rows = "".join(
        f'<tr><td><a href="{base}/{quote(file["path"])}">{escape(file["path"])}</a></td><td>{file["size"]}</td></tr>'
        for file in files
    )
    commits = "".join(f"<li>{_commit(repo.id, item)}</li>" for item in history)
    return _page(
        repo.id,
        f"<h2>Files</h2><table>{rows}</table><h2>Commits</h2><ol>{commits}</ol><a href='/'>All repos</a>",
    )


def discussion_page(call: Call) -> Response:
    """One discussion or pull request: that is where the address leads that a client gets for a new one."""
    repo = call.repo()
    item = Discussions(repo).get(call.params["num"])
    said = "".join(
        f"<li><b>{escape(made['author']['name'])}</b>, {made['createdAt']}<pre>{escape(_words(made))}</pre></li>"
        for made in item["events"]
    )
    kind = "Pull request" if item["isPullRequest"] else "Discussion"
    back = f"<a href='/{quote(repo.id)}'>{escape(repo.id)}</a>"
    return _page(f"{item['title']} #{item['num']}", f"<p>{kind}, {item['status']}</p><ol>{said}</ol>{back}")


def _words(made: dict[str, Any]) -> str:
    data = made["data"]
    match made["type"]:
        case "comment":
            return str(data["latest"]["raw"])
        case "title-change":
            return f"{data['from']} → {data['to']}"
        case _:
            return str(data["status"])


def _commit(repo_id: str, commit: Commit) -> str:
    sha = commit.id.decode()
    link = f"/{quote(repo_id)}/commit/{in_url(sha)}"
    words = f"{title_and_message(commit)[0]} — {author_name(commit)}, {commit_date(commit)}"
    return f'<a href="{link}"><code>{sha[:7]}</code></a> {escape(words)}'


def _page(title: str, body: str) -> Response:
    head = f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>"
    style = "<style>body{font:16px sans-serif;max-width:50em;margin:2em auto}td{padding-right:2em}</style>"
    return HTMLResponse(f"{head}{style}<h1>{escape(title)}</h1>{body}", headers=_POLICY)


ROUTES = (
    Route("GET", "/", home),
    Route("GET", "/{ns}/{name}", repo_page),
    Route("GET", "/{ns}/{name}/commit/{rev}", repo_page),
    Route("GET", "/{ns}/{name}/tree/{rev}", repo_page),
    Route("GET", "/{ns}/{name}/discussions/{num}", discussion_page),
)
