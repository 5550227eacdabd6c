import json
import math
import pickle
import runpy
import sys
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmba2m.datasets import make_shapes

ROOT = Path(__file__).parents[2]
DETECTOR = str(ROOT / 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py')
CLASSIFIER = str(ROOT / 'configs/demo/ba2m-resnet18_shapes.py')
VOC_DETECTOR = str(ROOT / 'configs/bccd/faster-rcnn_ba2m-r18_fpn_1x_bccd.py')
CLASSES = ('circle', 'ring', 'square', 'star', 'triangle')
tool = runpy.run_path(str(ROOT / 'tools/analysis_tools/compare.py'))
pairing = {name: tool[name] for name in ('build_dataset', 'list_images')}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    return make_shapes(folder, num_train=1, num_val=6)


@pytest.fixture(autouse=True)
def _root(shapes, monkeypatch):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Runs the tool, and returns what it wrote as JSON."""

    def run(*args, out='out'):
        out = tmp_path / out
        args = ['compare.py', *map(str, args)]
        args[1:1] = ['--out-dir', str(out)]
        monkeypatch.setattr(sys, 'argv', args)
        tool['main']()
        return json.loads((out / 'compare.json').read_text())

    return run


def load_images(config, **options):
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options)
    return pairing['list_images'](pairing['build_dataset'](cfg))


def detect(image, keep=lambda box: True, score=0.9):
    """Makes perfect detections of the boxes that are to be kept."""
    boxes = [box for box in image['instances'] if keep(box)]
    return dict(
        img_id=image['img_id'],
        img_path=image['img_path'],
        ori_shape=(image['height'], image['width']),
        pred_instances=dict(
            bboxes=torch.tensor([b['bbox'] for b in boxes]).reshape(-1, 4),
            labels=torch.tensor([b['bbox_label'] for b in boxes]).long(),
            scores=torch.full((len(boxes),), score),
        ),
    )


def write(path, samples):
    mmengine.dump(samples, path)
    return path


def no_rings(box):
    return box['bbox_label'] != 1


def expected_f1(image):
    """Of detections that lack the rings, and have nothing false."""
    total = len(image['instances'])
    found = len([box for box in image['instances'] if no_rings(box)])
    return 2 * found / (found + total) if total else 1


def check_missing_rings(report, images):
    (worst, *_) = sorted(report['classes'], key=lambda one: one['difference'])
    assert worst['name'] == 'ring'
    assert (worst['first'], worst['second']) == (1, 0)
    count = sum(not no_rings(b) for i in images for b in i['instances'])
    assert worst['count'] == count > 0
    for one in report['classes']:
        if one['name'] != 'ring':
            assert one['first'] == one['second'] == pytest.approx(1)
    assert report['classes'][-1] == worst
    assert report['all']['first'] == pytest.approx(1)
    assert report['all']['second'] == pytest.approx(4 / 5)
    f1s = {image['img_id']: expected_f1(image) for image in images}
    assert {one['id']: one['second'] for one in report['images']} == f1s
    assert all(one['first'] == 1 for one in report['images'])
    differences = [one['difference'] for one in report['images']]
    assert differences == sorted(differences)
    assert differences[0] < 0


def test_average_precisions_of_coco(compare, tmp_path, capsys):
    images = load_images(DETECTOR)
    first = write(tmp_path / 'all.pkl', [detect(i) for i in images])
    # in another order, as several processes may write them
    lacking = [detect(i, no_rings) for i in reversed(images)]
    second = write(tmp_path / 'lacking.pkl', lacking)
    report = compare(DETECTOR, first, second)
    check_missing_rings(report, images)
    assert report['labels'] == ['all', 'lacking']
    table = (tmp_path / 'out/per_class.md').read_text()
    assert table in capsys.readouterr().out
    heads, _, *rows = table.splitlines()
    assert heads == (
        '| class | boxes | AP [0 to 1], all | AP [0 to 1], lacking '
        '| difference |'
    )
    assert rows[-2].endswith('| 1.000 | 0.000 | -1.000 |')
    assert rows[-1].endswith('| 1.000 | 0.800 | -0.200 |')
    for name in ('per_class', 'images'):
        png, pdf = (tmp_path / f'out/{name}.{s}' for s in ('png', 'pdf'))
        assert png.read_bytes().startswith(b'\x89PNG')
        assert pdf.read_bytes().startswith(b'%PDF')


def test_average_precisions_of_voc(compare, shapes, tmp_path):
    options = {
        'test_dataloader.dataset.data_root': str(shapes / 'VOCdevkit/VOC2007'),
        'test_dataloader.dataset.metainfo.classes': CLASSES,
        'model.roi_head.bbox_head.num_classes': 5,
    }
    images = load_images(VOC_DETECTOR, **options)
    first = write(tmp_path / 'all.pkl', [detect(i) for i in images])
    second = write(
        tmp_path / 'lacking.pkl', [detect(i, no_rings) for i in images]
    )
    options['test_dataloader.dataset.metainfo.classes'] = ','.join(CLASSES)
    options = [f'{key}={value}' for key, value in options.items()]
    report = compare(VOC_DETECTOR, first, second, '--cfg-options', *options)
    check_missing_rings(report, images)
    assert report['metric'] == 'AP50 (area)'


def test_what_counts_as_found_in_an_image():
    from mmba2m.utils.comparison.detection import DetectionTask

    def boxes(*boxes, ignore=0):
        return [
            dict(bbox=box, bbox_label=label, ignore_flag=ignore)
            for label, *box in boxes
        ]

    image = dict(id=7, img_id=7, img_path='7.jpg', height=100, width=100)
    image['instances'] = boxes((0, 0, 0, 10, 10), (1, 20, 0, 30, 10))
    image['instances'] += boxes((0, 50, 50, 90, 90), ignore=1)
    task = DetectionTask(
        _Meta(('a', 'b')), [image], [dict(type='mmdet.CocoMetric')], 0.3
    )
    found = [
        (0, 0.9, 0, 0, 10, 6),  # IoU 0.6: right
        (0, 0.8, 0, 0, 10, 10),  # the box is taken: false
        (1, 0.7, 20, 0, 30, 4),  # IoU 0.4: false
        (0, 0.6, 50, 50, 90, 90),  # of an ignored box: does not count
        (1, 0.2, 20, 0, 30, 10),  # of too low a score
    ]
    sample = dict(
        pred_instances=dict(
            labels=torch.tensor([one[0] for one in found]),
            scores=torch.tensor([one[1] for one in found]),
            bboxes=torch.tensor([one[2:] for one in found]).float(),
        )
    )
    # one right, two false, one missed
    assert task.measure_images([sample]) == [2 * 1 / (2 * 1 + 2 + 1)]
    task.score_thr = 0.1
    # the IoU decides, not which score is higher: two right, two false
    assert task.measure_images([sample]) == [2 * 2 / (2 * 2 + 2)]
    task.score_thr = 0.95
    assert task.measure_images([sample]) == [0]
    assert task.counts.tolist() == [1, 1]


class _Meta:
    def __init__(self, classes):
        self.metainfo = dict(classes=classes)


def classify(image, label, score):
    scores = torch.full((5,), (1 - score) / 4)
    scores[label] = score
    return dict(
        sample_idx=image['index'],
        img_path=image['img_path'],
        pred_score=scores,
        pred_label=scores.argmax()[None],
    )


def test_accuracies_and_scores(compare, tmp_path):
    images = load_images(CLASSIFIER)
    true = [image['gt_label'] for image in images]
    right = [classify(i, i['gt_label'], 0.8) for i in images]
    wrong = list(right)
    wrong[2] = classify(images[2], (true[2] + 1) % 5, 0.6)
    wrong[0] = classify(images[0], true[0], 0.5)
    first = write(tmp_path / 'a.pkl', wrong)
    second = write(tmp_path / 'b.pkl', right)
    report = compare(CLASSIFIER, first, second, '--labels', 'plain', 'BA²M')
    assert report['labels'] == ['plain', 'BA²M']
    (best, *others) = report['classes']
    assert best['name'] == CLASSES[true[2]]
    assert best['count'] == true.count(true[2])
    assert best['first'] == pytest.approx(100 * (1 - 1 / best['count']))
    assert {best['second']} | {o['first'] for o in others} <= {100, None}
    all_images = len(images)
    assert report['all']['first'] == pytest.approx(100 * (1 - 1 / all_images))
    worst, second_worst, *others = report['images']
    assert (worst['index'], second_worst['index']) == (2, 0)
    assert worst['difference'] == pytest.approx(0.8 - 0.1)
    assert second_worst['difference'] == pytest.approx(0.8 - 0.5)
    assert all(one['difference'] == 0 for one in others)
    assert (tmp_path / 'out/images.png').exists()


def test_equal_runs_have_no_pictures_of_images(compare, tmp_path):
    images = load_images(CLASSIFIER)
    file = write(
        tmp_path / 'a.pkl',
        [classify(image, image['gt_label'], 0.8) for image in images],
    )
    compare(CLASSIFIER, file, file)
    assert (tmp_path / 'out/per_class.pdf').exists()
    assert not (tmp_path / 'out/images.png').exists()


def test_networks_predict_what_their_checkpoints_say(compare, tmp_path):
    """Of a network, and of one with another last layer."""
    cfg = Config.fromfile(CLASSIFIER)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    states = []
    for bias in (0, 1):
        state = dict(model.state_dict())
        state['head.fc.weight'] = torch.zeros(5, 128)
        state['head.fc.bias'] = torch.eye(5)[bias]
        states.append(tmp_path / f'network_{bias}.pth')
        torch.save(dict(state_dict=state), states[-1])
    config = tmp_path / 'second.py'
    cfg.dump(config)
    workers = ['test_dataloader.num_workers=0']
    workers += ['test_dataloader.persistent_workers=False']
    options = ['--second-config', config, '--cfg-options', *workers]
    report = compare(CLASSIFIER, *states, *options)
    values = {one['name']: one for one in report['classes']}
    assert values['circle']['first'] == values['ring']['second'] == 100
    assert values['circle']['second'] == values['ring']['first'] == 0
    with open(tmp_path / 'out/first.pkl', 'rb') as stream:
        samples = pickle.load(stream)
    expected = math.e / (math.e + 4)
    assert samples[0]['pred_score'][0] == pytest.approx(expected, rel=1e-5)
    # the predictions may be given instead of the networks
    files = [tmp_path / f'out/{name}.pkl' for name in ('first', 'second')]
    again = compare(CLASSIFIER, *files, out='again')
    assert again['classes'] == report['classes']
    assert again['images'] == report['images']


def test_predictions_of_something_else_are_refused(compare, tmp_path):
    images = load_images(DETECTOR)
    good = [detect(image) for image in images]
    renamed = [dict(one, img_path='other/x.jpg') for one in good]
    nameless = [dict(one) for one in good]
    del nameless[1]['img_id']
    other_ids = [dict(one, img_id=f'no {one["img_id"]}') for one in good]
    labels = [dict(one) for one in good]
    wrong = good[0]['pred_instances']
    labels[0] = dict(
        good[0], pred_instances=dict(wrong, labels=wrong['labels'] + 40)
    )
    empty = [detect(image, lambda box: False) for image in images]
    scores = [classify(i, 0, 0.5) for i in load_images(CLASSIFIER)]
    file = write(tmp_path / 'good.pkl', good)
    for samples, message in (
        (good[1:], f'5 instead of 6 images, without {good[0]["img_id"]}'),
        (other_ids, 'is not of the images of the test set'),
        ([*good, good[0]], 'two predictions have the same img_id'),
        (renamed, 'is x.jpg, that of the test set is'),
        (nameless, 'a prediction has no img_id'),
        (labels, 'but the test set has 5 classes'),
        (empty, 'has no detection in any image'),
        (scores, 'is not of a detector'),
        ([], 'holds no predictions'),
        (dict(a=1), 'holds no predictions'),
    ):
        bad = write(tmp_path / 'bad.pkl', samples)
        with pytest.raises(ValueError, match=r'bad\.pkl') as caught:
            compare(DETECTOR, file, bad)
        assert message in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r'none\.pkl'):
        compare(DETECTOR, file, tmp_path / 'none.pkl')


def test_test_sets_that_differ_are_refused(compare, tmp_path, shapes):
    images = load_images(DETECTOR)
    file = write(tmp_path / 'a.pkl', [detect(image) for image in images])
    other = tmp_path / 'other.py'
    for options, message in (
        ({'test_dataloader.dataset.indices': 4}, '4 instead of 6 images'),
        (
            {
                'test_dataloader.dataset.metainfo.classes': CLASSES[:2],
                'model.roi_head.bbox_head.num_classes': 2,
            },
            'different classes',
        ),
    ):
        cfg = Config.fromfile(DETECTOR)
        cfg.merge_from_dict(options)
        cfg.dump(other)
        with pytest.raises(ValueError, match=message):
            compare(DETECTOR, file, file, '--second-config', other)
    with pytest.raises(ValueError, match='one config is of a detector'):
        compare(DETECTOR, file, file, '--second-config', CLASSIFIER)

    annotations = shapes / 'coco/annotations/instances_val2017.json'
    content = json.loads(annotations.read_text())
    content['annotations'] = []
    bare = tmp_path / 'bare.json'
    bare.write_text(json.dumps(content))
    options = [f'test_dataloader.dataset.ann_file={bare}']
    options += [f'test_evaluator.ann_file={bare}']
    with pytest.raises(ValueError, match='no ground truth'):
        compare(DETECTOR, file, file, '--cfg-options', *options)
    with pytest.raises(
        ValueError, match=r"test_evaluator .* \['OpenImagesMetric'"
    ):
        compare(
            DETECTOR,
            file,
            file,
            '--cfg-options',
            'test_evaluator.type=OpenImagesMetric',
        )
