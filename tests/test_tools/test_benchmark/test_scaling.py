import pytest

from mmba2m.checkpoints.benchmark import scaling


def test_sizes_are_in_steps_of_root_two():
    sizes = scaling.list_sizes(224, 1344)
    assert sizes == [224, 317, 448, 634, 896, 1267, 1344]
    assert scaling.list_sizes(32, 64) == [32, 45, 64]
    with pytest.raises(ValueError, match='got 64 to 64'):
        scaling.list_sizes(64, 64)


def test_exponents_of_known_growth():
    pixels = [1e4, 2e4, 4e4, 8e4]
    costs = [3 * p**1.5 for p in pixels]
    assert scaling.fit_exponent(pixels, costs) == pytest.approx(1.5)
    # one exponent a round, whatever the machine's speed in it
    exponents = [1.1, 1.0, 1.2]
    seconds = [
        [speed * p**b for speed, b in zip((1, 5, 2), exponents, strict=True)]
        for p in pixels
    ]
    fitted = scaling.fit_rounds(pixels, seconds)
    assert fitted == pytest.approx((1.1, 1.0, 1.2))
