"""A head takes over what another one has learned of the landmarks that both know."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainer.heads.head import Head

_ROWS = ("weight", "bias")
"""The tensors of heads that hold as many numbers for each landmark, in the landmarks' order."""


@torch.no_grad()
def take_known_landmarks(
    head: Head, landmarks: Sequence[str], learned: Mapping[str, Tensor], known: Sequence[str]
) -> int:
    """Copy centers and biases of the landmarks that both heads know; others stay as they are.

    Args:
        head: It takes them.
        landmarks: Its landmarks, in the order of its classes.
        learned: The state of the other head, by name.
        known: The landmarks of that one.

    Returns:
        How many landmarks were taken; none from a head with other tensors, or with centers of
        another number or length.
    """
    own = {name: tensor for name, tensor in head.named_parameters() if name in _ROWS}
    sizes = {name: tensor.numel() // len(landmarks) for name, tensor in own.items()}
    theirs = {name: learned[name] for name in _ROWS if name in learned}
    if sizes != {name: tensor.numel() // len(known) for name, tensor in theirs.items()}:
        return 0
    places = {landmark: place for place, landmark in enumerate(known)}
    pairs = [(new, places[mark]) for new, mark in enumerate(landmarks) if mark in places]
    if pairs:
        to, of = torch.tensor(pairs).T
        for name, tensor in own.items():
            rows = theirs[name].view(len(known), -1)[of].to(tensor.device)
            tensor.view(len(landmarks), -1)[to.to(tensor.device)] = rows
    return len(pairs)
