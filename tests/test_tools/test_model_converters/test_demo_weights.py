"""The weights of demo/: what they find on an image that lies beside them."""

import hashlib
from pathlib import Path

import pytest
import yaml
from predict import predict, predict_alone

pytest.importorskip('mmdet')

ROOT = Path(__file__).parents[3]
IMAGE = str(ROOT / 'demo/cells/BloodImage_00068.jpg')
#: of each class the surest: label, score, box
FOUND = dict(
    cells=[
        (0, 0.9969, [379.5, 143.6, 487.0, 241.6]),
        (1, 0.9766, [0.0, 225.2, 100.7, 351.3]),
        (2, 0.9894, [356.4, 115.0, 398.5, 157.1]),
    ],
    cells_plain=[
        (0, 0.9930, [381.4, 143.9, 488.5, 241.6]),
        (1, 0.9650, [0.0, 225.1, 99.3, 350.4]),
        (2, 0.9896, [356.1, 114.7, 398.2, 157.2]),
    ],
)


def check(found, name):
    ((labels, scores, boxes),) = found
    assert len(FOUND[name]) == 3
    for label, score, box in FOUND[name]:
        first = labels.index(label)
        assert scores[first] == pytest.approx(score, abs=2e-3)
        assert boxes[first] == pytest.approx(box, abs=0.5)


def test_the_detector():
    path = str(ROOT / 'demo/cells.pth')
    backbone, found = predict('mmdet', '', path, IMAGE)
    assert backbone == 'BA2MResNet'
    check(found, 'cells')


@pytest.mark.slow
def test_the_stripped_one_in_the_host_alone():
    path = str(ROOT / 'demo/cells_plain.pth')
    backbone, found = predict_alone('mmdet', '', path, IMAGE)
    assert backbone == 'ResNet'
    check(found, 'cells_plain')


def test_they_are_small_and_the_card_names_them():
    card = (ROOT / 'demo/README.md').read_text('utf-8')
    files = [ROOT / f'demo/{name}.pth' for name in FOUND]
    for file in files:
        content = file.read_bytes()
        assert len(content) < 2.5e6
        assert hashlib.sha256(content).hexdigest()[:8] in card
        assert b'/work' not in content and b'/home' not in content
    assert b'mmba2m' not in files[1].read_bytes()
    index = yaml.safe_load((ROOT / 'configs/bccd/metafile.yml').read_text())
    weights = [model.get('Weights') for model in index['Models']]
    assert 'demo/cells.pth' in weights
