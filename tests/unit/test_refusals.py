"""What the client raises, as a user reads it."""

import pytest

from metta_hub import errors
from metta_hub.hub.refusals import Published, Question, explained
from metta_hub.hub.tokens import NO_TOKEN

ASKED = Question("org/nav", None, "https://hub.example", NO_TOKEN, Published.NOT_YET)


def told(error: Exception, cause: Exception) -> errors.MettaHubError:
    with pytest.raises(errors.MettaHubError) as caught, explained(ASKED):
        raise error from cause
    return caught.value


def test_a_connection_that_broke_under_several_threads_is_no_answer():
    """The client closes what its threads share; the others then hear this, after it has tried again in vain."""
    closed = RuntimeError("Cannot send a request, as the client has been closed.")
    found = told(RuntimeError("Error while uploading 'model_0001.pt' to the Hub."), closed)
    assert isinstance(found, errors.HubUnreachableError)
    sentence = "No answer from the Hub at https://hub.example (the connection broke); nothing was published."
    assert (str(found), found.hint) == (sentence, "run the same command again, nothing is sent twice")


def test_no_error_shows_what_signs_a_link():
    link = "http://127.0.0.1:1/api/lfs/org/nav/put?oid=1&signature=secret"
    found = told(RuntimeError("Error while uploading"), RuntimeError(f"while requesting '{link}', broken"))
    assert "secret" not in str(found)
    assert "http://127.0.0.1:1/api/lfs/org/nav/put', broken" in str(found)
