"""The policy store: the names and the behaviour that Metta's document promises, on top of the verbs in `api`.

Source: specification of Metta's checkpoints, sections 2.1 to 2.4; where Metta's own store is plainly wrong (2.4, 2.5),
this one is not, and `tests/flows/test_store.py` says why.
"""

from metta_hub.store.policy_metadata import PolicyMetadata
from metta_hub.store.policy_record import PolicyRecord
from metta_hub.store.policy_store import PolicyStore

__all__ = ["PolicyMetadata", "PolicyRecord", "PolicyStore"]
