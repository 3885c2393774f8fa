"""CUDA graphs against plain steps, where there is a GPU."""

import dataclasses

import numpy as np
import pytest
import torch
from apart import apart

from geoloc.encoder import TwinEncoder
from geoloc.spec import EncoderSpec
from geoloc.training.augment import Augmentation, draw, vary
from geoloc.training.graphs import recorded
from geoloc.training.learner import Learner, optimizer_of
from geoloc.training.objective import Objective
from geoloc.training.recipe import TrainConfig
from geoloc.training.step import Encode, Stepper, both_views

B = 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_recorded_step_is_the_plain_one(tiny_spec: EncoderSpec) -> None:
    """Losses, gradients and the statistics of norms, over two steps."""
    config = TrainConfig(tiny_spec, batch=B, neighbours=0, precision="float32")
    rng, (h, w), side = np.random.default_rng(0), tiny_spec.street_hw, tiny_spec.satellite_px + 8
    canvases = torch.from_numpy(rng.integers(0, 256, (B, 4, h * 3 // 2, w), np.uint8)).cuda()
    tiles = torch.from_numpy(rng.integers(0, 256, (B, side, side, 3), np.uint8)).cuda()
    still = dataclasses.replace(Augmentation(), photo=0.0)
    part = vary(canvases, tiles, tiny_spec, draw(B, tiny_spec, still, rng))

    def steps(graphs: bool) -> tuple[list[float], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        learner = Learner(TwinEncoder(tiny_spec), Objective(config, apart(B))).cuda().train()
        encode: Encode = recorded(learner.encoder, B, torch.float32) if graphs else both_views
        scaler = torch.amp.GradScaler("cuda", enabled=False)
        stepper = Stepper(learner, optimizer_of(learner, config), scaler, torch.float32, encode=encode)
        losses = [stepper.step([part], 1, np.arange(B), 0, number)[0] for number in range(2)]
        return losses, {name: value.clone() for name, value in learner.state_dict().items()}

    (plain, theirs), (recorded_, ours) = steps(False), steps(True)
    assert recorded_ == pytest.approx(plain, rel=1e-3)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name].float(), value.float(), rtol=0.02, atol=5e-3)
