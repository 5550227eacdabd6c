"""Several files of COCO's format in one data set."""

import json
import re
import shutil
from pathlib import Path

from findings import LOADERS, change_file, leaves, reverse, say

TRAIN = LOADERS[:1]


def test_a_second_file_of_another_order_is_named(coco):
    one = coco.train_dataloader.dataset.dataset
    two = dict(coco.val_dataloader.dataset)
    coco.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[one, two]
    )
    assert say(coco, LOADERS[:1]) == ''
    change_file(coco.val_dataloader.dataset, reverse)
    assert re.fullmatch(
        'E train: .*val2017.*sort its.*', say(coco, LOADERS[:1])
    )


def test_a_file_for_each_class_is_named(coco):
    """Each image in two files, with the objects of some classes in each."""
    train, _ = leaves(coco)
    file = Path(train.data_root, train.ann_file)
    second = Path(shutil.copy(file, file.with_name('second.json')))
    other = dict(train, ann_file='annotations/second.json')
    both = [train, other]
    coco.train_dataloader.dataset = dict(type='ConcatDataset', datasets=both)
    assert say(coco, TRAIN) == ''  # the same twice, to weigh it more

    def keep(path, first):
        content = json.loads(path.read_text())
        content['annotations'] = [
            box
            for box in content['annotations']
            if (box['category_id'] < 3) == first
        ]
        path.write_text(json.dumps(content))
        return {box['image_id'] for box in content['annotations']}

    # images without an object are left out
    shared = keep(file, True) & keep(second, False)
    assert re.fullmatch(
        rf"E train: {len(shared)} images, as '.*train2017/0+\d+.jpg', are in "
        "'.*train2017.json' and in '.*second.json' with different objects.*",
        say(coco, TRAIN),
    )
    # images alone, as of semi-supervised training
    unlabelled = coco.train_dataloader.dataset.datasets[1]
    unlabelled.pipeline = [dict(type='LoadEmptyAnnotations')]
    assert say(coco, TRAIN) == ''
