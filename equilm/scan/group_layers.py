"""Layers whose features are functions on a group and that are equivariant to its translations (Gordon et al., 2020).

Features f: G → R^K have the shape ``(..., |G|, K)``. An element h acts on words by permuting them and on features by
(h·f)(g) = f(h⁻¹g). The original code is github.com/facebookresearch/Permutation-Equivariant-Seq2Seq.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..actions import TokenAction
from ..groups import Group
from .modeling_scan import State


class WordConv(nn.Module):
    """Embeds a word w as the function g ↦ ψ(g⁻¹w)."""

    def __init__(self, action: TokenAction, size: int):
        super().__init__()
        self.embedding = nn.Embedding(action.vocab_size, size)
        self.inverses = _inverse_permutations(action)

    def forward(self, ids: Tensor) -> Tensor:
        """From ids ``(...)`` to features ``(..., |G|, K)``."""
        return self.embedding(self.inverses.to(ids.device)[:, ids].movedim(0, -1))


class GroupConv(nn.Module):
    """The convolution φ(g) = Σ_h f(h) ψ(g⁻¹h) + b, run as one matrix product over |G|·K features.

    Args:
        group: G.
        inputs: K.
        outputs: K'.
    """

    def __init__(self, group: Group, inputs: int, outputs: int):
        super().__init__()
        self.bound = 1 / math.sqrt(group.order * inputs)
        self.weight = nn.Parameter(torch.empty(group.order, inputs, outputs))  # ψ
        self.bias = nn.Parameter(torch.empty(outputs))
        # quotients[h][g] = g⁻¹h
        quotients = [[group.compose(group.inverse(g), h) for g in group.elements] for h in group.elements]
        self.quotients = torch.tensor(quotients, device="cpu")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform, as PyTorch's layers and cells of |G|·K features."""
        nn.init.uniform_(self.weight, -self.bound, self.bound)
        nn.init.uniform_(self.bias, -self.bound, self.bound)

    def unrolled(self) -> Callable[[Tensor], Tensor]:
        """The layer with its matrix written out once, for all steps of a sequence.

        Returns:
            A function from features ``(n, |G|, K)`` to features ``(n, |G|, K')``.
        """
        blocks = self.weight[self.quotients.to(self.weight.device)]  # (|G| h, |G| g, K, K')
        matrix = blocks.transpose(1, 2).flatten(2).flatten(0, 1)  # (|G|·K, |G|·K')
        bias, order = self.bias, len(self.weight)
        return lambda features: (features.flatten(1) @ matrix).unflatten(1, (order, -1)) + bias


class GroupClassifier(nn.Module):
    """Logits of words from features: z ↦ Σ_g f(g)·ψ(g⁻¹z) + b(z).

    The bias is averaged over each orbit of words. (The original has a separate bias for every word, which is not
    equivariant.)
    """

    def __init__(self, action: TokenAction, size: int):
        super().__init__()
        self.embedding = nn.Embedding(action.vocab_size, size)  # ψ
        self.bias = nn.Parameter(torch.empty(action.vocab_size))
        self.inverses = _inverse_permutations(action)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw uniformly, like PyTorch's linear layer with |G|·K input features."""
        bound = 1 / math.sqrt(len(self.inverses) * self.embedding.embedding_dim)
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def unrolled(self) -> Callable[[Tensor], Tensor]:
        """The layer with its matrix written out once: from features ``(n, |G|, K)`` to logits ``(n, V)``."""
        inverses = self.inverses.to(self.bias.device)
        matrix = self.embedding(inverses).transpose(1, 2).flatten(0, 1)  # (|G|·K, V)
        bias = self.bias[inverses].mean(0)  # (V,)
        return lambda features: features.flatten(1) @ matrix + bias


def _rnn(inputs: Tensor, hidden: Tensor, state: State) -> State:
    return ((inputs + hidden).tanh(),)


def _gru(inputs: Tensor, hidden: Tensor, state: State) -> State:
    (reset_in, update_in, new_in), (reset_h, update_h, new_h) = inputs.chunk(3, -1), hidden.chunk(3, -1)
    new = (new_in + (reset_in + reset_h).sigmoid() * new_h).tanh()
    return (torch.lerp(new, state[0], (update_in + update_h).sigmoid()),)


def _lstm(inputs: Tensor, hidden: Tensor, state: State) -> State:
    enter, forget, new, leave = (inputs + hidden).chunk(4, -1)
    memory = forget.sigmoid() * state[1] + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * memory.tanh(), memory


_GATES: dict[str, tuple[int, Callable[[Tensor, Tensor, State], State]]] = {
    "rnn": (1, _rnn),
    "gru": (3, _gru),
    "lstm": (4, _lstm),
}


class GroupCell(nn.Module):
    """A recurrent cell with PyTorch's equations for functions on a group: G-RNN, G-GRU, G-LSTM.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        group: G.
        size: K, the size of the input and of the state.
    """

    def __init__(self, cell: str, group: Group, size: int):
        super().__init__()
        gates, self.update = _GATES[cell]
        self.from_input = GroupConv(group, size, gates * size)
        self.from_hidden = GroupConv(group, size, gates * size)
        self.parts = 2 if cell == "lstm" else 1

    def unrolled(self) -> Callable[[Tensor, State], State]:
        """The cell with its matrices written out once: from input and state to state, all ``(n, |G|, K)``."""
        from_input, from_hidden = self.from_input.unrolled(), self.from_hidden.unrolled()
        return lambda features, state: self.update(from_input(features), from_hidden(state[0]), state)


def _inverse_permutations(action: TokenAction) -> Tensor:
    """int64, shape ``(|G|, V)``: row g holds g⁻¹v."""
    return action.permutation[[action.group.inverse(g) for g in action.group.elements]]
