"""Every estimate of a divergence's gradient against the gradient that it claims, all episodes enumerated, in float64."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from agentdistill.credit.teacher_credit import subtract_group_baseline
from agentdistill.losses import kl_estimate, policy_gradient
from tests.credit.sequence_tree import GENERATORS, Tree, bias_table

THREE_TOKENS = Tree()
TWO_TURNS = Tree(turn=(-1, 0, 0, -1, -1, 1, 1), seed=1)
GAMMAS = list(product((0.0, 0.5, 1.0), repeat=2))
LN_P, LN_Q = (torch.tensor(each, dtype=torch.float64).log() for each in ((0.7, 0.2, 0.1), (0.5, 0.3, 0.2)))

trees = pytest.mark.parametrize("tree", [THREE_TOKENS, TWO_TURNS], ids=["three tokens", "two turns of two tokens"])
names = pytest.mark.parametrize("name", GENERATORS)


@names
def test_the_advantage_is_u_times_the_slope_of_f_less_f(name: str) -> None:
    f, advantage = GENERATORS[name]
    u = torch.tensor([0.01, 0.4, 0.9, 1.3, 7.0, 60.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(u).sum(), u)
    torch.testing.assert_close(advantage(u.detach()), (u * slope - f(u)).detach(), rtol=1e-12, atol=1e-12)
    assert float(f(torch.ones(1, dtype=torch.float64))) == pytest.approx(0, abs=1e-15)


# --- the mean of the estimate ---------------------------------------------------------------------------------------


@trees
@names
def test_the_mean_is_the_gradient_it_claims_and_the_full_cost_is_the_quieter_one(tree: Tree, name: str) -> None:
    for gamma_token, gamma_turn in GAMMAS:
        claimed = tree.gradient(name, gamma_token, gamma_turn)
        estimates = [
            tree.estimate(tree.credit(*tree.signals(name, full=full), gamma_token=gamma_token, gamma_turn=gamma_turn))
            for full in (False, True)
        ]
        for estimate in estimates:
            assert -estimate.flat == pytest.approx(claimed, abs=1e-9, rel=1e-9), (gamma_token, gamma_turn)
        sampled, full = (each.variance for each in estimates)
        waits = gamma_token > 0 or (gamma_turn > 0 and max(tree.turns) > 0)
        assert full < sampled if waits else full == pytest.approx(sampled, rel=1e-12), (gamma_token, gamma_turn)


@trees
@names
def test_with_both_discounts_at_one_it_is_the_gradient_of_the_summed_objective(tree: Tree, name: str) -> None:
    """J = Σ_y q(y) Σ_t D_t(y), differentiated through everything at once, and along one direction by finite differences."""
    f, _ = GENERATORS[name]
    direction = [torch.randn(each.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) for each in tree.logits[0]]

    def objective(step: Tensor) -> Tensor:
        reach, total = torch.ones(1, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for logits, move, teacher in zip(tree.logits[0], direction, tree.logits[1], strict=True):
            q, p = (logits + step * move).softmax(-1), teacher.softmax(-1)
            total = total + (reach * (q * f(p / q)).sum(-1)).sum()
            reach = (reach[:, None] * q).reshape(-1)
        return total

    found = float(tree.gradient(name, 1.0, 1.0) @ np.concatenate([each.numpy().ravel() for each in direction]))
    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(objective(step), step)
    assert found == pytest.approx(float(slope), rel=1e-9)
    near = [float(objective(torch.tensor(each, dtype=torch.float64))) for each in (1e-6, -1e-6)]
    assert found == pytest.approx((near[0] - near[1]) / 2e-6, rel=1e-5, abs=1e-8)


@names
def test_minus_f_for_the_immediate_credit_too_is_right_for_reverse_kl_alone(name: str) -> None:
    """The trap: a return of −f, as MiniLLM's return of log-ratios, under another divergence."""
    _, cost = THREE_TOKENS.signals(name, full=False)
    trapped = THREE_TOKENS.estimate(THREE_TOKENS.credit(-cost, cost, gamma_token=1.0)).flat
    meant = THREE_TOKENS.gradient(name, 1.0, 1.0)
    error = np.linalg.norm(-trapped - meant) / np.linalg.norm(meant)
    assert error < 1e-12 if name == "reverse_kl" else error > 0.1


