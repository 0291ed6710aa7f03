"""A table of wrong variants of the code, and the means to put one in place of the right code."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Mutant(NamedTuple):
    """One wrong variant of one function."""

    module: str
    function: str
    """A function, or "Class.method", or "" for the whole module."""
    old: str
    """Source text that occurs exactly once in the function."""
    new: str
    owners: str
    """Names of the tests in tests/test_<module>.py of which at least one must fail."""


def functions(source: str) -> Iterator[tuple[str, ast.AST]]:
    """Name and node of every function, and as "Class.method" of every method, of a module."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{item.name}", item) for item in node.body
                        if isinstance(item, ast.FunctionDef))


def mutated_source(mutant: Mutant, source: str) -> str:
    """The source of the module with the mutant in it; ``ValueError`` if it does not apply."""
    lines = source.splitlines(keepends=True)
    first, last = 0, len(lines)
    if mutant.function:
        node = dict(functions(source))[mutant.function]
        first, last = node.lineno - 1, node.end_lineno
        if ast.get_docstring(node):  # formulas in the docstring are no code
            lines[node.body[0].lineno - 1:node.body[0].end_lineno] = []
            last -= node.body[0].end_lineno - node.body[0].lineno + 1
    body = "".join(lines[first:last])
    if body.count(mutant.old) != 1:
        raise ValueError(f"{mutant.module}.{mutant.function} has {body.count(mutant.old)} times "
                         f"{mutant.old!r}, not once; adapt the mutant to the code")
    return "".join(lines[:first]) + body.replace(mutant.old, mutant.new) + "".join(lines[last:])


