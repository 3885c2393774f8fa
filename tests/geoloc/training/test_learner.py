import copy
import dataclasses

import pytest
import torch
from apart import apart

from geoloc.encoder import TwinEncoder
from geoloc.errors import DataError
from geoloc.spec import EncoderSpec
from geoloc.training.learner import Learner, freeze, fused, optimizer_of, set_rate
from geoloc.training.objective import Objective
from geoloc.training.recipe import TrainConfig


@pytest.fixture
def config(tiny_spec: EncoderSpec) -> TrainConfig:
    return TrainConfig(tiny_spec, batch=4, neighbours=0, warmup=0.1, learning_rate=1.0)


def test_the_average_follows_the_weights(config: TrainConfig) -> None:
    """Against the sum written out; the average is what is kept, and learns nothing itself."""
    learner = Learner(TwinEncoder(config.model), Objective(config, apart(4)), 0.9)
    assert learner.average is not None and learner.kept is learner.average
    weight, seen = learner.encoder.street.head.bias, [learner.encoder.street.head.bias.detach().clone()]  # type: ignore[union-attr]
    norm = next(one for one in learner.encoder.modules() if isinstance(one, torch.nn.BatchNorm2d))
    assert norm.running_mean is not None and norm.num_batches_tracked is not None
    want, mean = seen[0].clone(), norm.running_mean.clone()
    for step in range(150):
        with torch.no_grad():
            weight.add_(torch.randn(weight.shape))  # type: ignore[operator]
            norm.running_mean.add_(1.0)
            norm.num_batches_tracked.add_(1)
        learner.follow(step)
        keep = min(0.9, (1 + step) / (10 + step))
        want = keep * want + (1 - keep) * weight.detach()  # type: ignore[union-attr]
        mean = keep * mean + (1 - keep) * norm.running_mean
    assert torch.allclose(learner.average.street.head.bias, want, atol=1e-4)  # type: ignore[union-attr]
    own = next(one for one in learner.average.modules() if isinstance(one, torch.nn.BatchNorm2d))
    assert own.running_mean is not None and torch.allclose(own.running_mean, mean, atol=1e-3)
    assert int(own.num_batches_tracked) == 150  # type: ignore[arg-type]
    learned = {id(one) for group in optimizer_of(learner, config).param_groups for one in group["params"]}
    assert not learned & {id(one) for one in learner.average.parameters()}
    assert not learner.train().average.training


def test_without_an_average_the_encoder_is_kept(config: TrainConfig) -> None:
    learner = Learner(TwinEncoder(config.model), Objective(config, apart(4)))
    before = copy.deepcopy(learner.state_dict())
    learner.follow(3)
    assert learner.kept is learner.encoder
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("backbone", "stage", "first", "last"),
    [
        ("test_resnet", 2, ("conv1.0.weight", 3), ("layer2.0.conv1.weight", 1)),
        ("test_convnext", 2, ("stem_0.weight", 8), ("stages_2.blocks.3.conv_dw.weight", 1)),
        ("tf_efficientnet_lite0", 1, ("conv_stem.weight", 4), ("blocks.1.1.conv_pw.weight", 1)),
    ],
)
def test_layers_near_the_image_learn_slower(
    config: TrainConfig,
    backbone: str,
    stage: int,
    first: tuple[str, int],
    last: tuple[str, int],
    shared: bool,
) -> None:
    spec = dataclasses.replace(config.model, backbone=backbone, stage=stage, shared=shared)
    decayed = dataclasses.replace(config, model=spec, layer_decay=0.5)
    learner = Learner(TwinEncoder(spec), Objective(decayed, apart(4)))
    optimizer = optimizer_of(learner, decayed, 0.5)
    assert set_rate(optimizer, decayed, 9, 100) == 1.0
    rates = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    assert len(rates) == len(list(learner.parameters()))
    by_name = {name: rates[id(one)] for name, one in learner.named_parameters()}
    for name, far in (first, last):
        assert by_name[f"encoder.street.backbone.{name}"] == 0.5**far
    assert by_name["encoder.street.head.weight"] == by_name["objective.log_temperature"] == 1.0


