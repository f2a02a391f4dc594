"""gan explain: every term by any spelling, a list of all, and the nearest name of a wrong one."""

import subprocess
import sys

import pytest

from gancli.metrics import terms


def test_every_term_is_explained_by_each_of_its_names(gan):
    for name in terms.names():
        code, out, error = gan("explain", name)
        assert code == 0, error
        assert name in out.splitlines()[0] and terms.find(name).direction.split(";")[0] in " ".join(out.split())


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        (["D(real)"], "D(real)"),
        (["d_real"], "D(real)"),
        (["D", "real"], "D(real)"),
        (["mode", "collapse"], "mode_collapse"),
        (["NaN"], "losses_diverging"),
        (["gradient_norm"], "gradient_norm(G)"),
        (["fd"], "fd_mnist"),
        (["recall"], "recall_mnist"),
    ],
)
def test_a_term_may_be_spelled_in_several_ways(gan, typed, first):
    code, out, _ = gan("explain", *typed)
    assert code == 0 and out.startswith(first)


def test_a_part_of_names_explains_all_that_have_it(gan):
    headings = [line for line in gan("explain", "adversarial")[1].splitlines() if line and line[0] != " "]
    assert [line.split(",")[0] for line in headings] == ["D/adversarial", "G/adversarial"]
    both = gan("explain", "kimg", "diversity")[1]
    assert both.startswith("kimg") and "\n\ndiversity" in both


def test_without_a_word_every_term_is_listed_within_the_width(gan):
    code, out, _ = gan("explain")
    assert code == 0 and all(name in out for name in terms.names())
    assert max(map(len, out.splitlines())) <= 100


def test_a_warning_names_what_to_type(gan):
    out = gan("explain", "d_winning")[1]
    assert "type       model/penalty=r1 model.norm=none" in out and "or         model/augment=diffaugment" in out


def test_a_wrong_word_names_the_nearest(gan):
    code, out, error = gan("explain", "divresity")
    assert code == 2 and not out and "did you mean diversity?" in error


def test_it_answers_without_torch():
    code = "import sys; from gancli.cli.main import main; main(['explain', 'fd']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