@names
def test_a_divergence_of_whole_episodes_is_the_summed_one_for_reverse_kl_alone(name: str) -> None:
    summed, sequence = THREE_TOKENS.gradient(name, 1.0, 1.0), THREE_TOKENS.sequence_gradient(name)
    error = np.linalg.norm(summed - sequence) / np.linalg.norm(sequence)
    assert error < 1e-12 if name == "reverse_kl" else error > 0.05


# --- baselines and values -------------------------------------------------------------------------------------------


@trees
@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jsd(.5)", "tvd"])
def test_baselines_of_the_prefix_change_no_mean(tree: Tree, name: str) -> None:
    """In closed form E_q A_f, as a perfect value function, and weighed by |∇ln q|², which alone is sure to quieten the estimate."""
    immediate, cost = tree.signals(name, full=True)
    credit = tree.credit(immediate, cost, gamma_token=0.5, gamma_turn=1.0)
    q = tree.probabilities()[0]
    norms = tree.along([1 - 2 * each + (each**2).sum(-1, keepdims=True) for each in q])
    weighed = tree.expected_given_prefix(norms * credit, including=False) / tree.expected_given_prefix(norms, including=False)
    plain = tree.estimate(credit)
    for baseline in (tree.expected_given_prefix(immediate, including=False), tree.expected_given_prefix(credit, including=False), weighed):
        assert tree.estimate(credit - baseline).flat == pytest.approx(plain.flat, abs=1e-12)
    assert tree.estimate(credit - weighed).variance < plain.variance


def test_the_groups_baseline_changes_no_mean_and_one_that_counts_the_episode_itself_halves_it() -> None:
    """Groups of two, all pairs enumerated."""
    tree = Tree(turn=(0, 0), seed=2)
    credit = tree.credit(*tree.signals("forward_kl", full=False), gamma_token=1.0)
    mask = np.ones(2, np.bool_)
    centred, trapped = np.zeros_like(credit), np.zeros_like(credit)
    for i, j in product(range(len(credit)), repeat=2):
        first, _ = subtract_group_baseline([credit[i], credit[j]], [mask, mask])
        centred[i] += tree.weights[j] * first
        trapped[i] += tree.weights[j] * (credit[i] - (credit[i].mean() + credit[j].mean()) / 2)
    meant = tree.gradient("forward_kl", 1.0, 1.0)
    assert -tree.estimate(centred).flat == pytest.approx(meant, abs=1e-12)
    assert np.abs(-tree.estimate(trapped).flat - meant).max() > 0.01


@pytest.mark.parametrize("full", [False, True])
def test_exact_values_keep_the_mean_at_every_lambda_and_less_waiting_is_quieter(full: bool) -> None:
    tree = Tree(turn=(0, 0, 0, -1, 1, 2), seed=4)
    immediate, cost = tree.signals("forward_kl", full=full)
    discounts = {"gamma_token": 0.9, "gamma_turn": 0.7}
    future = -tree.credit(np.zeros_like(cost), cost, **discounts)
    values = tree.expected_given_prefix(future, including=True)
    claimed = tree.gradient("forward_kl", 0.9, 0.7)
    variances = []
    for lam in (0.0, 0.5, 1.0):
        estimate = tree.estimate(tree.credit(immediate, cost, values, lam=lam, **discounts))
        assert -estimate.flat == pytest.approx(claimed, abs=1e-9), lam
        variances.append(estimate.variance)
    assert variances[0] < variances[1] < variances[2]


def test_wrong_values_bias_the_estimate_unless_lambda_is_one() -> None:
    immediate, cost = THREE_TOKENS.signals("forward_kl", full=True)
    wrong = np.random.default_rng(0).normal(size=cost.shape)
    claimed = THREE_TOKENS.gradient("forward_kl", 1.0, 1.0)
    errors = [
        np.abs(-THREE_TOKENS.estimate(THREE_TOKENS.credit(immediate, cost, wrong, lam=lam, gamma_token=1.0)).flat - claimed).max()
        for lam in (0.0, 1.0)
    ]
    assert errors[0] > 0.01
    assert errors[1] < 1e-12


# --- the table for the docs -----------------------------------------------------------------------------------------


