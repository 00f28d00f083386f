"""Training: it learns, it resumes to the same bits, and it refuses what cannot work."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nomul.errors import InputError
from nomul.model.store import load_model, save_model
from nomul.model.text import decode, encode, read_text, split, windows
from nomul.model.training import Progress, TrainingConfig, loss_on, soft_targets, train
from nomul.model.transformer import Quantise, Transformer, TransformerConfig
from nomul.quantize.bitnet import scaled_ternary
from nomul.quantize.bwta import LEVELS

CHARACTERS = "abcdef"
CONFIG = TransformerConfig(len(CHARACTERS), width=16, layers=1, heads=2, kv_heads=1, head_dim=8, ffn=24, context=16)
RUN = TrainingConfig(steps=6, batch=4, interval=2, warmup=2)
CPU = torch.device("cpu")
TOKENS = encode("abcdef" * 40, CHARACTERS)


def run(path: Path, config: TransformerConfig = CONFIG, training: TrainingConfig = RUN, **more) -> tuple:
    return train(config, training, TOKENS, TOKENS[:50], path, CPU, **more)


def weights_of(model: Transformer) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def same(a: Transformer, b: Transformer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights_of(a).values(), weights_of(b).values(), strict=True))


@pytest.mark.parametrize("group", [5, 6, 0])
def test_scales_of_groups_are_trained_and_kept(tmp_path: Path, group: int) -> None:
    config = replace(CONFIG, group=group, activations="float")
    model, _ = run(tmp_path / "state", config)
    weight = model.model.blocks[0].mlp.down_proj.weight.detach()
    size = group or weight.shape[1]
    codes, scales = scaled_ternary(weight, size)
    for row, (real, found) in enumerate(zip(weight, codes, strict=True)):
        for number, part in enumerate(real.split(size)):
            mean = part.abs().mean()
            assert torch.isclose(scales[row, number], mean)
            expected = (part / mean).round().clamp(-1, 1)
            assert torch.equal(found[number * size : number * size + len(part)].round(), expected)
    save_model(tmp_path / "model", model)
    again, _ = load_model(tmp_path / "model")
    assert again.config.activations == "float"
    torch.testing.assert_close(again(TOKENS[None, :16]), model.eval()(TOKENS[None, :16]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("linear", ["ternary", "float", "bwta"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, linear: str) -> None:
    config = replace(CONFIG, linear=linear)
    whole, _ = run(tmp_path / "whole", config)

    def kill_at_five(step: int, report: Progress | None) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", config, on_step=kill_at_five)
    steps: list[int] = []
    resumed, progress = run(tmp_path / "killed", config, on_step=lambda step, report: steps.append(step))
    assert steps == [5, 6] and progress.step == 6
    assert same(whole, resumed)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "whole"]


def test_a_seed_gives_the_same_model_and_another_another(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "1")
    second, _ = run(tmp_path / "2")
    other, _ = run(tmp_path / "3", training=replace(RUN, seed=2))
    assert same(first, second) and not same(first, other)


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "state")
    with pytest.raises(
        InputError, match=r"state is the state of another run \(steps, seed differ\); delete it or keep"
    ):
        run(tmp_path / "state", training=replace(RUN, steps=9, seed=4))
    with pytest.raises(InputError, match=r"\(width differ\)"):
        run(tmp_path / "state", replace(CONFIG, width=24))


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "state"
    run(path)
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(InputError, match=r"state is no training state \(\w+\); delete it to start afresh$"):
        run(path)


def test_training_learns_a_pattern_and_keeps_the_best(tmp_path: Path) -> None:
    training = TrainingConfig(steps=60, batch=8, interval=10, warmup=5, learning_rate=1e-2, dropout=0.0)
    reports: list[Progress] = []
    model, progress = run(
        tmp_path / "state", training=training, on_step=lambda step, report: report and reports.append(report)
    )
    assert progress.best_loss < 0.5 < reports[0].validation_loss
    assert progress.best_loss == min(report.validation_loss for report in reports)
    assert loss_on(model, TOKENS[:50]) == pytest.approx(progress.best_loss)


def test_bwta_ends_with_ternary_activations(tmp_path: Path) -> None:
    training = TrainingConfig(steps=20, batch=4, interval=20, warmup=2)
    model, _ = run(tmp_path / "state", replace(CONFIG, linear="bwta"), training)
    quantisers = [m for m in model.modules() if isinstance(m, Quantise)]
    assert {int(q.bound) for q in quantisers} == {1}
    codes, _ = quantisers[0](torch.randn(5, 16))
    assert set(codes.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_bwta_stages_go_down_two_levels_at_a_time() -> None:
    training = TrainingConfig(steps=1400)
    seen = [levels for levels, _ in itertools.groupby(training.levels(step) for step in range(1400))]
    assert tuple(seen) == LEVELS
    assert sum(training.levels(step) == 3 for step in range(1400)) == 700


def test_soft_targets_are_the_teachers_mean() -> None:
    torch.manual_seed(1)
    teachers = [Transformer(replace(CONFIG, linear="float")).eval() for _ in range(2)]
    tokens = TOKENS[:75]
    table = soft_targets(teachers, tokens).float()
    assert table.shape == (74, 6)
    assert torch.allclose(table.sum(-1), torch.ones(74), atol=2e-3)
    with torch.no_grad():
        for start in (0, 8, 58):
            mean = sum(t(tokens[start : start + 16][None])[0].softmax(-1) for t in teachers) / 2
            fresh = slice(0 if start == 0 else 8, 16)
            assert torch.allclose(table[start : start + 16][fresh], mean[fresh], atol=2e-3)


def test_a_teacher_changes_the_training(tmp_path: Path) -> None:
    teacher = Transformer(replace(CONFIG, linear="float"))
    taught, _ = run(tmp_path / "1", teachers=[teacher])
    plain, _ = run(tmp_path / "2")
    assert not same(taught, plain)


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("steps", 0, r"^steps is 0; it must be 1 or more$"),
        ("dropout", 1.0, r"^dropout is 1\.0; it must be at least 0 and below 1$"),
        ("learning_rate", 0.0, r"^learning_rate is 0\.0; it must be greater than 0$"),
        ("soft_share", 1.5, r"^soft_share is 1\.5; it must be from 0 to 1$"),
    ],
)
def test_wrong_training_values_are_refused(field: str, value: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(RUN, **{field: value})


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("width", 0, r"^width is 0; it must be a whole number of 1 or more$"),
        ("heads", 3, r"^heads is 3; it must be a multiple of kv_heads, 2$"),
        ("head_dim", 7, r"^head_dim is 7; rotary embedding needs an even number$"),
        ("activation", "gelu", r"^activation is 'gelu'; it must be one of relu2, silu$"),
        ("linear", "int2", r"^linear is 'int2'; it must be one of ternary, float, bwta, mixpe, int4$"),
        ("vocabulary", 0, r"^vocabulary is 0; it must be a whole number of 1 or more$"),
    ],
)
def test_wrong_model_values_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CONFIG, heads=4, kv_heads=2, **{field: value}) if field != "heads" else replace(
            CONFIG, heads=3, kv_heads=2
        )


def test_a_text_shorter_than_a_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^the text has 10 training and 50 validation characters; a context of 16"):
        train(CONFIG, RUN, TOKENS[:10], TOKENS[:50], tmp_path / "state", CPU)


def test_text_becomes_tokens_and_back() -> None:
    assert decode(encode("fade", CHARACTERS), CHARACTERS) == "fade"
    with pytest.raises(InputError, match=r"^the character 'z' at position 2 is not one of the model's 6: 'abcdef'$"):
        encode("abz", CHARACTERS)


def test_split_and_windows_cover_every_character_once() -> None:
    first, rest = split("x" * 95)
    assert (len(first), len(rest)) == (85, 10)
    tokens = torch.arange(50)
    pairs = windows(tokens, 16)
    assert torch.cat([y.flatten() for _, y in pairs]).tolist() == list(range(1, 50))
    assert all(torch.equal(x + 1, y) for x, y in pairs)
    assert [tuple(x.shape) for x, _ in pairs] == [(3, 16), (1, 1)]
    with pytest.raises(InputError, match=r"^the text has 1 token; at least 2 are needed to predict one$"):
        windows(tokens[:1], 16)


def test_unreadable_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc\xff")
    with pytest.raises(InputError, match=re.escape("is not UTF-8 text: byte 3 is wrong")):
        read_text(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(InputError, match=r"is empty; it must hold text$"):
        read_text(tmp_path / "b")
