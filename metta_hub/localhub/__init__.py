"""The embedded Hub: a Hub for trying things and for tests.

Real git repositories and LFS objects in a folder, behind the Hugging Face Hub's HTTP API, on loopback only.
It knows nothing of checkpoints.

    with Server(Path("hub")) as server:
        api = HfApi(endpoint=server.endpoint, token=server.token)
        api.create_repo("org/nav")
"""

from metta_hub.localhub.asgi import app
from metta_hub.localhub.chaos import Chaos
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.requestlog import LoggedRequest
from metta_hub.localhub.server import Server
from metta_hub.localhub.store import LocalHub

__all__ = ["Chaos", "Limits", "LocalHub", "LoggedRequest", "Server", "app"]
