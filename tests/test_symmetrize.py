"""The equi-tune transform: equivariant, optimal and a projection, whatever the module, the group and the weights."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import VOCAB_SIZE, token_actions
from torch import Tensor, nn

from equilm.actions import Action, PixelAction, RegularAction, TokenAction, TrivialAction
from equilm.errors import EquiLMError
from equilm.groups import CyclicGroup, DihedralGroup
from equilm.symmetrize import EquiTuned, equi_tune, group_copies, reynolds, transform_back

VOCAB = 12


class TokenScorer(nn.Module):
    """A small causal language model: each position sees the mean of the embeddings so far."""

    def __init__(self, vocab_size: int = VOCAB):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 16)
        self.head = nn.Linear(16, vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embedding(ids).cumsum(1) / torch.arange(1, ids.shape[1] + 1).view(-1, 1).to(self.head.weight)
        return self.head(torch.tanh(hidden))  # (B, T, V)


class TokenCounter(nn.Module):
    """Equivariant without our help: a token's logit is how often it stood in the text so far."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(ids, VOCAB).cumsum(1).to(torch.float64)


class Centre(nn.Module):
    """Equivariant without our help: each pixel relative to the mean of its image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x - x.mean((-2, -1), keepdim=True))


def _convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 3, padding=1))


def _classifier() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, 8), nn.Tanh(), nn.Linear(8, 4))


@dataclass(frozen=True)
class Case:
    """A kind of module, and how the group acts on its input and output."""

    make: Callable[[], nn.Module]
    input_action: Action
    output_action: Action

    def input(self) -> Tensor:
        if isinstance(self.input_action, TokenAction):
            return torch.randint(VOCAB, (3, 6))
        return torch.randn(3, 3, 5, 5, dtype=torch.float64)


def _tokens(*cycles: list[list[int]]) -> Case:
    action = TokenAction.from_cycles(cycles, VOCAB)
    return Case(TokenScorer, action, action.on_logits)


C4, D4 = CyclicGroup(4), DihedralGroup(4)
CASES = {
    "tokens-c2": _tokens([[1, 2], [7, 4]]),
    "tokens-c3": _tokens([[1, 2, 5], [8, 0, 3]]),
    "tokens-c4": _tokens([[9, 2, 5, 1]]),
    "tokens-c2xc3": _tokens([[1, 2]], [[3, 6, 5], [0, 4, 8]]),
    "tokens-c2xc2xc4": _tokens([[1, 2]], [[3, 6]], [[0, 4, 8, 7]]),
    "images-c4": Case(_convolutions, PixelAction(C4), PixelAction(C4)),
    "images-d4": Case(_convolutions, PixelAction(D4), PixelAction(D4)),
    "classes-c4": Case(_classifier, PixelAction(C4), TrivialAction(C4)),
    "classes-d4": Case(_classifier, PixelAction(D4), TrivialAction(D4)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def _double(case: Case) -> EquiTuned:
    return equi_tune(case.make().double(), case.input_action, case.output_action)


def _assert_equivariant(tuned: nn.Module, case: Case, x: Tensor, atol: float = 1e-12) -> None:
    y = tuned(x)
    for h in case.input_action.group.elements:
        expected = case.output_action.act(y, h)
        torch.testing.assert_close(tuned(case.input_action.act(x, h)), expected, atol=atol, rtol=0)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
@each_case
def test_equivariance(case: Case, dtype: torch.dtype, atol: float) -> None:
    tuned = equi_tune(case.make().to(dtype), case.input_action, case.output_action)
    x = case.input()
    x = x.to(dtype) if x.is_floating_point() else x
    assert tuned(x).dtype == dtype
    _assert_equivariant(tuned, case, x, atol)
    # The module itself is far from equivariant, so the check can see the difference.
    with pytest.raises(AssertionError):
        _assert_equivariant(tuned.module, case, x, atol)


@given(token_actions.filter(lambda action: action.group.order <= 24), st.integers(0, 2**31))
def test_equivariance_of_any_token_action(action: TokenAction, seed: int) -> None:
    torch.manual_seed(seed)
    case = Case(lambda: TokenScorer(VOCAB_SIZE), action, action.on_logits)
    _assert_equivariant(_double(case), case, torch.randint(VOCAB_SIZE, (2, 8)))


@each_case
def test_equals_a_slow_loop_of_equation_3(case: Case) -> None:
    tuned, x = _double(case), case.input()
    group = case.input_action.group
    total = torch.zeros(())
    for g in group.elements:
        total = total + case.output_action.act(tuned.module(case.input_action.act(x, g)), group.inverse(g))
    torch.testing.assert_close(tuned(x), total / group.order, atol=1e-12, rtol=0)


def test_formula_for_logits_at_order_3() -> None:
    """φ(x)[v] = 1/|G| Σ_g M(gx)[g·v], spelled out token by token."""
    case = CASES["tokens-c3"]
    tuned, x = _double(case), case.input()
    turn = {1: 2, 2: 5, 5: 1, 8: 0, 0: 3, 3: 8}
    contexts, tokens = [x], [list(range(VOCAB))]
    for _ in range(2):
        contexts.append(contexts[-1].clone().apply_(lambda v: turn.get(v, v)))
        tokens.append([turn.get(v, v) for v in tokens[-1]])
    expected = sum(tuned.module(gx)[..., gv] for gx, gv in zip(contexts, tokens, strict=True)) / 3
    torch.testing.assert_close(tuned(x), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["classes-c4", "classes-d4"])
def test_invariance_with_a_trivial_action_on_the_output(name: str) -> None:
    case = CASES[name]
    tuned, x = _double(case), case.input()
    for h in case.input_action.group.elements:
        torch.testing.assert_close(tuned(case.input_action.act(x, h)), tuned(x), atol=1e-12, rtol=0)


@each_case
def test_a_module_already_equivariant_is_left_as_it_is(case: Case) -> None:
    if isinstance(case.input_action, TokenAction):
        module: nn.Module = TokenCounter()
    elif isinstance(case.output_action, TrivialAction):
        module = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    else:
        module = Centre()
    x = case.input()
    tuned = equi_tune(module, case.input_action, case.output_action)
    torch.testing.assert_close(tuned(x), module(x), atol=1e-12, rtol=0)


@each_case
def test_idempotence(case: Case) -> None:
    once, x = _double(case), case.input()
    twice = equi_tune(once, case.input_action, case.output_action)
    torch.testing.assert_close(twice(x), once(x), atol=1e-12, rtol=0)


@each_case
def test_closest_equivariant_model_in_l2(case: Case) -> None:
    """Equation 1: on an orbit, Σ_g ‖M(gx) - f(gx)‖² is least, among equivariant f, for f = M_G.

    M_G is the orthogonal projection, so any equivariant competitor f is worse by exactly Σ_g ‖M_G(gx) - f(gx)‖².
    """
    tuned, x = _double(case), case.input()
    orbit = [case.input_action.act(x, g) for g in case.input_action.group.elements]

    def distance(one: nn.Module, other: nn.Module) -> Tensor:
        return torch.stack([(one(gx) - other(gx)).square().sum() for gx in orbit]).sum()

    least = distance(tuned.module, tuned)
    for _ in range(5):
        competitor = _double(case)
        gap = distance(tuned, competitor)
        assert gap > 0
        torch.testing.assert_close(distance(tuned.module, competitor), least + gap, atol=0, rtol=1e-9)


def test_half_precision_is_summed_in_float32() -> None:
    outputs = torch.tensor([512.0, 1.0, 1.0, 2.0], dtype=torch.bfloat16).view(4, 1, 1)
    mean = reynolds(outputs, TrivialAction(C4))
    assert mean.dtype == torch.bfloat16
    assert mean.item() == 129  # bfloat16 steps by 4 at 512, so a sum in it would lose the ones


class Weight(nn.Module):
    """λ: positive and far from equivariant."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.inner(x).flatten(1).square().sum(1)  # (n,)
        return weight


