from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_smalldata.data.images import open_image
from hf_smalldata.data.made import rng_of
from hf_smalldata.techniques.synthesis import diffusion_scratch
from hf_smalldata.techniques.synthesis.diffusion_scratch import (
    DiffusionScratch,
    forgotten,
    guided,
    min_snr_weight,
    mirrored,
)
from hf_smalldata.techniques.synthesis.generator import normal
from hf_smalldata.techniques.synthesis.keep import Keep
from hf_smalldata.testing import COLOURS

ALL = Keep(agreement=0, max_similarity=1)


def test_guidance_goes_beyond_what_the_class_changes():
    with_class, without = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(guided(with_class, without, 1), with_class)
    torch.testing.assert_close(guided(with_class, without, 0), without)
    w = 0.5  # of the paper: (1 + w) with - w without
    torch.testing.assert_close(guided(with_class, without, 1 + w), (1 + w) * with_class - w * without)


def test_steps_of_little_noise_weigh_no_more_than_their_snr_is_worth():
    weights = min_snr_weight(torch.tensor([0.1, 5.0, 99.0]))
    torch.testing.assert_close(weights, torch.tensor([0.1 / 1.1, 5 / 6, 5 / 100]))


def test_a_share_of_the_labels_is_forgotten():
    torch.manual_seed(0)
    found = forgotten(torch.arange(4).repeat(500), 0.2, 4)
    assert (found == 4).float().mean() == pytest.approx(0.2, abs=0.03)
    assert ((found == 4) | (found == torch.arange(4).repeat(500))).all()
    assert (forgotten(torch.arange(4), 0.0, 4) == torch.arange(4)).all()


def test_about_half_of_the_images_are_mirrored():
    torch.manual_seed(0)
    images = torch.arange(4.0).view(1, 1, 1, 4).repeat(200, 1, 1, 1)
    found = mirrored(images)[:, 0, 0]
    turned = (found == torch.tensor([3.0, 2, 1, 0])).all(1)
    assert turned.float().mean() == pytest.approx(0.5, abs=0.1)
    assert ((found == torch.arange(4.0)).all(1) ^ turned).all()


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 32, 32), (3, 64, 64)])
def test_canvases_of_all_shapes_are_denoised(shape):
    network = DiffusionScratch(channels=8).build(shape, 3)
    assert network.shape == shape
    assert network.none == 3
    with torch.no_grad():
        assert network(torch.zeros(2, *shape), torch.tensor(5), torch.tensor([0, 3])).shape == (2, *shape)


def test_drawing_is_that_of_the_pipeline_of_diffusers():
    from diffusers import DDIMPipeline, UNet2DModel

    torch.manual_seed(0)
    technique = DiffusionScratch(channels=8, guidance=1.0, sampling_steps=5)
    network = technique.build((3, 16, 16), 2)

    class OfOneClass(UNet2DModel):
        def forward(self, sample, timestep, *_, **__):
            return super().forward(sample, timestep, class_labels=torch.ones(len(sample), dtype=torch.long))

    same = OfOneClass.from_config(network.network.config)
    same.load_state_dict(network.network.state_dict())
    rngs = [rng_of(0, "row", number) for number in range(3)]
    with pytest.MonkeyPatch.context() as patched:
        noise = normal([rng_of(0, "row", number) for number in range(3)], (3, 16, 16), "cpu")
        patched.setattr("diffusers.pipelines.ddim.pipeline_ddim.randn_tensor", lambda *_, **__: noise)
        pipeline = DDIMPipeline(same, diffusion_scratch._schedule())
        pipeline.scheduler = diffusion_scratch._schedule()  # it sets clip_sample itself
        pipeline.set_progress_bar_config(disable=True)
        expected = pipeline(batch_size=3, num_inference_steps=5, output_type="np").images
    with torch.no_grad():
        found = technique.draw(network.eval(), torch.tensor([1, 1, 1]), rngs)
    np.testing.assert_allclose((found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy(), expected, atol=2e-4)


@pytest.mark.slow
def test_rows_that_it_makes_have_the_colour_of_their_class(image, assets, tmp_path):
    technique = DiffusionScratch(side=16, steps=120, channels=8, batch_size=12, learning_rate=6e-3, sampling_steps=6,
                                 keep=ALL)  # fmt: skip
    context = replace(image.context(), work_dir=tmp_path)
    rows = technique.rows(image.rows, context)
    made = [row for row in rows if row["source"] == "diffusion_scratch"]
    colours = np.array([np.asarray(open_image(row["image"])).mean((0, 1)) for row in made])
    distances = np.linalg.norm(colours[:, None] - np.array(list(COLOURS.values()))[None], axis=2)
    assert (distances.argmin(1) == [row["label"] for row in made]).mean() >= 0.8
    assert context.facts["diffusion_scratch"]["steps"] == 120
