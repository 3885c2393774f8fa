"""Losses over identities: every place of the training set is a class, or has a proxy, that is learnt with it.

cosines: of m embeddings with all n classes. label: which is theirs. out: classes that are no negatives of an
embedding, since their places are too near to be told apart. All are means over the embeddings of one view;
the other direction is the same of the other view with the same classes.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Cosines = Float[Tensor, "m n"]
Labels = Int64[Tensor, " m"]
Out = Bool[Tensor, "m n"]
Loss = Float[Tensor, ""]


def sphereface(cosines: Cosines, label: Labels, out: Out, margin: int = 4, scale: float = 30.0) -> Loss:
    """SphereFace (Liu et al. 2017), eq. 7: softmax whose true logit is scale psi(theta), where
    psi = (-1)^k cos(margin theta) - 2k for theta in [k pi / margin, (k+1) pi / margin].

    The paper's scale is the embedding's length; ours have none, so it is a number, as in SphereFace-R.
    """
    theta = _angle(cosines.gather(1, label[:, None]))
    k = (theta.detach() * margin / math.pi).floor().clamp(max=margin - 1)
    return _softmax_with(cosines, (1 - 2 * (k % 2)) * torch.cos(margin * theta) - 2 * k, label, out, scale)


def cosface(cosines: Cosines, label: Labels, out: Out, margin: float = 0.35, scale: float = 64.0) -> Loss:
    """CosFace (Wang et al. 2018), eq. 4: softmax whose true logit is scale (cos theta - margin)."""
    return _softmax_with(cosines, cosines.gather(1, label[:, None]) - margin, label, out, scale)


def arcface(cosines: Cosines, label: Labels, out: Out, margin: float = 0.5, scale: float = 64.0) -> Loss:
    """ArcFace (Deng et al. 2019), eq. 3: softmax whose true logit is scale cos(theta + margin).

    Past pi - margin, where that would rise again, it is cos theta - margin sin margin (the authors' code).
    """
    cosine = cosines.gather(1, label[:, None])
    theta = _angle(cosine)
    straight = cosine - margin * math.sin(margin)
    return _softmax_with(
        cosines,
        torch.where(theta <= math.pi - margin, torch.cos(theta + margin), straight),
        label,
        out,
        scale,
    )


def proxy_nca(cosines: Cosines, label: Labels, out: Out) -> Loss:
    """Proxy-NCA (Movshovitz-Attias et al. 2017), eq. 4: -log of exp(-d(x, p_true)) over the sum of
    exp(-d(x, p)) over all other proxies, with d = 2 - 2 s; the proxies' form of NCA (Goldberger et al. 2004).
    """
    others = (2 * cosines).masked_fill(out, -1e4).scatter(1, label[:, None], -1e4)
    return (torch.logsumexp(others, dim=1) - 2 * cosines.gather(1, label[:, None])[:, 0]).mean()


def proxy_nca_pp(cosines: Cosines, label: Labels, out: Out, temperature: float = 1 / 9) -> Loss:
    """Proxy-NCA++ (Teh et al. 2020), eq. 6: -log softmax of -d(x, p) / temperature over all proxies."""
    return F.cross_entropy((2 / temperature * cosines).masked_fill(out, -1e4), label)


def proxy_anchor(cosines: Cosines, label: Labels, out: Out, alpha: float = 32.0, margin: float = 0.1) -> Loss:
    """Proxy-Anchor (Kim et al. 2020), eq. 4: log(1 + sum exp(-alpha (s_pos - margin))), averaged over the
    proxies that have embeddings here, and log(1 + sum exp(alpha (s_neg + margin))), averaged over all.
    """
    own = torch.zeros_like(out).scatter(1, label[:, None], True)
    pull = F.pad((-alpha * (cosines - margin)).masked_fill(~own, -1e4), (0, 0, 1, 0))
    push = F.pad((alpha * (cosines + margin)).masked_fill(own | out, -1e4), (0, 0, 1, 0))
    anchored = own.any(dim=0)
    return torch.logsumexp(pull[:, anchored], dim=0).mean() + torch.logsumexp(push, dim=0).mean()


def identification(logits: Cosines, label: Labels, out: Out, smoothing: float = 0.1) -> Loss:
    """Softmax over identities with label smoothing (Luo et al. 2019, section 3.3): half of their loss."""
    log_p = F.log_softmax(logits.masked_fill(out, -1e4), dim=1)
    even = log_p.masked_fill(out, 0).sum(dim=1) / (~out).sum(dim=1)
    return -((1 - smoothing) * log_p.gather(1, label[:, None])[:, 0] + smoothing * even).mean()


def _softmax_with(
    cosines: Cosines, true: Float[Tensor, "m 1"], label: Labels, out: Out, scale: float
) -> Loss:
    """Cross entropy in which the true class has another logit than its cosine."""
    logits = (scale * cosines).masked_fill(out, -1e4).scatter(1, label[:, None], scale * true)
    return F.cross_entropy(logits, label)


def _angle(cosine: Float[Tensor, "m 1"]) -> Float[Tensor, "m 1"]:
    """Its gradient is finite at the ends."""
    return torch.acos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))
