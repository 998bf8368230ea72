"""Every file beside the project: read as torch and safetensors read it, or refused with the sentence for its kind."""

import pytest
import safetensors
import torch

from containers.builders import raw
from metta_hub import formats
from metta_hub.containers import copying
from metta_hub.errors import FormatError
from support import SHARED

#: What holds no weights of its own.
OTHER = {".json", ".yaml", ".npz", ".md"}

#: Pattern of a path → what is said of it. Everything else has to be read.
REFUSED = {
    "metta/*/*/old/*.pt": "its pickle asks for",
    "metta/eras/*/old/*.pt": "its pickle asks for",
    "metta/eras/*/model_0005.pt": "its pickle asks for",
    "metta/eras/*/*.pt.old": "its pickle asks for",
    "metta/eras/agent_module_2025_03_20/*.pt": "its pickle asks for agent.lib.action.ActionParam",
    "metta/eras/pickle_policy_record_2025_07_01/*.pt": "its pickle asks for",
    "metta/eras/torch_package_2025_06_23/model_0003.pt": "it is a torch.package, which holds source code",
    "metta/latent_attn_tiny/small_s11/trainer_state.pt": "its entry 'optimizer_state_dict' is a dict, not a tensor",
    "run/trainer_state.pt": "its entry 'optimizer_state_dict' is a dict, not a tensor",
    "real/imitation-*/model.zip": "it holds no data.pkl: not a file that torch.save wrote",
    "real/imitation-*/policy.optimizer.pth": "its entry 'state' is a dict, not a tensor",
    "real/rlcard-*/average_policy.pkl": "a pickle that torch.save did not write",
    "real/rlcard-*/model.pth": "its entry 'nfsp0_dqn_q_estimator' is not a tensor as torch saves one, but a dict",
    "metta/*/*/legacy/*.pt": "_dict' is not a tensor as torch saves one, but a dict",
    "metta/eras/*/legacy/*.pt": "_dict' is not a tensor as torch saves one, but a dict",
}

#: Of those: here the whole dict is the state dict, nothing is wrapped around it.
READ = ("metta/fast/two_action_sets_s4/legacy/model_0012.pt",)

FILES = sorted(path for path in SHARED.rglob("*") if path.is_file() and path.suffix not in OTHER)


def refusal(path):
    relative = path.relative_to(SHARED)
    if str(relative) in READ:
        return None
    return next((says for pattern, says in REFUSED.items() if relative.match(pattern)), None)


def oracle(path, container):
    if container == "safetensors":
        return {name: bytes(tensor["data"]) for name, tensor in safetensors.deserialize(path.read_bytes())}
    loaded = torch.load(path, weights_only=True, map_location="cpu")
    return {name: raw(tensor) for name, tensor in loaded.items()}


@pytest.mark.skipif(not FILES, reason="the shared folder is not beside the project")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHARED)))
def test_every_file_is_read_right_or_refused(path):
    says = refusal(path)
    if says is not None:
        with pytest.raises(FormatError) as caught:
            formats.read(path)
        assert says in str(caught.value)
        return
    found = formats.read(path)
    read = {info.name: bytes(copying.read_tensor(found.weights, info)) for info in found.weights.tensors}
    assert read == oracle(path, found.origin.container)
