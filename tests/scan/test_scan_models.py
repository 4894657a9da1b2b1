"""The models of SCAN: equal to one-sentence references, exactly equivariant, the same in any batch."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from equilm import EquiLMError
from equilm.actions import TokenAction
from equilm.scan import (
    EquiScanConfig,
    EquiScanSeq2Seq,
    GroupScanSeq2Seq,
    ScanSeq2Seq,
    all_commands,
    interpret,
    token_actions,
)
from equilm.scan.configuration_scan import Loss
from equilm.scan.group_layers import GroupConv
from equilm.scan.modeling_scan import ScanPreTrainedModel
from equilm.scan.tokens import ACTION_VOCAB, BOS, EOS, IGNORED, MAX_LENGTH, collate, decode_actions, encode_commands

CELLS = ("rnn", "gru", "lstm")
GROUPS = {"jump_run": 2, "verb": 4, "direction": 2, "verb+direction": 8}
FREE = torch.zeros(1, dtype=torch.bool)


def plain(cell: str, seed: int = 0) -> ScanSeq2Seq:
    torch.manual_seed(seed)
    return cast(ScanSeq2Seq, ScanSeq2Seq(cell=cell, hidden_size=10).eval())


def grouped(cell: str, group: str, seed: int = 0) -> GroupScanSeq2Seq:
    torch.manual_seed(seed)
    return cast(GroupScanSeq2Seq, GroupScanSeq2Seq(cell=cell, group=group, hidden_size=6).eval())


def equi_tuned(cell: str, group: str, decoding: str, seed: int = 0) -> EquiScanSeq2Seq:
    return EquiScanSeq2Seq.from_base(plain(cell, seed), cast(Any, group), cast(Any, decoding))


MODELS: dict[str, Callable[[str], ScanPreTrainedModel]] = {
    "plain": plain,
    "grouped": lambda cell: grouped(cell, "verb"),
    "equi_stepwise": lambda cell: equi_tuned(cell, "verb", "stepwise"),
    "equi_branchwise": lambda cell: equi_tuned(cell, "verb", "branchwise"),
}
EQUIVARIANT: dict[str, Callable[[str, str, int], Any]] = {
    "grouped": grouped,
    "equi_stepwise": lambda cell, group, seed: equi_tuned(cell, group, "stepwise", seed),
    "equi_branchwise": lambda cell, group, seed: equi_tuned(cell, group, "branchwise", seed),
}


def pairs(count: int, seed: int, needed: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Random pairs whose commands have all the ``needed`` words."""
    candidates = [c for c in all_commands() if all(word in c.split() for word in needed)]
    commands = random.Random(seed).sample(candidates, count)
    return [{"commands": command, "actions": interpret(command)} for command in commands]


def act_on_labels(action: TokenAction, labels: Tensor, g: int) -> Tensor:
    return torch.where(labels == IGNORED, IGNORED, action.act(labels.clamp(min=0), g))


# --- References: one sentence, one step, one sum at a time, by the definitions of the papers --------------------------


class Branch:
    """One sentence in a `ScanSeq2Seq`: the decoder of Gordon et al.'s `BasicSeq2Seq`."""

    def __init__(self, model: ScanSeq2Seq, ids: list[int]):
        self.model = model
        outputs, final = model.encoder(model.command_embedding(torch.tensor(ids)))  # (S, 2H)
        self.memory = outputs
        last = [torch.cat([part[0], part[1]]) for part in (final if isinstance(final, tuple) else (final,))]
        self.state = tuple(last) if len(last) == 2 else last[0]

    def step(self, token: int) -> Tensor:
        hidden = self.state[0] if isinstance(self.state, tuple) else self.state
        embedded = self.model.action_embedding(torch.tensor(token))
        context = (self.memory @ hidden).softmax(0) @ self.memory
        self.state = self.model.cell(self.model.combine(torch.cat([embedded, context])).relu(), self.state)
        hidden = self.state[0] if isinstance(self.state, tuple) else self.state
        return self.model.out(hidden).log_softmax(-1)


