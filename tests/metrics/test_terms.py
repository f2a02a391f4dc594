"""Every metric that is measured has a line in the table of terms; the contract of the models checks what they log."""

import runpy
import subprocess
import sys

import pytest
from helpers import ROOT, rows_of, start

from gancli.config import choices
from gancli.evaluation.scores import SCORES
from gancli.metrics import terms
from gancli.training.monitor import Monitor

EVALUATED = "psnr hole_psnr ssim sharpness high_frequency squared_error elbo importance_weighted kl elbo_bits "
EVALUATED += "importance_weighted_bits cycle_error_sources cycle_error_targets"


@pytest.mark.parametrize("overrides", [f"model/loss={loss}" for loss in choices("model/loss")])
def test_every_loss_and_evaluation_is_explained(overrides, tmp_path):
    penalty = ["model.norm=none", "model/penalty=r1", "trainer.evaluate_every=3", "trainer.evaluate_n=20"]
    run = start(tmp_path, "dcgan", overrides, *penalty)
    run.train()
    assert [key for row in rows_of(tmp_path) if "event" not in row for key in row if not terms.find(key)] == []


def test_every_augmentation_score_metric_and_finding_is_explained():
    findings = [symptom.finding for symptom in Monitor().symptoms]
    keys = ["augment_p", "naive_hole_psnr", *SCORES, *EVALUATED.split(), *findings]
    assert [key for key in keys if not terms.find(key)] == []


def test_names_are_unique_and_lines_are_short():
    every = [term for group in terms.GROUPS.values() for term in group]
    listed = [name for term in every for name in term.names]
    assert len(listed) == len({*listed}) and terms.names() == listed
    for term in every:
        assert term.meaning and term.direction and "\n" not in term.meaning and len(term.meaning) <= 110, term


def test_the_guide_has_the_table():
    script = runpy.run_path(str(ROOT / "docs" / "terms_table.py"))
    text = (ROOT / "docs" / "reading-a-run.md").read_text()
    assert script["with_table"](text) == text, "type python docs/terms_table.py"


def test_the_table_needs_no_torch():
    code = "import sys, gancli.metrics.terms; assert not {'torch', 'numpy', 'hydra'} & {*sys.modules}"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_directions_of_metrics():
    higher = "is score_mnist precision_mnist recall_cifar density_mnist coverage_mnist accuracy_mnist"
    higher += " class_coverage diversity psnr hole_psnr reconstruction_psnr ssim elbo importance_weighted"
    lower = "fid fd_mnist kd_mnist class_fd_mnist sliced_wasserstein cycle_error squared_error elbo_bits unknown"
    assert all(map(terms.higher_is_better, higher.split())) and not any(map(terms.higher_is_better, lower.split()))