def apply_mutant(mutant: Mutant | None, folder: Path) -> None:
    """Put a copy of the package, with the mutant if there is one, into ``folder``.

    With ``folder`` first in ``sys.path`` every module that imports the function, by
    whatever name, gets the mutant. Data and published numbers are linked.
    """
    shutil.copytree(ROOT / "dfsae", folder / "dfsae", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data", "book"):
        (folder / name).symlink_to(ROOT / name)
    if mutant:
        path = folder / "dfsae" / f"{mutant.module}.py"
        path.write_text(mutated_source(mutant, path.read_text()))


MUTANTS = [Mutant(*row) for row in [
    # Eq. 1
    ("objective", "log_sum_exp", "-torch.logsumexp(-E", "torch.logsumexp(-E", "test_eq1_by_hand"),
    ("objective", "log_sum_exp", "-torch.logsumexp(-E", "-torch.logsumexp(E", "test_eq1_by_hand"),
    ("objective", "log_sum_exp", "-torch.logsumexp(-E", "torch.logsumexp(E", "test_eq1_lies_between_min_minus_log_K_and_min"),
    ("objective", "log_sum_exp", "dim=-1", "dim=0", "test_parity_with_numpy_and_scipy"),
    ("objective", "log_sum_exp", "torch.logsumexp(-E, dim=-1)", "torch.log(torch.exp(-E).sum(dim=-1))", "test_energies_of_ten_thousand"),
    ("objective", "log_sum_exp", "-torch.logsumexp(-E, dim=-1)", "-torch.logsumexp(-E, dim=-1) + torch.log(torch.tensor(1. * E.shape[-1])).to(E)", "test_eq1_by_hand"),
    ("objective", "log_sum_exp", "rank=1", "rank=2", "test_eq1_by_hand"),
    # Eq. 2 and 10
    ("objective", "responsibilities", "softmax(-E", "softmax(E", "test_eq2_by_hand"),
    ("objective", "responsibilities", "dim=-1", "dim=0", "test_responsibilities_are_probabilities_that_favour_low_energy"),
    ("objective", "responsibilities", "softmax(-E", "softmax(-2 * E", "test_eq2_is_the_gradient_of_eq1"),
    ("objective", "responsibilities", "torch.softmax(-E, dim=-1)", "torch.exp(-E) / torch.exp(-E).sum(dim=-1, keepdim=True)", "test_energies_of_ten_thousand"),
    # Eq. 4
    ("objective", "variance_penalty", "-torch.log", "torch.log", "test_eq4_by_hand"),
    ("objective", "variance_penalty", "correction=1", "correction=0", "test_eq4_by_hand"),
    ("objective", "variance_penalty", "A.var(", "A.std(", "test_scale_laws"),
    ("objective", "variance_penalty", " + eps", "", "test_eq4_by_hand"),
    ("objective", "variance_penalty", " + eps", " - eps", "test_parity_with_numpy_and_scipy"),
    ("objective", "variance_penalty", "dim=-2", "dim=-1", "test_parity_with_numpy_and_scipy"),
    ("objective", "variance_penalty", "sum(dim=-1)", "mean(dim=-1)", "test_eq4_by_hand"),
    ("objective", "variance_penalty", "rows=2", "rows=1", "test_a_batch_of_one_has_no_variance"),
    # Corr(A) and Eq. 5
    ("objective", "correlation", "A - A.mean(dim=-2, keepdim=True)", "A", "test_eq5_ignores_scale_sign_offset_and_order_of_units"),
    ("objective", "correlation", "correction=1", "correction=0", "test_parity_with_numpy_and_scipy"),
    ("objective", "correlation", "A.shape[-2] - 1", "A.shape[-2]", "test_bounds"),
    ("objective", "correlation", "rsqrt", "reciprocal", "test_scale_laws test_bounds"),
    ("objective", "correlation", " + eps", "", "test_eq5_by_hand"),
    ("objective", "correlation", " + eps)", ") + eps", "test_eq5_by_hand"),
    ("objective", "correlation", "Z.mT @ Z", "Z @ Z.mT", "test_parity_with_numpy_and_scipy"),
    ("objective", "correlation", "rows=2", "rows=1", "test_a_batch_of_one_has_no_variance"),
    ("objective", "decorrelation_penalty", "C - torch.diag_embed(C.diagonal(dim1=-2, dim2=-1))", "C", "test_eq5_by_hand"),
    ("objective", "decorrelation_penalty", "torch.diag_embed(C.diagonal(dim1=-2, dim2=-1))", "torch.eye(C.shape[-1])", "test_eq5_by_hand"),
    ("objective", "decorrelation_penalty", "square()", "abs()", "test_eq5_by_hand"),
    ("objective", "decorrelation_penalty", "off_diagonal.square()", "off_diagonal.triu().square()", "test_eq5_by_hand"),
    ("objective", "decorrelation_penalty", "sum(dim=(-2, -1))", "mean(dim=(-2, -1))", "test_eq5_by_hand"),
    ("objective", "decorrelation_penalty", "sum(dim=(-2, -1))", "sum()", "test_leading_dimensions_equal_a_loop"),
    ("objective", "decorrelation_penalty", "eps=eps", "eps=0.0", "test_eq5_by_hand"),
    # Eq. 6
    ("objective", "log_det_volume", "torch.logdet", "-torch.logdet", "test_eq6_by_hand"),
    ("objective", "log_det_volume", "A - A.mean(dim=-2, keepdim=True)", "A", "test_parity_with_numpy_and_scipy"),
    ("objective", "log_det_volume", "A.shape[-2] - 1", "A.shape[-2]", "test_eq6_by_hand"),
    ("objective", "log_det_volume", "cov + eps *", "cov + 0 *", "test_eq6_by_hand"),
    ("objective", "log_det_volume", "torch.logdet(cov", "torch.det(cov", "test_eq6_is_eq4_when_units_are_uncorrelated"),
    # Eq. 8
    ("objective", "weight_penalty", "W.mT @ W\n    return (gram - torch.eye(W.shape[-1]", "W @ W.mT\n    return (gram - torch.eye(W.shape[-2]", "test_eq8_by_hand"),
    ("objective", "weight_penalty", "gram - ", "gram + ", "test_eq8_by_hand"),
    ("objective", "weight_penalty", "square()", "abs()", "test_eq8_by_hand"),
    ("objective", "weight_penalty", "sum(dim=(-2, -1))", "sum(dim=(-2, -1)).sqrt()", "test_eq8_by_hand"),
    ("objective", "weight_penalty", "sum(dim=(-2, -1))", "sum()", "test_leading_dimensions_equal_a_loop"),
    # Eq. 11
    ("objective", "energy_to_activation", "amax", "amin", "test_eq11_by_hand"),
    ("objective", "energy_to_activation", "E.amax(dim=-1, keepdim=True) - E", "E - E.amax(dim=-1, keepdim=True)", "test_eq11_by_hand"),
    ("objective", "energy_to_activation", "E.amax(dim=-1, keepdim=True) - E", "E - E.amin(dim=-1, keepdim=True)", "test_eq11_gives_the_lowest_energy_the_highest_score_and_the_highest_none"),
    ("objective", "energy_to_activation", "E.amax(dim=-1, keepdim=True)", "E.amax()", "test_eq11_by_hand"),
    ("objective", "energy_to_activation", "dim=-1", "dim=0", "test_parity_with_numpy_and_scipy"),
    ("objective", "energy_to_activation", "E.amax(dim=-1, keepdim=True) -", "-", "test_a_shift_of_all_energies_moves_eq1_and_nothing_else"),
    # Eq. 7
    ("objective", "objective", '"sum" else', '"mean" else', "test_sum_is_B_times_mean_for_eq1_and_for_nothing_else"),
    ("objective", "objective", "per_sample.mean(dim=-1)", "per_sample.sum(dim=-1)", "test_sum_is_B_times_mean_for_eq1_and_for_nothing_else"),
    ("objective", "objective", "per_sample.sum(dim=-1)", "per_sample.sum()", "test_leading_dimensions_equal_a_loop"),
    ("objective", "objective", "[weight * term", "[term", "test_eq7_by_hand"),
    ("objective", "objective", "(lse, var, tc, wr)) if", "(lse, tc, var, wr)) if", "test_eq7_is_linear_in_its_weights"),
    ("objective", "objective", "if lambdas.wr else torch.zeros_like(var)", "if not lambdas.wr else torch.zeros_like(var)", "test_eq7_by_hand"),
    ("objective", "objective", "Terms(lse, var, tc, wr, total)", "Terms(lse, -var, tc, wr, total)", "test_eq7_by_hand"),
    ("objective", "objective", "0.0 * lse", "torch.zeros_like(lse)", "test_no_terms_still_have_a_gradient_of_zero"),
    ("objective", "objective", "variance_penalty(E, eps=eps)", "variance_penalty(E, eps=EPS)", "test_eps_reaches_both_penalties"),
    ("objective", "objective", "decorrelation_penalty(E, eps=eps)", "decorrelation_penalty(E, eps=EPS)", "test_eps_reaches_both_penalties"),
    ("objective", "objective", '("sum", "mean")', '("sum", "mean", "avg")', "test_unknown_reduction_is_named"),
    ("objective", "objective", "check_lambdas(lambdas)", "pass", "test_bad_weights_are_named"),
    ("objective", "", "EPS = 1e-6", "EPS = 1e-5", "test_the_paper_fixes_the_default_weights"),
    ("objective", "", "wr: float = 0.0", "wr: float = 1.0", "test_the_paper_fixes_the_default_weights"),
    # What every function verifies
    ("objective", "check_lambdas", "0 <= weight", "0 < weight", "test_weights_from_zero_up_are_accepted"),
    ("objective", "check_lambdas", "0 <= weight", "-1 < weight", "test_bad_weights_are_named"),
    ("objective", "check_lambdas", '< float("inf")', '<= float("inf")', "test_bad_weights_are_named"),
    ("objective", "check_tensor", "not torch.isfinite(value).all()", "torch.isnan(value).any()", "test_bad_tensors_are_named"),
    ("objective", "check_tensor", "isfinite(value).all()", "isfinite(value).any()", "test_bad_tensors_are_named"),
    ("objective", "check_tensor", " or not value.is_floating_point()", "", "test_bad_tensors_are_named"),
    ("objective", "check_tensor", "value.ndim < rank", "value.ndim <= rank", "test_eq4_by_hand"),
    ("objective", "check_tensor", "value.shape[-2] < rows", "value.shape[-2] <= rows", "test_eq5_by_hand"),
    ("objective", "check_tensor", "value.shape[-1] != width", "value.shape[-1] < width", "test_check_tensor_returns_what_it_accepts_and_names_a_wrong_width test_objective_refuses_a_batch_of_one_and_bad_energies"),
    ("objective", "check_tensor", "return value", "return None", "test_check_tensor_returns_what_it_accepts_and_names_a_wrong_width"),

    # Eq. 9, Eq. 12 and the model
    ("encoder", "energies", " + b[..., None, :]", "", "test_eq9_by_hand"),
    ("encoder", "energies", " + b[", " - b[", "test_parity_with_nn_linear"),
    ("encoder", "energies", "x @ W.mT", "-x @ W.mT", "test_parity_with_nn_linear"),
    ("encoder", "energies", "b[..., None, :]", "b", "test_many_models_at_once_equal_a_loop"),
    ("encoder", "energies", "ACTIVATIONS[activation](", "ACTIVATIONS['relu'](", "test_eq9_by_hand"),
    ("encoder", "energies", 'activation: str = "relu"', 'activation: str = "softplus"', "test_relu_is_the_default"),
    ("encoder", "energies", "width=W.shape[-1]", "width=None", "test_bad_inputs_are_named"),
    ("encoder", "energies", "activation not in ACTIVATIONS", "False", "test_unknown_activation_is_named"),
    ("encoder", "", "F.softplus", "F.elu", "test_eq9_by_hand"),
    ("encoder", "reconstruct", "a @ W", "a @ W / W.norm(dim=-1, keepdim=True).square()", "test_eq12_is_the_transpose"),
    ("encoder", "reconstruct", "a @ W", "-(a @ W)", "test_orthonormal_weights_reconstruct_what_they_encode"),
    ("encoder", "reconstruct", "a @ W", "torch.linalg.lstsq(W.mT @ W, W.mT @ a.mT).solution.mT", "test_eq12_is_the_transpose"),
    ("encoder", "reconstruct", "width=W.shape[-2]", "width=None", "test_bad_inputs_are_named"),
    ("encoder", "uniform_", "fan_in ** -0.5", "fan_in ** -1", "test_uniform_fills_pytorchs_default_range"),
    ("encoder", "uniform_", "uniform_(-bound, bound", "uniform_(0, bound", "test_uniform_fills_pytorchs_default_range"),
    ("encoder", "uniform_", ", generator=generator", "", "test_the_seed_alone_decides_the_start"),
    ("encoder", "DecoderFreeSAE.__init__", "manual_seed(seed)", "manual_seed(0)", "test_the_seed_alone_decides_the_start"),
    ("encoder", "DecoderFreeSAE.__init__", "uniform_((K, D), D,", "uniform_((K, D), K,", "test_weights_and_bias_start_as_in_nn_linear"),
    ("encoder", "DecoderFreeSAE.__init__", "uniform_((K,), D,", "uniform_((K,), K,", "test_weights_and_bias_start_as_in_nn_linear"),
    ("encoder", "DecoderFreeSAE.__init__", "activation not in ACTIVATIONS", "False", "test_unknown_activation_is_named"),
    ("encoder", "DecoderFreeSAE.encode", "self.b, self.activation", "self.b", "test_parity_with_nn_linear"),
    ("encoder", "DecoderFreeSAE.decode", "reconstruct(a, self.W)", "reconstruct(a, self.W) + self.b.sum()", "test_eq12_is_the_transpose"),
    ("encoder", "DecoderFreeSAE.loss", "reduction=self.reduction", 'reduction="sum"', "test_loss_is_the_objective_of_the_energies"),
    ("encoder", "DecoderFreeSAE.loss", "eps=self.eps", "eps=EPS", "test_loss_is_the_objective_of_the_energies"),
    ("encoder", "DecoderFreeSAE.loss", "lambdas=self.lambdas", "lambdas=Lambdas()", "test_loss_is_the_objective_of_the_energies"),

    # Metrics
    ("metrics", "dead_units", "< threshold", "<= threshold", "test_dead_units_by_hand"),
    ("metrics", "dead_units", "< threshold", "> threshold", "test_dead_units_by_hand"),
    ("metrics", "dead_units", "float = 0.01", "float = 0.1", "test_dead_units_by_hand"),
    ("metrics", "dead_units", "correction=1", "correction=0", "test_dead_units_by_hand"),
    ("metrics", "dead_units", "a.var(", "a.std(", "test_dead_units_by_hand"),
    ("metrics", "dead_units", "dim=0", "dim=1", "test_dead_units_by_hand"),
    ("metrics", "redundancy", "eps=0.0", "eps=1e-6", "test_redundancy_by_hand"),
    ("metrics", "redundancy", " - squared.diagonal().sum()", "", "test_redundancy_by_hand"),
    ("metrics", "redundancy", "correlation(a, eps=0.0).square()", "correlation(a, eps=0.0).abs()", "test_redundancy_by_hand"),
    ("metrics", "redundancy", "squared.sum()", "squared.triu().sum()", "test_redundancy_by_hand"),
    ("metrics", "responsibility_entropy", "torch.special.entr(r)", "-torch.special.entr(r)", "test_winners_and_ties"),
    ("metrics", "responsibility_entropy", "torch.special.entr(r)", "(torch.special.entr(r) / 0.6931471805599453)", "test_winners_and_ties"),
    ("metrics", "responsibility_entropy", "torch.special.entr(r)", "(-r * r.log())", "test_winners_and_ties"),
    ("metrics", "responsibility_entropy", "sum(dim=1).mean()", "mean(dim=1).mean()", "test_winners_and_ties"),
    ("metrics", "responsibility_entropy", "entr(r).sum(dim=1).mean()", "entr(r.mean(dim=0)).sum()", "test_entropy_beside_scipy_and_usage_sums_to_one"),
    ("metrics", "mean_max_responsibility", "dim=1", "dim=0", "test_winners_and_ties"),
    ("metrics", "mean_max_responsibility", "amax", "amin", "test_winners_and_ties"),
    ("metrics", "mean_log_zero_units", "E <= threshold", "E < threshold", "test_mean_log_zero_units_by_hand"),
    ("metrics", "mean_log_zero_units", "E <= threshold", "E > threshold", "test_mean_log_zero_units_by_hand"),
    ("metrics", "mean_log_zero_units", ".clamp(min=1)", "", "test_mean_log_zero_units_by_hand"),
    ("metrics", "mean_log_zero_units", ".log().mean()", ".mean().log()", "test_mean_log_zero_units_by_hand"),
    ("metrics", "feature_usage", "dim=0", "dim=1", "test_entropy_beside_scipy_and_usage_sums_to_one"),
    ("metrics", "feature_usage", "r.mean(dim=0)", "r.sum(dim=0)", "test_entropy_beside_scipy_and_usage_sums_to_one"),
    ("metrics", "l0", "> threshold", ">= threshold", "test_l0_counts_what_is_strictly_above_its_threshold"),
    ("metrics", "l0", "float = 0.01", "float = 0.1", "test_l0_counts_what_is_strictly_above_its_threshold"),
    ("metrics", "l0", "a.abs()", "a", "test_l0_counts_what_is_strictly_above_its_threshold"),
    ("metrics", "l0", "sum(dim=1).double()", "double().mean(dim=1)", "test_l0_counts_what_is_strictly_above_its_threshold"),
    ("metrics", "mse", ".square().mean()", ".square().sum(dim=1).mean()", "test_reconstruction_errors_beside_sklearn"),
    ("metrics", "mse", ".square()", ".abs()", "test_reconstruction_errors_beside_sklearn"),
    ("metrics", "mse", "x - x_hat", "x + x_hat", "test_perfect_and_trivial_reconstructions"),
    ("metrics", "published_mse", "torch.nn.functional.normalize(a, dim=1) @ W_dec", "a @ W_dec.sign()", "test_published_mse_beside_its_definition"),
    ("metrics", "published_mse", "torch.nn.functional.normalize(direction, dim=1)", "direction", "test_published_mse_judges_only_the_direction"),
    ("metrics", "published_mse", " * x.norm(dim=1, keepdim=True)", "", "test_published_mse_beside_its_definition"),
    ("metrics", "published_mse", "x.norm(dim=1, keepdim=True)", "x.norm(dim=0, keepdim=True)", "test_published_mse_beside_its_definition"),
    ("metrics", "published_mse", "normalize(direction, dim=1)", "normalize(direction, dim=0)", "test_published_mse_judges_only_the_direction"),
    ("metrics", "fvu", "(x - x.mean(dim=0)).double()", "x.double()", "test_perfect_and_trivial_reconstructions"),
    ("metrics", "fvu", "x.mean(dim=0)", "x.mean()", "test_reconstruction_errors_beside_sklearn"),
    ("metrics", "fvu", "square().sum() / spread", "square().mean() / spread", "test_perfect_and_trivial_reconstructions"),
    ("metrics", "fvu", "(x - x_hat).double().square().sum() / spread", "1 - (x - x_hat).double().square().sum() / spread", "test_perfect_and_trivial_reconstructions"),
    ("metrics", "fvu", "spread == 0", "False", "test_bad_reconstructions_are_named"),
    ("metrics", "least_squares_decoder", "a64 - a_mean", "a64", "test_least_squares_decoder_beside_sklearn"),
    ("metrics", "least_squares_decoder", "torch.linalg.pinv(gram, hermitian=True)", "torch.linalg.inv(gram)", "test_least_squares_decoder_beside_sklearn"),
    ("metrics", "least_squares_decoder", "x_mean - a_mean @ V", "x_mean", "test_least_squares_decoder_beside_sklearn"),
    ("metrics", "least_squares_decoder", "V.to(x.dtype)", "V", "test_least_squares_decoder_recovers_an_affine_map_and_keeps_the_dtype"),
    ("metrics", "linear_probe", "StandardScaler(), ", "", "test_probe_standardises_by_the_training_set"),
    ("metrics", "linear_probe", "probe.score(a_test.numpy(), y_test.numpy())", "probe.score(a_train.numpy(), y_train.numpy())", "test_probe_beside_sklearn"),
    ("metrics", "linear_probe", "probe.fit(a_train.numpy(), y_train.numpy())", "probe.fit(a_test.numpy(), y_test.numpy())", "test_probe_beside_sklearn"),

    # Baselines
    ("baselines", "PublishedSAE.__init__", "l1: float = 0.01", "l1: float = 0.1", "test_published_sae_starts_as_two_linear_layers"),
    ("baselines", "PublishedSAE.__init__", "0 <= l1", "0 < l1", "test_bad_l1_is_named"),
    ("baselines", "PublishedSAE.__init__", "0 <= l1", "-1 <= l1", "test_bad_l1_is_named"),
    ("baselines", "PublishedSAE.__init__", "manual_seed(seed)", "manual_seed(0)", "test_the_seed_alone_decides_the_start"),
    ("baselines", "PublishedSAE.__init__", "(d_sae, d_in), d_sae,", "(d_sae, d_in), d_in,", "test_published_sae_starts_as_two_linear_layers"),
    ("baselines", "PublishedSAE.__init__", "(d_in,), d_sae,", "(d_in,), d_in,", "test_published_sae_starts_as_two_linear_layers"),
    ("baselines", "PublishedSAE.W", "self.W_enc.mT", "self.W_dec", "test_published_sae_starts_as_two_linear_layers"),
    ("baselines", "PublishedSAE.encode", " + self.b_enc", "", "test_published_sae_by_hand"),
    ("baselines", "PublishedSAE.encode", "torch.relu(", "(", "test_published_sae_by_hand"),
    ("baselines", "PublishedSAE.decode", " + self.b_dec", "", "test_published_sae_by_hand"),
    ("baselines", "PublishedSAE.decode", "self.W_dec", "self.W", "test_published_sae_by_hand"),
    ("baselines", "PublishedSAE.loss", "square().mean()", "square().sum(dim=1).mean()", "test_published_sae_by_hand"),
    ("baselines", "PublishedSAE.loss", "a.abs().mean()", "a.abs().sum(dim=1).mean()", "test_published_sae_beside_nn_linear"),
    ("baselines", "PublishedSAE.loss", "a.abs().mean()", "(a * self.W_dec.norm(dim=1)).mean()", "test_rescaling_the_decoder_evades_the_published_penalty_only"),
    ("baselines", "PublishedSAE.loss", "mse + self.l1 * l1", "mse + l1", "test_published_sae_by_hand"),
    ("baselines", "PublishedSAE.loss", "mse + self.l1 * l1", "mse - self.l1 * l1", "test_published_sae_beside_nn_linear"),
    ("baselines", "StandardSAE.__init__", "self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)", "pass", "test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean"),
    ("baselines", "StandardSAE.__init__", "norm(dim=1,", "norm(dim=0,", "test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean"),
    ("baselines", "StandardSAE.__init__", "self.W_enc.copy_(self.W_dec.mT)", "pass", "test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean"),
    ("baselines", "StandardSAE.__init__", "self.W_enc.copy_(self.W_dec.mT)", "self.W_enc.data = self.W_dec.data.mT", "test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean"),
    ("baselines", "StandardSAE.__init__", "self.b_enc.zero_()", "pass", "test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean"),
    ("baselines", "StandardSAE.__init__", "self.b_dec.copy_(data_mean)", "self.b_dec.zero_()", "test_standard_sae_starts_tied_with_unit_norms_at_the_data_mean"),
    ("baselines", "StandardSAE.__init__", 'check_tensor("data_mean", data_mean, rank=1, width=d_in)', "pass", "test_bad_data_mean_is_named"),
    ("baselines", "StandardSAE.encode", "x - self.b_dec", "x", "test_standard_sae_by_explicit_expression"),
    ("baselines", "StandardSAE.encode", "x - self.b_dec", "x + self.b_dec", "test_standard_sae_by_explicit_expression"),
    ("baselines", "StandardSAE.loss", "a * self.W_dec.norm(dim=1)", "a", "test_rescaling_the_decoder_evades_the_published_penalty_only"),
    ("baselines", "StandardSAE.loss", "self.W_dec.norm(dim=1)", "self.W_dec.square().sum(dim=1)", "test_standard_sae_by_explicit_expression"),
    ("baselines", "StandardSAE.loss", "square().sum(dim=1).mean()", "square().mean()", "test_standard_sae_by_explicit_expression"),
    ("baselines", "StandardSAE.loss", "mse + self.l1 * l1", "mse + l1", "test_standard_sae_by_explicit_expression"),

    # Training
    ("training", "train", "/ len(batches)", "/ len(x)", "test_history_is_the_mean_over_the_steps_of_every_term"),
    ("training", "train", "sums[name] = sums.get(name, 0.0) + value", "sums[name] = value", "test_history_is_the_mean_over_the_steps_of_every_term"),
    ("training", "train", "step_of.zero_grad()", "pass", "test_steps_beside_a_plain_loop"),
    ("training", "train", "step_of.step()", "pass", "test_one_sgd_step_by_hand"),
    ("training", "train", "torch.randperm(len(x), generator=order)", "torch.arange(len(x))", "test_every_epoch_is_a_new_shuffle_of_all_samples_and_the_last_batch_is_smaller"),
    ("training", "train", ", generator=order", "", "test_the_same_seeds_give_the_same_weights"),
    ("training", "train", "manual_seed(order_seed)", "manual_seed(0)", "test_seeds_of_start_and_order_are_independent"),
    ("training", "train", ".split(batch_size)", ".split(batch_size)[:len(x) // batch_size]", "test_every_epoch_is_a_new_shuffle_of_all_samples_and_the_last_batch_is_smaller"),
    ("training", "train", "lr: float = 1e-3", "lr: float = 1e-2", "test_steps_beside_a_plain_loop"),
    ("training", "train", 'optimizer: str = "adam"', 'optimizer: str = "sgd"', "test_steps_beside_a_plain_loop"),
    ("training", "train", "terms.total.backward()", "(-terms.total).backward()", "test_one_sgd_step_by_hand"),
    ("training", "train", "disable=not progress", "disable=progress", "test_progress_bar"),
    ("training", "train", "% batch_size == 1", "% batch_size == 0", "test_bad_settings_are_named"),
    ("training", "train", "lr <= 0", "lr < 0", "test_bad_settings_are_named"),
    ("training", "_finite_loss", "if not torch.isfinite(value)", "if torch.isnan(value)", "test_a_diverging_term_is_named"),
    ("training", "_finite_loss", "except NonFiniteError as error", "except ZeroDivisionError as error", "test_divergence_is_reported_with_place_cause_and_remedy"),

    # Checks, data, records and experiments
    ("checks", "_outcome", "value <= at_most", "value < at_most", "test_values_within"),
    ("checks", "_outcome", "value <= at_most", "not value > at_most", "test_nan_is_never_within"),
    ("checks", "_outcome", "value >= at_least", "value > at_least", "test_values_within"),
    ("checks", "_outcome", "at_least is None or", "at_least is None or at_most is not None or", "test_values_outside"),
    ("checks", "_outcome", "value == equals", "abs(value - equals) < 1e-3", "test_values_outside"),
    ("checks", "_outcome", "(at_most is None or", "(not at_most or", "test_values_outside"),
    ("checks", "_outcome", "not given or", "", "test_a_missing_or_contradictory_bound_is_an_error"),
    ("checks", "check", "raise CheckFailed(str(outcome))", "print(outcome)", "test_values_outside"),
    ("checks", "check_rejects", "not inner.passed)", "True)", "test_values_within"),
    ("checks", "check_rejects", "raise CheckFailed(str(outcome))", "print(outcome)", "test_values_within"),
    ("checks", "assess", 'display(_outcome("assess"', '(lambda _: None)(_outcome("assess"', "test_values_outside"),
    ("checks", "Outcome.verdict", "[not self.passed]", "[self.passed]", "test_the_outcome_travels_as_data"),
    ("checks", "Outcome.measured", "self.value:.4g", "self.value:.0f", "test_a_failure_says_claim_statement_value_bound_and_verdict"),
    ("checks", "Outcome.__str__", "self.measured", "self.bound", "test_a_failure_says_claim_statement_value_bound_and_verdict"),
    ("checks", "Outcome._repr_mimebundle_", "escape(text) for", "text for", "test_the_html_line_is_escaped_and_styled"),
    ("data", "load_mnist", "not check_integrity(str(raw / name), md5)", "False", "test_a_corrupt_file_is_named_with_its_remedy"),
    ("data", "load_mnist", "/ 255", "/ 256", "test_subsets_are_the_first_samples_and_dtype_is_as_asked"),
    ("data", "load_mnist", "((train, n_train), (test, n_test))", "((train, n_train), (train, n_test))", "test_subsets_are_the_first_samples_and_dtype_is_as_asked"),
    ("records", "write_json", "partial.write_text(", "path.write_text(", "test_a_full_disk_leaves_the_old_file"),
    ("records", "write_json", "allow_nan=False", "allow_nan=True", "test_what_json_cannot_hold_leaves_the_old_file"),
    ("records", "run_experiment", "if not path.exists()", "if path", "test_an_interrupted_experiment_goes_on_where_it_stopped"),
    ("records", "run_experiment", '[spec, about["code"],', "[spec,", "test_what_determines_a_run_makes_it_run_again"),
    ("records", "run_experiment", ', about["versions"]]', "]", "test_what_determines_a_run_makes_it_run_again"),
    ("records", "run_experiment", '".runs" / profile / experiment', '".runs" / experiment', "test_profiles_and_experiments_do_not_share_runs"),
    ("records", "load", '["profile"] != profile', '["profile"] == "x"', "test_profiles_are_never_mixed"),
    ("records", "values", 'float("nan") if value is None else value', "value", "test_values_by_name_and_metric"),
    ("records", "interval", "0.975", "0.95", "test_interval_beside_scipy"),
    ("records", "interval", "correction=1", "correction=0", "test_interval_beside_scipy"),
    ("records", "interval", "n - 1", "n", "test_interval_beside_scipy"),
    ("records", "interval", "/ n ** 0.5", "", "test_interval_beside_scipy"),
    ("records", "code_fingerprint", "if not _is_string(item)", "", "test_fingerprint_ignores_comments_docstrings_and_layout"),
    ("records", "", '"metrics", "data", ', '"data", ', "test_fingerprint_changes_with_the_code"),
    ("experiments", "", '"reduction": "sum"', '"reduction": "mean"', "test_published_protocol"),
    ("experiments", "", '"LSE + var": Lambdas(lse=1, var=1, tc=0)', '"LSE + var": Lambdas(lse=1, var=1, tc=1)', "test_published_protocol"),
    ("experiments", "fit", '10_000 + spec["seed"]', "10_000", "test_fit_trains_with_the_settings_of_the_spec"),
    ("experiments", "build", "data_mean=data.x_train.mean(dim=0)", "data_mean=data.x_test.mean(dim=0)", "test_build_follows_the_spec"),
    ("experiments", "ablation_metrics", "model.encode(data.x_test)", "model.encode(data.x_train)", "test_ablation_metrics_are_those_of_the_test_set"),
    ("experiments", "benchmark_metrics", '"own": model.decode(a)', '"own": reconstruct(a, model.W)', "test_benchmark_metrics_of_a_model_with_a_decoder"),
    ("experiments", "benchmark_metrics", "else model.W_dec", "else model.W", "test_benchmark_metrics_of_a_model_with_a_decoder"),
    ("experiments", "yardsticks", "data.x_test, data.x_train.mean(dim=0)", "data.x_test, data.x_test.mean(dim=0)", "test_yardsticks_beside_sklearn"),
    ("experiments", "run", "None if value != value else value", "value", "test_a_metric_that_is_not_defined_is_stored_as_null"),
]]