def test_by_default_all_learn_alike_in_one_group(config: TrainConfig) -> None:
    learner = Learner(TwinEncoder(config.model), Objective(config, apart(4)))
    (group,) = optimizer_of(learner, config).param_groups
    assert [id(one) for one in group["params"]] == [id(one) for one in learner.parameters()]
    assert group["fused"] is None


def test_a_gpu_gets_the_fused_optimizer() -> None:
    assert fused(torch.device("cuda")) is True
    value = torch.nn.Parameter(torch.ones(3))
    value.grad = torch.ones(3)
    torch.optim.AdamW([value], fused=True).step()
    assert (value < 1).all()


def test_the_rate_rises_and_falls(config: TrainConfig) -> None:
    optimizer = optimizer_of(Learner(TwinEncoder(config.model), Objective(config, apart(4))), config)
    rates = [set_rate(optimizer, config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[55] == pytest.approx(0.5)
    assert sorted(rates[10:], reverse=True) == rates[10:] and rates[-1] < 1e-3


def test_frozen_stages_do_not_move(config: TrainConfig) -> None:
    """Neither their weights nor the statistics of their norms; the stages after them do."""
    learner = Learner(TwinEncoder(config.model), Objective(config, apart(4)))
    freeze(learner.encoder, 2)
    optimizer = optimizer_of(learner, config)
    learner.train()
    before = copy.deepcopy(learner.state_dict())
    tiles = torch.rand(4, 3, 48, 48)
    street = torch.cat([torch.rand(4, 3, 32, 128), torch.ones(4, 1, 32, 128)], 1)
    loss = learner.encoder.satellite_bins(tiles).sum() + learner.encoder.street_bins(street).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("backbone.conv1", "backbone.bn1", "backbone.layer1")
    assert not {name for name in moved if name.partition("encoder.")[2].split(".", 1)[-1].startswith(frozen)}
    for view in ("street", "satellite"):
        assert f"encoder.{view}.backbone.layer2.0.conv1.weight" in moved
        assert f"encoder.{view}.backbone.layer2.0.bn1.running_mean" in moved
        assert f"encoder.{view}.head.weight" in moved


def test_a_grown_and_a_whole_backbone_have_layers_too(config: TrainConfig) -> None:
    grown = dataclasses.replace(config.model, widths=(32, 64, 48, 96), depths=(1, 2, 1, 1))
    pooled = {"head": "token", "azimuth_bins": 1, "polar": False, "channels": 48}
    whole = dataclasses.replace(config.model, backbone="test_vit", **pooled)  # type: ignore[arg-type]
    cases = ((grown, 2, "layer1.0.conv1.weight", "layer2.1"), (whole, 1, "cls_token", "head"))
    for spec, frozen, first, last in cases:
        encoder = TwinEncoder(spec)
        freeze(encoder, frozen)
        learns = {name: value.requires_grad for name, value in encoder.street.named_parameters()}
        assert not learns[f"backbone.{first}"]
        assert all(moves for name, moves in learns.items() if name.startswith(f"backbone.{last}"))
        told = dataclasses.replace(config, model=spec, layer_decay=0.5)
        optimizer = optimizer_of(Learner(encoder, Objective(told, apart(4))), told, 0.5)
        scales = {group["scale"] for group in optimizer.param_groups}
        assert max(scales) == 1 and len(scales) > 2


def test_all_stages_but_the_last_can_be_frozen(config: TrainConfig) -> None:
    encoder = TwinEncoder(config.model)
    freeze(encoder, -1)
    learns = {name.split(".", 1)[1] for name, value in encoder.named_parameters() if value.requires_grad}
    assert learns
    assert all(name.startswith(("backbone.layer2", "head")) for name in learns)


def test_no_more_stages_than_there_are(config: TrainConfig) -> None:
    encoder = TwinEncoder(config.model)
    freeze(encoder, 3)
    with pytest.raises(DataError, match="has 3 stages"):
        freeze(encoder, 4)