@each_case
def test_constant_weights_give_the_plain_transform(case: Case) -> None:
    plain, x = _double(case), case.input()
    weighted = equi_tune(
        plain.module, case.input_action, case.output_action, lambda copies: torch.full((len(copies),), 0.3)
    )
    torch.testing.assert_close(weighted(x), plain(x), atol=1e-6, rtol=0)


@each_case
def test_arbitrary_weights_keep_equivariance_and_follow_their_formula(case: Case) -> None:
    weight = Weight(case.make()).double()
    plain, x = _double(case), case.input()
    weighted = equi_tune(plain.module, case.input_action, case.output_action, weight)
    _assert_equivariant(weighted, case, x)

    group = case.input_action.group
    total, mass = torch.zeros(()), torch.zeros(len(x))
    for g in group.elements:
        gx = case.input_action.act(x, g)
        back = case.output_action.act(plain.module(gx), group.inverse(g))
        total = total + torch.stack([scalar * row for scalar, row in zip(weight(gx), back, strict=True)])
        mass = mass + weight(gx)
    expected = torch.stack([row / scalar for scalar, row in zip(mass, total, strict=True)])
    torch.testing.assert_close(weighted(x), expected, atol=1e-12, rtol=0)
    assert not torch.allclose(weighted(x), plain(x), atol=1e-3)


