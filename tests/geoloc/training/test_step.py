"""A chunk at a time against plain backpropagation through the whole batch, and what a step may not change."""

import copy
import dataclasses

import jaxtyping
import numpy as np
import pytest
import torch
from apart import apart
from torch import nn

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.spec import EncoderSpec
from geoloc.training.augment import Augmentation, Varied, draw, vary
from geoloc.training.compiled import compile_blocks
from geoloc.training.learner import Learner, checkpointed, optimizer_of
from geoloc.training.objective import Objective
from geoloc.training.ranks import Ranks
from geoloc.training.recipe import TrainConfig
from geoloc.training.step import Stepper, both_views, parts_of

B = 12
ALL = np.arange(B)


def config_of(tiny_spec: EncoderSpec, **changes: object) -> TrainConfig:
    layer_norms = dataclasses.replace(tiny_spec, backbone="test_convnext", stage=1, **changes)  # type: ignore[arg-type]
    return TrainConfig(layer_norms, batch=B, neighbours=0, precision="float32")


def learner_of(config: TrainConfig) -> Learner:
    torch.manual_seed(0)
    return Learner(TwinEncoder(config.model), Objective(config, apart(B)), config.ema).train()


def chunks_of(config: TrainConfig, size: int) -> list[Varied]:
    """The same batch of noise, by chunks."""
    rng, spec = np.random.default_rng(1), config.model
    h, w = spec.street_hw
    canvases = rng.integers(0, 256, (B, 4, h * 3 // 2, w), np.uint8)
    canvases[:, 3] = 255
    tiles = rng.integers(0, 256, (B, spec.satellite_px + 8, spec.satellite_px + 8, 3), np.uint8)
    drawn = draw(B, spec, Augmentation(), rng)
    parts = np.arange(B).reshape(-1, size)
    images = torch.from_numpy(canvases), torch.from_numpy(tiles)
    return [vary(*(one[rows] for one in images), spec, drawn.of(rows)) for rows in parts]


def stepper_of(learner: Learner, config: TrainConfig, **changes: object) -> Stepper:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Stepper(learner, optimizer_of(learner, config), scaler, torch.float32, **changes)  # type: ignore[arg-type]


def gradients_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}


def plain(learner: Learner, batch: list[Varied]) -> tuple[float, dict[str, torch.Tensor]]:
    """Ordinary backpropagation: each chunk through the encoders, one graph, one backward."""
    learner = copy.deepcopy(learner)
    bins = [both_views(learner.encoder, part.street, part.satellite) for part in batch]
    street, satellite = (torch.cat(view) for view in zip(*bins, strict=True))
    starts = np.cumsum([0, *(len(part.turn) for part in batch)])
    whole = Varied(
        turn=torch.cat([part.turn for part in batch]),
        owner=torch.cat([part.owner + int(at) for part, at in zip(batch, starts, strict=False)]),
        windows=torch.cat([part.windows for part in batch]),
        street=torch.cat([part.street for part in batch]),
        satellite=torch.cat([part.satellite for part in batch]),
    )
    loss = learner.objective(street, satellite, whole, ALL)
    loss.backward()
    return float(loss.detach()), gradients_of(learner)


def assert_close(
    ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], within: float = 1e-5
) -> None:
    """To a share of the largest number of each gradient."""
    assert ours.keys() == theirs.keys()
    for name, want in theirs.items():
        assert (ours[name] - want).abs().max() <= within * max(1.0, float(want.abs().max())), name


