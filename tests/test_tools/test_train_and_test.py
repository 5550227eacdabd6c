"""The tools as a user calls them."""

import json
import pickle
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tool_runs import run_tool

from mmba2m import HOSTS
from mmba2m.checkpoints import files
from mmba2m.models.backbones.ba2m_stages import BA2MStagesMixin

ROOT = Path(__file__).parents[2]
DETECTOR = 'configs/demo/faster-rcnn_ba2m-r18_fpn_shapes.py'
# what a network that has hardly been trained does find
LOW = 'model.test_cfg.rcnn.score_thr=0.001'

TASKS = [
    pytest.param('detector_run', id='detector', marks=pytest.mark.slow),
    pytest.param('classifier_run', id='classifier'),
]


@pytest.fixture
def env(shapes):
    return dict(SHAPES_ROOT=str(shapes))


def run_test(run, epoch, work_dir, *args, **kwargs):
    config = next(run.glob('*.py'))
    checkpoint = run / f'epoch_{epoch}.pth'
    return run_tool(
        *('test.py', config, checkpoint, '--work-dir', work_dir, *args),
        **kwargs,
    )


def metrics_of(work_dir):
    return json.loads(next(work_dir.glob('*/*.json')).read_text())


@pytest.fixture
def count(monkeypatch):
    """Counts which files are read, and how many backbones are built."""
    counted = dict(read=[], built=0)
    safe_load, init = files.safe_load, BA2MStagesMixin.__init__

    def read(path, map_location):
        counted['read'].append(Path(path).name)
        return safe_load(path, map_location)

    def build(self, *args, **kwargs):
        counted['built'] += 1
        init(self, *args, **kwargs)

    monkeypatch.setattr(files, 'safe_load', read)
    monkeypatch.setattr(BA2MStagesMixin, '__init__', build)
    return counted


@pytest.mark.parametrize('run', TASKS)
def test_resumed_training_ends_as_the_whole_one(
    request, run, env, tmp_path, assert_same_checkpoints
):
    run = request.getfixturevalue(run)
    count = request.getfixturevalue('count')  # from here on
    shutil.copy(run / 'epoch_2.pth', tmp_path)
    config = next(run.glob('*.py'))
    run_tool(
        *('train.py', config, '--work-dir', tmp_path, '--resume'),
        *('--auto-scale-lr',),
        env=env,
    )
    assert count == dict(read=['epoch_2.pth'], built=1)
    assert_same_checkpoints(run / 'epoch_3.pth', tmp_path / 'epoch_3.pth')


@pytest.mark.slow
def test_train_scales_the_rate_and_logs_finite_losses(detector_run):
    path = next(detector_run.glob('*/vis_data/scalars.json'))
    lines = map(json.loads, path.read_text().splitlines())
    lines = [line for line in lines if 'loss' in line]
    assert len(lines) == 3 * 16 // 2
    assert all(torch.tensor(line['loss']).isfinite() for line in lines)
    # 7e-4 for a batch of 4, warmed up from a tenth, at a batch of 2
    assert lines[0]['lr'] == pytest.approx(7e-4 * 0.1 / 2, rel=1e-3)


@pytest.mark.slow
def test_a_detector_is_tested_drawn_and_its_results_dumped(
    detector_run, env, tmp_path, count
):
    run_test(
        *(detector_run, 2, tmp_path, '--out', tmp_path / 'out.pkl'),
        *('--show-dir', 'drawn', '--cfg-options', LOW),
        env=env,
    )
    assert count == dict(read=['epoch_2.pth'], built=1)
    assert 0 <= metrics_of(tmp_path)['coco/bbox_mAP_50'] <= 1
    with open(tmp_path / 'out.pkl', 'rb') as stream:
        assert len(pickle.load(stream)) == 4
    assert len(list(tmp_path.glob('*/drawn/*.jpg'))) == 4


@pytest.mark.slow
def test_results_for_a_server_need_no_annotations(
    detector_run, env, shapes, tmp_path
):
    ann_file = next(shapes.glob('coco/annotations/*val*.json'))
    content = json.loads(ann_file.read_text())
    del content['annotations']
    ann_file = tmp_path / 'image_info.json'
    ann_file.write_text(json.dumps(content))
    run_test(
        *(detector_run, 2, tmp_path, '--cfg-options'),
        f'test_dataloader.dataset.ann_file={ann_file}',
        f'test_evaluator.ann_file={ann_file}',
        'test_evaluator.format_only=True',
        f'test_evaluator.outfile_prefix={tmp_path / "results"}',
        LOW,
        env=env,
    )
    boxes = json.loads((tmp_path / 'results.bbox.json').read_text())
    images = {image['id'] for image in content['images']}
    assert {box['image_id'] for box in boxes} <= images
    assert boxes


def test_a_classifier_is_tested_drawn_and_its_results_dumped(
    classifier_run, env, tmp_path, count
):
    out, drawn = tmp_path / 'out.pkl', tmp_path / 'drawn'
    run_test(
        *(classifier_run, 2, tmp_path, '--out', out, '--show-dir', drawn),
        env=env,
    )
    assert count == dict(read=['epoch_2.pth'], built=1)
    with open(out, 'rb') as stream:
        samples = pickle.load(stream)
    right = sum(
        sample['gt_label'].item() == sample['pred_score'].argmax().item()
        for sample in samples
    )
    top1 = metrics_of(tmp_path)['accuracy/top1']
    assert top1 == pytest.approx(100 * right / len(samples))
    assert list(drawn.iterdir())


@pytest.mark.skipif('mmdet' not in HOSTS, reason='no mmdet')
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


@pytest.mark.parametrize('run', TASKS)
def test_test_time_augmentation_runs(request, run, env, tmp_path):
    run = request.getfixturevalue(run)
    low = ['--cfg-options', LOW] if 'mmdet' in str(run) else []
    run_test(run, 2, tmp_path, '--tta', *low, env=env)
    metrics = metrics_of(tmp_path)
    for name in ('coco/bbox_mAP_50', 'accuracy/top1'):
        assert 0 <= metrics.get(name, 0) <= 100


@pytest.mark.slow
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
    detector_run, env, tmp_path, option, messages
):
    output = run_test(
        *(detector_run, 2, tmp_path, '--cfg-options', option),
        env=env,
        fails=True,
    )
    for message in messages:
        assert message in output


@pytest.mark.skipif('mmdet' not in HOSTS, reason='no mmdet')
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
def test_bad_config_ends_before_training(env, tmp_path, option, message):
    output = run_tool(
        *('train.py', DETECTOR, '--work-dir', tmp_path),
        *('--cfg-options', option),
        env=env,
        fails=True,
    )
    assert message in output.splitlines()[-1]
    assert not list(tmp_path.glob('*.pth'))