def test_the_table_says_that_a_discount_trades_bias_for_variance() -> None:
    rows = {(row["name"], row["gamma"]): row for row in bias_table()}
    assert set(rows) == set(product(GENERATORS, (0.0, 0.5, 1.0)))
    for name in GENERATORS:
        none, half, whole = (rows[name, gamma] for gamma in (0.0, 0.5, 1.0))
        assert none["bias"] > half["bias"] > 1e-3
        assert whole["bias"] < 1e-12
        assert (whole["sequence_bias"] < 1e-12) is (name == "reverse_kl")
        assert none["variance_full"] == pytest.approx(none["variance_sampled"])
        assert whole["variance_full"] < whole["variance_sampled"]
    variances = [rows["reverse_kl", gamma]["variance_sampled"] for gamma in (0.0, 0.5, 1.0)]
    assert variances == sorted(variances)


# --- one position: pair 1 -------------------------------------------------------------------------------------------


def gradients(loss: Callable[[Tensor], Tensor]) -> tuple[np.ndarray, float]:
    """Mean and trace of the variance over y ∼ q of ∇_z of the loss of ln q, [V] -> [V], at each y."""
    z = LN_Q.clone().requires_grad_()
    losses = loss(z.log_softmax(-1))
    each = torch.stack([torch.autograd.grad(one, z, retain_graph=True)[0] for one in losses])
    mean = (LN_Q.exp()[:, None] * each).sum(0)
    return mean.numpy(), float((LN_Q.exp()[:, None] * (each - mean).square()).sum())


def divergence_gradient(name: str) -> np.ndarray:
    z = LN_Q.clone().requires_grad_()
    q = z.softmax(-1)
    (gradient,) = torch.autograd.grad((q * GENERATORS[name][0](LN_P.exp() / q)).sum(), z)
    return gradient.numpy()


def undetached(q: Tensor) -> Tensor:
    """−ρ Â with gradient through Â as well: what is added has mean zero and a variance of its own."""
    return -(q - q.detach()).exp() * (LN_P - q)


def k3_plus(q: Tensor) -> Tensor:
    """Value of k3, gradient of k2."""
    k2, k3 = (kl_estimate(name, q, LN_P) for name in ("k2", "k3"))
    return k2 + (k3 - k2).detach()


def rewarded(advantage: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda q: policy_gradient(q, advantage(q.detach())).loss


REVERSE, FORWARD = divergence_gradient("reverse_kl"), divergence_gradient("forward_kl")
CLOSED_FORM = float((LN_Q.exp() * (LN_Q - LN_P)).sum())


@pytest.mark.parametrize(
    ("loss", "mean", "variance"),
    [
        pytest.param(lambda q: q - LN_P, 0 * REVERSE, 0.6200, id="k1 differentiated"),
        pytest.param(lambda q: kl_estimate("k2", q, LN_P), REVERSE, 0.0850, id="k2 differentiated"),
        pytest.param(lambda q: kl_estimate("k3", q, LN_P), FORWARD, 0.0454, id="k3 differentiated"),
        pytest.param(k3_plus, REVERSE, 0.0850, id="value of k3, gradient of k2"),
        pytest.param(rewarded(lambda q: LN_P - q), REVERSE, 0.0850, id="log-ratio as advantage"),
        pytest.param(rewarded(lambda q: LN_P - q + CLOSED_FORM), REVERSE, 0.0595, id="log-ratio with its closed-form baseline"),
        pytest.param(rewarded(lambda q: -kl_estimate("k3", q, LN_P)), REVERSE - FORWARD, 0.0086, id="k3 as reward"),
        pytest.param(undetached, REVERSE, 1.0386, id="log-ratio not detached"),
    ],
)
def test_golden_means_and_variances_of_the_estimators_of_pair_one(loss, mean: np.ndarray, variance: float) -> None:
    found, trace = gradients(loss)
    assert found == pytest.approx(mean, abs=1e-12)
    assert trace == pytest.approx(variance, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("reverse_kl", 0.0),
        ("forward_kl", 0.393),
        ("jsd(.5)", 0.048),
        ("chi2_pearson", 0.397),
        ("hellinger", 0.049),
        ("skew_kl(.1)", 0.336),
        ("skew_reverse_kl(.1)", 0.021),
    ],
)
def test_golden_errors_of_minus_f_as_the_advantage_of_pair_one(name: str, error: float) -> None:
    f, advantage = GENERATORS[name]
    found, _ = gradients(rewarded(lambda q: -f((LN_P - q).exp())))
    assert np.abs(found - divergence_gradient(name)).max() == pytest.approx(error, abs=5e-4)
    right, _ = gradients(rewarded(lambda q: advantage((LN_P - q).exp())))
    assert right == pytest.approx(divergence_gradient(name), abs=1e-12)
