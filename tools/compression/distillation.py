"""Learning from a teacher's outputs besides the labels (Hinton, Vinyals and Dean, 2015, arXiv:1503.02531)."""

from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax


def distilled(logits: Tensor, labels: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """Half the usual loss, half the distance from the teacher's softened answers.

    Args:
        logits: [N, classes].
        labels: int64 [N].
        teacher_logits: [N, classes].
        temperature: divides both logits; the square of it keeps the gradients' size.

    Returns:
        A scalar.
    """
    soft = kl_div(
        log_softmax(logits / temperature, 1),
        log_softmax(teacher_logits / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return 0.5 * cross_entropy(logits, labels) + 0.5 * temperature**2 * soft
