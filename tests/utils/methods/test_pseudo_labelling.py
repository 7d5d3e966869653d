"""How each run of ssl.py trains."""

from utils.methods.pseudo_labelling import RunSettings


def test_weights_are_averaged_from_an_epoch_on_every_so_often():
    settings = RunSettings(10, 0, 0.8, 0.0, swa_start=4, swa_freq=3)
    assert [epoch for epoch in range(10) if settings.averages(epoch)] == [4, 7]
