"""The tools as a user calls them, each in its own process."""

import json
import pickle
import runpy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tool_runs import run_tool

from mmba2m.datasets import make_shapes

ROOT = Path(__file__).parents[2]
DETECTOR = 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'
CLASSIFIER = 'configs/demo/ba2m-resnet18_shapes.py'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    shapes = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(shapes, num_train=16, num_val=4)
    return partial(run_tool, env={'SHAPES_ROOT': str(shapes)})


@pytest.fixture(scope='module')
def detector(run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('detector')
    run(
        'train.py',
        DETECTOR,
        '--work-dir',
        work_dir,
        '--auto-scale-lr',
        '--cfg-options',
        'train_cfg.max_epochs=2',
        'train_dataloader.batch_size=2',
        'default_hooks.logger.interval=1',
    )
    return work_dir


def scalars(work_dir):
    lines = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        lines += map(json.loads, file.read_text().splitlines())
    return lines


def test_train_scales_the_rate_and_logs_finite_losses(detector):
    lines = [line for line in scalars(detector) if 'loss' in line]
    assert len(lines) == 2 * 16 // 2
    assert all(torch.tensor(line['loss']).isfinite() for line in lines)
    # 7e-4 for a batch of 4, warmed up from a tenth, at a batch of 2
    assert lines[0]['lr'] == pytest.approx(7e-4 * 0.1 / 2, rel=1e-3)


def test_resume_goes_on_from_the_last_epoch(run, detector):
    run(
        'train.py',
        DETECTOR,
        '--work-dir',
        detector,
        '--resume',
        '--cfg-options',
        'train_cfg.max_epochs=3',
        'train_dataloader.batch_size=2',
        'default_hooks.logger.interval=1',
    )
    steps = [line['step'] for line in scalars(detector) if 'loss' in line]
    assert steps == list(range(1, 3 * 8 + 1))
    assert (detector / 'epoch_3.pth').exists()


def test_results_for_a_server_need_no_annotations(run, detector, tmp_path):
    cfg = Config.fromfile(detector / Path(DETECTOR).name)
    dataset = cfg.test_dataloader.dataset
    content = json.loads(Path(dataset.data_root, dataset.ann_file).read_text())
    del content['annotations']
    ann_file = tmp_path / 'image_info.json'
    ann_file.write_text(json.dumps(content))
    run(
        'test.py',
        DETECTOR,
        detector / 'epoch_2.pth',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        f'test_dataloader.dataset.ann_file={ann_file}',
        f'test_evaluator.ann_file={ann_file}',
        'test_evaluator.format_only=True',
        f'test_evaluator.outfile_prefix={tmp_path / "results"}',
        'model.test_cfg.rcnn.score_thr=0.001',
    )
    boxes = json.loads((tmp_path / 'results.bbox.json').read_text())
    assert {box['image_id'] for box in boxes} <= {
        image['id'] for image in content['images']
    }
    assert boxes


def test_test_dumps_and_draws(run, detector, tmp_path):
    run(
        'test.py',
        DETECTOR,
        detector / 'epoch_2.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'out.pkl',
        '--show-dir',
        'drawn',
        '--cfg-options',
        'model.test_cfg.rcnn.score_thr=0.001',
    )
    metrics = json.loads(next(tmp_path.glob('*/*.json')).read_text())
    assert 0 <= metrics['coco/bbox_mAP_50'] <= 1
    with open(tmp_path / 'out.pkl', 'rb') as stream:
        assert len(pickle.load(stream)) == 4
    drawn = list(tmp_path.glob('*/drawn/*.jpg'))
    assert len(drawn) == 4
    run('analysis_tools/curves.py', detector, '--out', tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 9999


def test_test_time_augmentation_keeps_the_image_as_it_is_first():
    tool = runpy.run_path(str(ROOT / 'tools/test.py'))
    cfg = Config.fromfile(ROOT / DETECTOR)
    pipeline = list(cfg.test_dataloader.dataset.pipeline)
    cfg = tool['apply_tta'](cfg, tool['HOSTS']['mmdet']['tta_model'])
    assert cfg.model.type == 'DetTTAModel'
    assert cfg.model.module.type == 'FasterRCNN'
    *head, augment = cfg.test_dataloader.dataset.pipeline
    assert head == pipeline[:-1]
    flips, (pack,) = augment.transforms
    assert [flip.prob for flip in flips] == [0, 1]
    added = ('flip', 'flip_direction')
    assert pack.meta_keys == (*pipeline[-1].meta_keys, *added)


def test_test_time_augmentation_runs(run, detector, tmp_path):
    run(
        'test.py',
        DETECTOR,
        detector / 'epoch_2.pth',
        '--work-dir',
        tmp_path,
        '--tta',
        '--cfg-options',
        'model.test_cfg.rcnn.score_thr=0.001',
    )
    metrics = json.loads(next(tmp_path.glob('*/*.json')).read_text())
    assert 0 <= metrics['coco/bbox_mAP_50'] <= 1


@pytest.mark.parametrize(
    'option, messages',
    [
        (
            'model.test_cfg.rcnn.score_thr=1.0',
            ['found nothing in any test image'],
        ),
        (
            'model.backbone.depth=34',
            [
                'is a checkpoint of another network',
                'backbone.layer1.2.conv1.weight',
            ],
        ),
    ],
)
def test_an_evaluation_that_means_nothing_fails(
    run, detector, tmp_path, option, messages
):
    output = run(
        'test.py',
        DETECTOR,
        detector / 'epoch_2.pth',
        '--work-dir',
        tmp_path,
        '--cfg-options',
        option,
        fails=True,
    )
    for message in messages:
        assert message in output


@pytest.mark.parametrize(
    'option, message',
    [
        ('train_dataloader.dataset.data_root=nowhere', "'nowhere'"),
        ('model.backbone.ba2m_stages=[1,1,1,1,1]', 'the network has 4 stages'),
        (
            'model.backbone.ba2m_cfg.reduction=64',
            'layer1: BA2M needs 0 < reduction <= in_channels, got '
            'reduction=64 and in_channels=32',
        ),
    ],
)
def test_bad_config_ends_before_training(run, tmp_path, option, message):
    output = run(
        'train.py',
        DETECTOR,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        option,
        fails=True,
    )
    assert message in output.splitlines()[-1]
    assert not list(tmp_path.glob('*.pth'))


def test_classifier_trains_and_tests(run, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    run('train.py', CLASSIFIER, '--work-dir', tmp_path, *options)

    def test(name, *args):
        work_dir = tmp_path / name
        checkpoint = tmp_path / 'epoch_1.pth'
        run('test.py', CLASSIFIER, checkpoint, '--work-dir', work_dir, *args)
        return json.loads(next(work_dir.glob('*/*.json')).read_text())

    out, drawn = tmp_path / 'out.pkl', tmp_path / 'drawn'
    plain = test('plain', '--out', out, '--show-dir', drawn)
    with open(out, 'rb') as stream:
        samples = pickle.load(stream)
    right = sum(
        sample['gt_label'].item() == sample['pred_score'].argmax().item()
        for sample in samples
    )
    assert plain['accuracy/top1'] == pytest.approx(100 * right / len(samples))
    assert list(drawn.iterdir())
    flipped = test('flipped', '--tta')
    assert 0 <= flipped['accuracy/top1'] <= 100
