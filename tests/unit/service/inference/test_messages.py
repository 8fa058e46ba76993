"""What crosses between the processes of a service arrives as it was."""

import asyncio
import pickle
import threading
from pathlib import Path

import pytest

from embedder.errors import ArtifactDamagedError, ArtifactMismatchError, PictureUndecodableError
from service.inference.errors import OverloadedError
from service.inference.messages import portable, receive, receive_async, send, socket_pair


def test_messages_of_any_size_arrive_in_order() -> None:
    """Also those that no buffer holds."""
    ours, theirs = socket_pair()
    messages = [b"", b"x" * (9 << 20), {"a": (1, 2.5, None)}]

    def speak() -> None:
        for message in messages:
            send(theirs, message)
        theirs.close()

    thread = threading.Thread(target=speak)
    thread.start()
    assert [receive(ours) for _ in messages] == messages
    with pytest.raises(EOFError):
        receive(ours)
    thread.join()
    ours.close()


def test_a_message_is_read_on_the_event_loop() -> None:
    """Whole, or not at all."""

    async def scene() -> None:
        ours, theirs = socket_pair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        await asyncio.to_thread(send, theirs, b"y" * (3 << 20))
        assert len(await receive_async(reader)) == 3 << 20
        theirs.sendall(b"half")
        theirs.close()
        with pytest.raises(EOFError):
            await receive_async(reader)
        writer.close()

    asyncio.run(scene())


@pytest.mark.parametrize(
    "error",
    [
        ArtifactDamagedError(Path("a"), "it is short"),
        ArtifactMismatchError("digest", expected="a", found="b"),
        PictureUndecodableError("it is empty"),
        OverloadedError("full", 2.5),
        ValueError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_kind_its_text_and_its_facts(error: Exception) -> None:
    """Whatever arguments made it."""
    with pytest.raises(type(error)) as caught:
        raise error
    copy = pickle.loads(pickle.dumps(portable(caught.value)))  # noqa: S301 - as it is sent
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) | {"__notes__": None} == vars(error) | {"__notes__": None}
    assert "test_messages.py" in copy.__notes__[0]


def test_an_error_that_cannot_be_pickled_becomes_its_text() -> None:
    """For the log."""
    error = OSError("odd")
    error.held = threading.Lock()  # type: ignore[attr-defined] # anything that is not pickled
    copy = portable(error)
    assert type(copy) is RuntimeError
    assert str(copy) == "OSError: odd"
