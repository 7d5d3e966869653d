"""How each run of ssl.py trains, and on what targets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.tiny import load_script
from utils.command_line.flags import resolve
from utils.errors import UserError
from utils.methods.clean_set import select_again
from utils.methods.pseudo_labelling import RunSettings
from utils.methods.pseudo_labelling_flags import resolve_pseudo_labelling
from utils.methods.targets_of_runs import Posterior, Split
from utils.results.found_scores import Found
from utils.scoring.label_posterior import relabelled
from utils.training.losses import LossWeights

LABELS = np.array([0, 1, 0, 1])
SCORES = np.array([0, 1, 1, 0], dtype=np.float32)  # the clean set is of both classes


def resolved(flags):
    args = resolve(load_script("ssl.py").parser().parse_args(flags.split()))
    resolve_pseudo_labelling(args)
    return args


def test_weights_are_averaged_from_an_epoch_on_every_so_often():
    settings = RunSettings(1, 10, "PR18", 0.25, "model.pt", 0, LossWeights(0.8, 0.0), swa_start=4, swa_freq=3)
    assert [epoch for epoch in range(10) if settings.averages(epoch)] == [4, 7]


def test_the_weights_of_a_shorter_run_are_averaged_from_the_same_share_of_it_on():
    args = resolved("--parallel --epoch 300 --swa --swa_start 60")
    assert [RunSettings.from_flags(args, 1, epochs).swa_start for epochs in (60, 300)] == [12, 60]


def split(flags, epochs, **found):
    args = resolved(f"{flags} --targets split")
    return Split.from_flags(args, epochs, found, SimpleNamespace(labels=LABELS, num_classes=2))


def test_runs_of_other_lengths_begin_with_the_clean_set_alone_for_the_same_share_of_them():
    found = Found(SCORES, "a.npy")
    made = split("--parallel --epoch 160 --epoch_begin 60", [60, 160, 2], parallel=found)
    assert made.begin == [22, 60, 1] and made.veto is None and list(made.first.scores) == ["parallel"]
    assert made.first.clean.tolist() == [True, False, False, True]


def test_later_runs_select_by_thresholds_of_their_own():
    found = Found(SCORES, "a.npy")
    later = split("--parallel --epoch 8 --runs 2 --threshold 0.5 --threshold_2nd 0.4", [8, 8], parallel=found).later
    assert later.keywords["threshold"] == 0.4
    flags = "--parallel --epoch 8 --runs 2 --use_bmm --bmm_th 0.3 --bmm_th_2nd 0.2"
    posterior = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.1, 0.9]], dtype=np.float32)
    assert split(flags, [8, 8], parallel=Found(SCORES, "a.npy", posterior)).later.keywords["bmm_th"] == 0.2


def test_the_forgetting_scores_veto_with_what_was_estimated_beside_them():
    posterior = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]], dtype=np.float32)
    found = {"forget": Found(SCORES, "a.npy", posterior), "parallel": Found(SCORES, "b.npy")}
    made = split("--forget --parallel --f_FND --fn_th 0.5 --epoch 8", [8], **found)
    assert made.veto == 0.5
    # Four fit no mixture; what was estimated comes in the order of the scores, of equal ones the mean.
    np.testing.assert_allclose(made.first.selected["forget"].p_noisy, [0.25, 0.75, 0.75, 0.25])


def test_the_mixture_s_place_is_taken_by_what_was_estimated_beside_its_scores():
    posterior = np.array([[0.99, 0.01], [0.8, 0.2], [0.3, 0.7], [0.01, 0.99]], dtype=np.float32)
    found = {"parallel": Found(SCORES, "a.npy", posterior)}
    first = split("--parallel --use_bmm --bmm_th 0.3 --epoch 8", [8], **found).first
    np.testing.assert_allclose(first.p_noisy, [0.01, 0.75, 0.75, 0.01], atol=1e-6)
    assert first.clean.tolist() == [True, False, False, True]
    assert "the estimated p_noisy takes the place" in first.selected["parallel"].note


@pytest.mark.parametrize(
    ("posteriors", "clean", "p_noisy"),
    [
        (1, [False, True, True, False], [0.75, 0.01, 0.01, 0.75]),
        (2, [False, True, True, False], [0.725, 0.055, 0.055, 0.725]),
        (0, [False, True, True, True], [1, 0, 0, 0]),
    ],
)
def test_in_a_later_run_it_is_taken_by_what_the_separations_estimated(posteriors, clean, p_noisy):
    """Four losses fit no mixture. Without an estimate the threshold rule of the later runs takes the lowest three."""
    first = np.array([[0.99, 0.01], [0.8, 0.2], [0.3, 0.7], [0.01, 0.99]], dtype=np.float32)
    second = np.array([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]], dtype=np.float32)
    of = [*[first, second][:posteriors], None, None]
    found = {"parallel": Found(SCORES, "a.npy", of[0]), "forget": Found(SCORES, "b.npy", of[1])}
    flags = "--parallel --forget --epoch 8 --runs 2 --use_bmm --bmm_th 0.3 --bmm_th_2nd 0.3 --threshold_2nd 0.75"
    made = split(flags, [8, 8], **found)
    chosen = select_again(made.later, np.array([5, 1, 2, 4], dtype=np.float32), made.estimated, made.data)
    assert chosen.clean.tolist() == clean
    np.testing.assert_allclose(chosen.p_noisy, p_noisy, atol=1e-6)


def test_a_separation_without_a_posterior_makes_no_posterior_targets():
    with pytest.raises(UserError, match="^a.npy comes without a posterior"):
        Posterior(False, {"forget": Found(LABELS.astype(np.float32), "a.npy")}, SimpleNamespace(labels=LABELS))


def test_a_later_run_learns_from_what_the_run_before_found():
    trained = np.array([0, 1, 0, 0])  # the last one planted
    data = SimpleNamespace(labels=LABELS, trained=trained, device_labels=torch.from_numpy(LABELS))
    data.with_planted = lambda labels: data
    transition = np.array([[0.9, 0.1], [0.3, 0.7]])
    before, now = (np.float32([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [q, 1 - q]]) for q in (0.3, 0.1))
    left = {"pseudo_labels_run1": now, "transition_run1": transition}
    experiment = SimpleNamespace(log=lambda text: None, record=SimpleNamespace(read_array=left.__getitem__))
    made = Posterior(False, {"relabel": Found(LABELS, "e", before, transition, trained)}, data)
    for number, posterior in ((1, before), (2, now)):
        expected = relabelled(posterior, transition, LABELS, trained)
        np.testing.assert_allclose(made.targets(number, experiment).current, expected, atol=1e-6)


@pytest.mark.parametrize("agree", [False, True])
def test_separations_agree_on_the_labels_that_were_trained_on(agree):
    """Of planted samples these are the planted ones: about them the separations had to decide, too."""
    trained = np.array([0, 1, 0, 0])  # the last one planted
    data = SimpleNamespace(labels=LABELS, trained=trained, device_labels=torch.from_numpy(LABELS))
    data.with_planted = lambda labels: data
    transition = np.full((2, 2), 0.5)  # labels say nothing, so that other ones change nothing
    posteriors = (np.float32([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [q, 1 - q]]) for q in (0.3, 0.5))
    found = [Found(LABELS, "e", posterior, transition, trained) for posterior in posteriors]
    made = Posterior(agree, dict(zip("ab", found, strict=True)), data)
    targets = made.targets(1, SimpleNamespace(log=lambda text: None)).current
    np.testing.assert_allclose(targets[:3], found[0].posterior[:3], atol=1e-6)
    np.testing.assert_allclose(targets[3], [0.3, 0.7] if agree else [0.4, 0.6], atol=1e-6)