class GroupBranch:
    """One sentence in a `GroupScanSeq2Seq`: features are one vector for each group element."""

    def __init__(self, model: GroupScanSeq2Seq, ids: list[int]):
        self.model, self.group = model, model.on_commands.group
        words = [self.word(model.command_embedding, model.on_commands, token) for token in ids]
        ahead = self.run(words)
        back = self.run([*reversed(words[:-1]), words[-1]])  # the end of the command stays last
        back_outputs = [*reversed([s[0] for s in back[:-1]]), back[-1][0]]
        self.memory = [torch.cat([a[0], b], 1) for a, b in zip(ahead, back_outputs, strict=True)]  # (|G|, 2H) each
        self.state = tuple(torch.cat([a, b], 1) for a, b in zip(ahead[-1], back[-1], strict=True))

    def word(self, layer: Any, action: TokenAction, token: int) -> Tensor:
        inverse = [self.group.inverse(g) for g in self.group.elements]
        return torch.stack([layer.embedding.weight[action.permutation[g, token]] for g in inverse])  # (|G|, K)

    def conv(self, layer: GroupConv, f: Tensor) -> Tensor:
        group, weight = self.group, layer.weight
        return torch.stack(
            [
                sum((f[h] @ weight[group.compose(group.inverse(g), h)] for h in group.elements), layer.bias)
                for g in group.elements
            ]
        )

    def cell(self, layer: Any, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        a, b = self.conv(layer.from_input, x), self.conv(layer.from_hidden, state[0])
        if self.model.config.cell == "rnn":
            return ((a + b).tanh(),)
        if self.model.config.cell == "gru":
            (ra, za, na), (rb, zb, nb) = a.chunk(3, 1), b.chunk(3, 1)
            z = (za + zb).sigmoid()
            return ((1 - z) * (na + (ra + rb).sigmoid() * nb).tanh() + z * state[0],)
        i, f, n, o = (a + b).chunk(4, 1)
        c = f.sigmoid() * state[1] + i.sigmoid() * n.tanh()
        return o.sigmoid() * c.tanh(), c

    def run(self, words: list[Tensor]) -> list[tuple[Tensor, ...]]:
        state = tuple(torch.zeros_like(words[0]) for _ in range(2 if self.model.config.cell == "lstm" else 1))
        states = []
        for word in words:
            state = self.cell(self.model.encoder, word, state)
            states.append(state)
        return states

    def step(self, token: int) -> Tensor:
        model, elements = self.model, self.group.elements
        weights = torch.stack([(self.state[0] * entry).sum() for entry in self.memory]).softmax(0)
        context = sum((w * entry for w, entry in zip(weights, self.memory, strict=True)), torch.zeros(()))
        embedded = self.word(model.action_embedding, model.on_actions, token)
        mixed = self.conv(model.combine, torch.cat([embedded, context], 1)).tanh()
        self.state = self.cell(model.cell, mixed, self.state)
        logits = torch.zeros(ACTION_VOCAB)
        for z in range(ACTION_VOCAB):
            for g in elements:
                moved = model.on_actions.permutation[self.group.inverse(g), z]
                bias = model.out.bias[moved] / len(elements)
                logits[z] += self.state[0][g] @ model.out.embedding.weight[moved] + bias
        return logits.log_softmax(-1)


def decode(step: Callable[[int], Tensor], labels: list[int], forced: bool) -> Tensor:
    """The log-probabilities at the labels, shape ``(T, V)``; fed the labels, or what was predicted."""
    rows, token = [], BOS
    for label in labels:
        rows.append(step(token))
        token = label if forced else int(rows[-1].argmax())
    return torch.stack(rows)


def reference(model: ScanPreTrainedModel, ids: list[int], labels: list[int], forced: bool) -> Tensor:
    if isinstance(model, ScanSeq2Seq):
        return decode(Branch(model, ids).step, labels, forced)
    if isinstance(model, GroupScanSeq2Seq):
        return decode(GroupBranch(model, ids).step, labels, forced)
    assert isinstance(model, EquiScanSeq2Seq)
    on_commands, on_actions = model.on_commands.permutation, model.on_actions.permutation
    branches = [Branch(model.base, row[torch.tensor(ids)].tolist()) for row in on_commands]
    if model.config.decoding == "stepwise":

        def step(token: int) -> Tensor:
            outputs = [branch.step(int(row[token])) for branch, row in zip(branches, on_actions, strict=True)]
            return (
                torch.stack([output[row] for output, row in zip(outputs, on_actions, strict=True)])
                .mean(0)
                .log_softmax(-1)
            )

        return decode(step, labels, forced)
    outputs = []
    for branch, row in zip(branches, on_actions, strict=True):
        output = decode(branch.step, row[torch.tensor(labels)].tolist(), forced)
        predicted = output.argmax(-1).tolist()
        if EOS in predicted and not forced:
            output[predicted.index(EOS) + 1 :] = 0
        outputs.append(output[:, row])
    return torch.stack(outputs).mean(0).log_softmax(-1)


def batch_and_rows(seed: int, count: int = 6) -> tuple[dict[str, Tensor], list[tuple[list[int], list[int]]]]:
    batch = collate(pairs(count, seed))
    rows = []
    for ids, mask, labels in zip(*batch.values(), strict=True):
        rows.append((ids[mask.bool()].tolist(), labels[labels != IGNORED].tolist()))
    return batch, rows


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_a_batch_equals_the_reference_sentence_by_sentence(kind: str, cell: str) -> None:
    model = MODELS[kind](cell)
    batch, rows = batch_and_rows(seed=len(kind) + len(cell))
    forced = torch.arange(len(rows)) % 2 == 0
    output = model(**batch, teacher_forced=forced)
    losses = []
    for logits, (ids, labels), is_forced in zip(output.logits, rows, forced.tolist(), strict=True):
        expected = reference(model, ids, labels, is_forced)
        torch.testing.assert_close(logits[: len(labels)], expected, atol=1e-5, rtol=1e-5)
        assert not logits[len(labels) :].any()
        losses.append(-expected[torch.arange(len(labels)), labels])
    torch.testing.assert_close(output.loss, torch.cat(losses).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_generate_equals_the_reference(kind: str, cell: str) -> None:
    model = MODELS[kind](cell)
    if kind == "plain":  # so that some sentences end early
        cast(ScanSeq2Seq, model).out.bias[EOS] += 1.0
    batch, rows = batch_and_rows(seed=3)
    generated = model.generate(batch["input_ids"], batch["attention_mask"])
    for row, (ids, _) in zip(generated.tolist(), rows, strict=True):
        expected = reference(model, ids, [EOS] * MAX_LENGTH, forced=False).argmax(-1).tolist()
        if EOS in expected:
            end = expected.index(EOS)
            assert set(row[end:]) <= {EOS}
            row, expected = row[:end], expected[:end]
        assert row == expected[: len(row)] and len(row) == len(expected)


# --- Equivariance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", EQUIVARIANT)
@torch.no_grad()
def test_equivariant(kind: str, cell: str, group: str) -> None:
    seed = int(torch.seed() % 2**31)  # fresh weights and commands in every run
    model = EQUIVARIANT[kind](cell, group, seed)
    on_commands, on_actions = token_actions(group)
    batch = collate(pairs(8, seed))
    logits = model(**batch).logits
    assert on_commands.group.order == GROUPS[group]
    for g in on_commands.group.elements:
        moved = {
            "input_ids": on_commands.act(batch["input_ids"], g),
            "attention_mask": batch["attention_mask"],
            "labels": act_on_labels(on_actions, batch["labels"], g),
        }
        expected = on_actions.act_on_logits(logits, g)
        torch.testing.assert_close(model(**moved).logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_plain_model_misses_equivariance_clearly() -> None:
    model, (on_commands, on_actions) = plain("lstm"), token_actions("verb")
    batch = collate(pairs(8, 0, ("jump",)))
    moved = {**batch, "input_ids": on_commands.act(batch["input_ids"], 1)}
    moved["labels"] = act_on_labels(on_actions, batch["labels"], 1)
    assert (model(**moved).logits - on_actions.act_on_logits(model(**batch).logits, 1)).abs().max() > 0.1


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kind", EQUIVARIANT)
@torch.no_grad()
def test_greedy_translations_are_equivariant(kind: str, group: str) -> None:
    # In float64, since an untrained model's best two actions may be closer than float32 can tell; and with commands
    # that no element but the identity fixes, since the others have exact ties, which argmax breaks in one way.
    model = EQUIVARIANT[kind]("gru", group, 0).double()
    on_commands, on_actions = token_actions(group)
    for name, parameter in model.named_parameters():
        parameter *= 2  # livelier translations,
        if name.endswith("out.bias"):
            parameter[on_actions.moved] += 1  # and of words that the group moves
    needed = {"direction": ("left",), "verb+direction": ("jump", "left")}.get(group, ("jump",))
    ids, mask = encode_commands([pair["commands"] for pair in pairs(16, 1, needed)])
    translated = model.generate(ids, mask)
    for g in on_commands.group.elements:
        assert g == 0 or not torch.equal(on_actions.act(translated, g), translated), "or the next line says nothing"
        assert torch.equal(model.generate(on_commands.act(ids, g), mask), on_actions.act(translated, g))


# --- Batches, strings and files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_padding_and_neighbors_change_nothing(kind: str) -> None:
    model = MODELS[kind]("lstm").double()
    rows = pairs(9, seed=4)
    together = model(**collate(rows)).logits
    translated = model.translate([row["commands"] for row in rows], batch_size=4)
    for place, row in enumerate(rows):
        alone = model(**collate([row])).logits[0]
        torch.testing.assert_close(together[place, : len(alone)], alone, atol=1e-9, rtol=0)
        assert model.translate([row["commands"]]) == [translated[place]]


def test_translate_is_generate_in_words_and_exact_match_counts() -> None:
    model = plain("gru").train()
    rows = pairs(5, seed=5)
    ids, mask = encode_commands([row["commands"] for row in rows])
    translated = model.translate([row["commands"] for row in rows])
    assert model.training
    assert translated == decode_actions(model.eval().generate(ids, mask))
    right = [{"commands": row["commands"], "actions": found} for row, found in zip(rows, translated, strict=True)]
    assert model.exact_match(right) == 1.0 and model.exact_match(rows) == 0.0
    assert model.exact_match(right[:2] + rows[2:]) == 0.4


@pytest.mark.parametrize("kind", MODELS)
def test_training_forces_a_share_of_the_sentences(kind: str) -> None:
    model, batch = MODELS[kind]("gru"), collate(pairs(6, seed=6))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    free, forced = (model(**batch, teacher_forced=torch.full((6,), value)).logits for value in (False, True))
    assert not torch.allclose(free, forced)
    torch.testing.assert_close(model(**batch).logits, forced)
    model.train()
    torch.manual_seed(1)
    drawn = torch.rand(6) < model.config.teacher_forcing
    assert 0 < drawn.sum() < 6
    torch.manual_seed(1)
    torch.testing.assert_close(model(**batch).logits, torch.where(drawn[:, None, None], forced, free))


@pytest.mark.parametrize("kind", MODELS)
def test_every_weight_gets_a_gradient(kind: str) -> None:
    model = MODELS[kind]("lstm").train()
    model(**collate(pairs(6, seed=7))).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_save_and_load(kind: str, tmp_path: Path) -> None:
    model, batch = MODELS[kind]("gru"), collate(pairs(4, seed=8))
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    loaded: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is type(model) and loaded.config.to_diff_dict() == model.config.to_diff_dict()
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)


def test_equi_tuning_shares_the_base() -> None:
    base = plain("gru")
    weights = {name: value.clone() for name, value in base.state_dict().items()}
    model = EquiScanSeq2Seq.from_base(base, "direction")
    assert model.base is base and model.config.cell == "gru" and model.config.hidden_size == 10
    assert all(torch.equal(base.state_dict()[name], value) for name, value in weights.items())


# --- Refusals ---------------------------------------------------------------------------------------------------------


def test_words_outside_the_language_are_refused() -> None:
    model = plain("gru").train()
    with pytest.raises(EquiLMError, match="word 'hop' in the command 'hop twice'"):
        model.translate(["jump", "hop twice"])
    assert model.training
    with pytest.raises(EquiLMError, match="'JUMP' in 'I_RUN JUMP' is not an action"):
        collate([{"commands": "jump", "actions": "I_RUN JUMP"}])


def test_padding_on_the_left_is_refused() -> None:
    model, ids = plain("gru"), torch.full((1, 4), 3)
    for mask in (torch.tensor([[0, 1, 1, 1]]), torch.ones(1, 3, dtype=torch.long)):
        with pytest.raises(EquiLMError, match=r"shape of input_ids, \(1, 4\), .* Pad on the right"):
            model.generate(ids, mask)
        with pytest.raises(EquiLMError, match="Pad on the right"):
            model(input_ids=ids, attention_mask=mask, labels=ids)


@pytest.mark.parametrize("decoding", ["stepwise", "branchwise"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_of_the_branches_is_the_mean_of_theirs(cell: str, decoding: str) -> None:
    base = ScanSeq2Seq(cell=cell, hidden_size=10, dropout=0.0)
    model = EquiScanSeq2Seq.from_base(base, "verb", cast(Any, decoding), "branches").train()
    batch, forced = collate(pairs(6, seed=3)), torch.ones(6, dtype=torch.bool)
    losses = [
        base(
            model.on_commands.act(batch["input_ids"], g),
            act_on_labels(model.on_actions, batch["labels"], g),
            batch["attention_mask"],
            forced,
        ).loss
        for g in range(model.on_actions.group.order)
    ]
    assert len({round(float(loss.detach()), 5) for loss in losses}) > 1
    torch.testing.assert_close(model(**batch, teacher_forced=forced).loss, torch.stack(losses).mean())


def test_the_loss_changes_training_alone() -> None:
    base = ScanSeq2Seq(hidden_size=10, dropout=0.0)
    batch = {**collate(pairs(6, seed=4)), "teacher_forced": torch.ones(6, dtype=torch.bool)}
    average, branches = (EquiScanSeq2Seq.from_base(base, "verb", loss=loss) for loss in get_args(Loss))
    assert torch.equal(branches(**batch).logits, average(**batch).logits)
    assert torch.equal(branches(**batch).loss, average(**batch).loss)
    # Normalising adds to every log-probability.
    assert branches.train()(**batch).loss > average.train()(**batch).loss + 1e-4


def test_an_accuracy_on_nothing_is_refused() -> None:
    with pytest.raises(EquiLMError, match="accuracy on no pairs"):
        plain("gru").exact_match([])


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(EquiLMError, match="cell='transformer' is unknown: expected one of rnn, gru, lstm"):
        ScanSeq2Seq(cell="transformer")
    with pytest.raises(EquiLMError, match="'verbs' is not a group on SCAN: expected one of jump_run, verb, direction"):
        GroupScanSeq2Seq(group="verbs")
    with pytest.raises(EquiLMError, match="decoding='beam' is unknown: expected one of stepwise, branchwise"):
        EquiScanConfig(decoding="beam")
    with pytest.raises(EquiLMError, match="loss='sum' is unknown: expected one of average, branches"):
        EquiScanConfig(loss="sum")
    with pytest.raises(EquiLMError, match="hidden_size must be at least 1, got 0"):
        ScanSeq2Seq(hidden_size=0)
    with pytest.raises(EquiLMError, match=r"dropout is a share: expected a number in 0 … 1, got 1.5"):
        ScanSeq2Seq(dropout=1.5)
    with pytest.raises(EquiLMError, match="equi-tunes a ScanSeq2Seq, got a GroupScanSeq2Seq"):
        EquiScanSeq2Seq.from_base(cast(Any, grouped("gru", "verb")), "verb")