def test_one_hot_weights_pick_one_element() -> None:
    """With a λ that is one on a single element of each orbit, that element's branch is the output (equizero)."""
    case = CASES["tokens-c3"]
    group, module = case.input_action.group, TokenScorer().double()
    tuned = equi_tune(module, case.input_action, case.output_action, lambda ids: (ids[:, 0] == 1).double())
    x = case.input()
    x[:, 0] = torch.tensor([1, 2, 5])  # the cycle 1 → 2 → 5 → 1: the picked elements are e, g² and g
    for row, g in zip(range(3), (0, 2, 1), strict=True):
        branch = module(case.input_action.act(x[row : row + 1], g))
        expected = case.output_action.act(branch, group.inverse(g))[0]
        torch.testing.assert_close(tuned(x)[row], expected, atol=1e-12, rtol=0)
    _assert_equivariant(tuned, case, x)


def test_module_and_weights_are_registered_and_train() -> None:
    case = CASES["tokens-c2xc3"]
    module, weight = TokenScorer().double(), Weight(TokenScorer()).double()
    tuned = equi_tune(module, case.input_action, case.output_action, weight)
    assert tuned.module is module
    names = {f"module.{name}" for name in module.state_dict()} | {f"weights.{name}" for name in weight.state_dict()}
    assert set(tuned.state_dict()) == names

    x, labels = case.input(), torch.randint(VOCAB, (3, 6))
    before = {name: parameter.detach().clone() for name, parameter in tuned.named_parameters()}
    optimizer = torch.optim.SGD(tuned.parameters(), lr=1.0)
    torch.nn.functional.cross_entropy(tuned(x).flatten(0, 1), labels.flatten()).backward()
    optimizer.step()
    for name, parameter in tuned.named_parameters():
        assert not torch.equal(parameter, before[name]), f"{name} got no gradient"
    _assert_equivariant(tuned, case, x)


def test_eval_reaches_the_module() -> None:
    dropout = nn.Dropout(0.5)
    tuned = equi_tune(dropout, PixelAction(C4), PixelAction(C4)).eval()
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(tuned(x), x)
    assert not tuned.train()(x).equal(x)


@each_case
def test_regular_features_transform_by_the_regular_action(case: Case) -> None:
    """M_G^R(h·x) = h·M_G^R(x), and its mean over the group is M_G(x) (paper, appendix H)."""
    tuned, x = _double(case), case.input()
    regular = RegularAction(case.output_action)

    def features(x: Tensor) -> Tensor:
        outputs = torch.stack([tuned.module(gx) for gx in group_copies(x, case.input_action)])
        return transform_back(outputs, case.output_action)  # (|G|, B, ...)

    y = features(x)
    for h in case.input_action.group.elements:
        torch.testing.assert_close(features(case.input_action.act(x, h)), regular.act(y, h), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.mean(0), tuned(x), atol=1e-12, rtol=0)


@each_case
def test_group_copies_are_indexed_by_the_group(case: Case) -> None:
    x = case.input()
    copies = group_copies(x, case.input_action)
    assert copies.shape == (case.input_action.group.order, *x.shape)
    for g in case.input_action.group.elements:
        assert torch.equal(copies[g], case.input_action.act(x, g))


def test_two_different_groups_are_refused() -> None:
    with pytest.raises(EquiLMError, match=r"acted on by CyclicGroup\(4\), the output by DihedralGroup\(4\)"):
        equi_tune(nn.Identity(), PixelAction(C4), TrivialAction(D4))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_output_that_is_no_tensor_is_refused() -> None:
    tuned = equi_tune(Pair(), PixelAction(C4), PixelAction(C4))
    with pytest.raises(EquiLMError, match="Pair returned a tuple"):
        tuned(torch.randn(1, 3, 4, 4))


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(EquiLMError, match="quarter turn needs square images, got height 4 and width 5"):
        equi_tune(nn.Identity(), PixelAction(C4), PixelAction(C4))(torch.randn(1, 3, 4, 5))


def test_half_precision_is_rounded_once() -> None:
    outputs = torch.randn(3, 2, 500, dtype=torch.bfloat16)
    mean = reynolds(outputs, TrivialAction(CyclicGroup(3)))
    assert torch.equal(mean, (outputs.float().sum(0) / 3).bfloat16())