@pytest.mark.parametrize("loss", ["infonce", "triplet"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [12, 4, 1])
def test_chunks_have_the_gradient_of_the_batch(
    tiny_spec: EncoderSpec, loss: str, shared: bool, size: int
) -> None:
    config = dataclasses.replace(config_of(tiny_spec, shared=shared), loss=loss)  # type: ignore[arg-type]
    learner = learner_of(config)
    wanted, theirs = plain(learner, chunks_of(config, B))
    learner.objective.config = dataclasses.replace(config, chunk=size % B)  # type: ignore[union-attr, assignment]
    got = stepper_of(learner, config).gradients(chunks_of(config, size) * 2, B // size, ALL, seed=3)
    assert got == pytest.approx(wanted, rel=1e-5)
    assert max(float(one.abs().max()) for one in theirs.values()) > 1e-2
    assert_close(gradients_of(learner), theirs)


def test_a_batch_norm_sees_chunks(tiny_spec: EncoderSpec) -> None:
    """Equal to one graph over the chunks, whose statistics are their own; the running ones move once."""
    config = TrainConfig(tiny_spec, batch=B, neighbours=0)
    learner, batch = learner_of(config), chunks_of(config, 4)
    wanted, theirs = plain(learner, batch)
    once = copy.deepcopy(learner)
    for part in batch:
        both_views(once.encoder, part.street, part.satellite)
    assert stepper_of(learner, config).gradients(batch * 2, 3, ALL, seed=3) == pytest.approx(wanted, rel=1e-5)
    assert_close(gradients_of(learner), theirs)
    for (name, ours), want in zip(learner.encoder.named_buffers(), once.encoder.buffers(), strict=True):
        assert torch.allclose(ours.float(), want.float(), atol=1e-6), name
    assert plain(learner, chunks_of(config, B))[0] != pytest.approx(wanted, rel=1e-3)


def test_random_layers_draw_the_same_twice(tiny_spec: EncoderSpec) -> None:
    """With drop-out in the encoders: the gradient is that of the loss that is returned."""
    config = config_of(tiny_spec)
    learner = learner_of(config)
    for view in (learner.encoder.street, learner.encoder.satellite):
        view.head = nn.Sequential(nn.Dropout(0.5), view.head)  # type: ignore[assignment]
    stepper, batch = stepper_of(learner, config), chunks_of(config, 4)
    before = stepper.gradients(batch * 2, 3, ALL, seed=3)
    gradients = gradients_of(learner)
    weight = learner.encoder.street.head[1].bias  # type: ignore[index, union-attr]
    along = gradients["encoder.street.head.1.bias"]
    weight.data += 1e-4 * along  # type: ignore[operator, union-attr]
    after = stepper.gradients(batch * 2, 3, ALL, seed=3)
    weight.data -= 2e-4 * along  # type: ignore[operator, union-attr]
    rise = (after - stepper.gradients(batch * 2, 3, ALL, seed=3)) / 2e-4
    assert rise == pytest.approx(float(along.square().sum()), rel=0.01)
    assert stepper.gradients(batch * 2, 3, ALL, seed=4) != pytest.approx(before, rel=1e-4)


@pytest.mark.parametrize(("backbone", "stage"), [("test_resnet", 3), ("test_convnext", 2)])
@pytest.mark.parametrize("size", [12, 4])
def test_recomputing_changes_nothing_but_the_memory(
    tiny_spec: EncoderSpec, backbone: str, stage: int, size: int
) -> None:
    spec = dataclasses.replace(tiny_spec, backbone=backbone, stage=stage, street_hw=(32, 256))
    config = TrainConfig(spec, batch=B, neighbours=0)
    batch, kept = chunks_of(config, size), {}
    learners = [learner_of(config), learner_of(config)]
    checkpointed(learners[1].encoder)
    for recompute, learner in enumerate(learners):
        held = 0

        def hold(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal held
            held += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            for view in both_views(copy.deepcopy(learner).encoder, batch[0].street, batch[0].satellite):
                assert view.requires_grad
        kept[recompute] = held
        stepper_of(learner, config, recompute=bool(recompute)).gradients(batch * 2, B // size, ALL, seed=3)
    assert kept[1] < 0.8 * kept[0]
    assert_close(gradients_of(learners[1]), gradients_of(learners[0]))
    for (name, ours), want in zip(learners[1].named_buffers(), learners[0].buffers(), strict=True):
        assert torch.equal(ours, want), name


def test_recomputing_wants_a_backbone_that_can(tiny_spec: EncoderSpec) -> None:
    encoder = TwinEncoder(tiny_spec)
    encoder.street.backbone = nn.Identity()
    with pytest.raises(DataError, match="cannot recompute"):
        checkpointed(encoder)


def test_a_gradient_that_is_no_number_is_not_learnt(tiny_spec: EncoderSpec) -> None:
    config = dataclasses.replace(config_of(tiny_spec), ema=0.5)
    learner = learner_of(config)
    before = copy.deepcopy(learner.state_dict())
    learner.objective.log_temperature.register_hook(lambda _: torch.tensor(torch.nan))
    loss, norm = stepper_of(learner, config).step(chunks_of(config, B), 1, ALL, seed=3, number=0)
    assert np.isfinite(loss) and np.isnan(norm)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize(("batch", "chunk", "world"), [(12, 0, 1), (12, 0, 3), (12, 4, 1), (24, 6, 2)])
def test_every_place_of_a_batch_is_one_processs(batch: int, chunk: int, world: int) -> None:
    parts = parts_of(batch, chunk, Ranks(0, world))
    size = chunk or batch
    assert parts.shape == (world, batch // size, size // world)
    assert sorted(parts.ravel().tolist()) == list(range(batch))
    for number in range(batch // size):  # a chunk is made of the same pairs whoever works on it
        assert sorted(parts[:, number].ravel()) == list(range(number * size, (number + 1) * size))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch.jit",
    "ignore:Dynamo detected:UserWarning",
    "ignore:The .grad attribute:UserWarning",  # torch looks at the .grad of what it traces
)
def test_compiled_has_the_gradient_of_the_plain(
    tiny_spec: EncoderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # its checks are not to be compiled
    config = config_of(tiny_spec)
    learner = learner_of(config)
    wanted, theirs = plain(learner, chunks_of(config, B))
    compile_blocks(learner.encoder)
    stepper = stepper_of(learner, config)
    assert stepper.gradients(chunks_of(config, 4) * 2, 3, ALL, seed=3) == pytest.approx(wanted, rel=1e-4)
    assert_close(gradients_of(learner), theirs, 1e-4)  # it sums in another order, in float32
