"""What is variational about the VAE: KL as torch.distributions has it, samples by seed, the mean in eval mode."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from tests.models.test_autoencoder import image
from tryon.models.vae import LOG_VARIANCE_BOUNDS, Vae, VaeConfig, kl_divergence, sample

CONFIG = VaeConfig(width=8, levels=2, latent_channels=4)


def vae() -> Vae:
    torch.manual_seed(0)
    return Vae(CONFIG).eval()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    want = torch_kl(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    assert torch.allclose(kl_divergence(mean, log_variance), want, atol=1e-5)
    assert float(kl_divergence(torch.zeros(3), torch.zeros(3)).abs().max()) == 0.0


def test_a_sample_has_the_mean_and_the_variance() -> None:
    mean, log_variance = torch.tensor([-1.0, 0.0, 3.0]), torch.tensor([-2.0, 0.0, 1.0])
    drawn = sample(mean.expand(20_000, 3), log_variance.expand(20_000, 3), seeded(0))
    assert torch.allclose(drawn.mean(0), mean, atol=0.05)
    assert torch.allclose(drawn.var(0), log_variance.exp(), rtol=0.05)


def test_a_sample_is_differentiable_in_both() -> None:
    mean, log_variance = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    noise = sample(mean, log_variance, seeded(3))
    noise.sum().backward()  # type: ignore[no-untyped-call]
    assert mean.grad is not None
    assert log_variance.grad is not None
    assert torch.equal(mean.grad, torch.ones(1, 2))
    assert torch.allclose(log_variance.grad, 0.5 * noise.detach())


def test_a_seed_gives_the_same_image_and_another_another() -> None:
    with torch.inference_mode():
        first, again, other = (vae().resample(image(), seeded(seed)) for seed in (5, 5, 6))
        mean = vae()(image()).reconstruction
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)
    assert not torch.allclose(first, mean, atol=1e-3)


def test_one_generator_a_row_makes_rows_independent_of_their_neighbours() -> None:
    with torch.inference_mode():
        three = vae().resample(image(3), [seeded(i) for i in range(3)])
        one = vae().resample(image(3)[2:], [seeded(2)])
        odd = vae().resample(image(1, (33, 17)), seeded(0))
    assert torch.allclose(three[2:], one, atol=1e-5)
    assert odd.shape == (1, 3, 33, 17)
    with pytest.raises(ValueError, match="2 generators for 3 rows"):
        vae().resample(image(3), [seeded(0), seeded(1)])


def test_training_samples_and_eval_takes_the_mean() -> None:
    network, x = vae(), image()
    with torch.inference_mode():
        mean, log_variance = network.encode(x)
        out = network(x)
        assert torch.equal(out.reconstruction, network.decode(mean))
        assert torch.equal(out.mean, mean)
        assert torch.equal(out.log_variance, log_variance)
        assert torch.equal(network.infer({"image": x})["reconstruction"], out.reconstruction.clamp(-1, 1))
        network.train()
        torch.manual_seed(0)
        first, second = network(x).reconstruction, network(x).reconstruction
        torch.manual_seed(0)
        assert torch.equal(network(x).reconstruction, first)
    assert not torch.allclose(first, second, atol=1e-3)


def test_what_the_encoder_says_stays_finite() -> None:
    network = vae()
    with torch.inference_mode():
        network.encoder.head.weight.mul_(1e6)
        _, log_variance = network.encode(image())
    assert (float(log_variance.min()), float(log_variance.max())) == LOG_VARIANCE_BOUNDS
    assert torch.isfinite(kl_divergence(torch.zeros_like(log_variance), log_variance)).all()


def test_latents_from_nowhere_decode_to_images() -> None:
    with torch.inference_mode():
        drawn = torch.randn(2, 4, 8, 6, generator=seeded(0))
        assert vae().decode(drawn).shape == (2, 3, 32, 24)
