"""Predictions of two runs for the same images."""

from pathlib import Path

import mmengine
from mmengine.config import ConfigDict

from mmba2m.utils.checkpoint_checks import check_checkpoint
from mmba2m.utils.distributed import build_runner

#: what writes the predictions to a file
DUMPS = dict(mmdet='DumpDetResults', mmpretrain='DumpResults')


def predict(cfg, checkpoint, out):
    """Runs a network on the test set of its config.

    Args:
        cfg (Config): Of a detector or classifier; changed here.
        checkpoint (str): Its checkpoint.
        out (str | Path): Pickle to write, as ``tools/test.py --out`` does.
    """
    cfg.load_from = checkpoint
    dump = DUMPS[cfg.default_scope]
    cfg.test_evaluator = [ConfigDict(type=dump, out_file_path=str(out))]
    runner = build_runner(cfg)
    check_checkpoint(runner.model, checkpoint, strict=True)
    runner.test()


def load_predictions(path):
    """Loads what ``tools/test.py --out`` wrote.

    Args:
        path (str | Path): A pickle, which runs code: only of a known source.

    Returns:
        list[dict]: Data samples.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f'there is no file {path}')
    samples = mmengine.load(path)
    if not (samples and isinstance(samples, list)) or not all(
        isinstance(s, dict) and {'pred_instances', 'pred_score'} & {*s}
        for s in samples
    ):
        raise ValueError(
            f'{path} holds no predictions of a detector or classifier, as '
            'tools/test.py --out writes them'
        )
    return samples


def list_images(dataset):
    """Lists the images of a data set.

    Args:
        dataset (BaseDataset): Of a host.

    Returns:
        list[dict]: What the data set knows of each, and its ``id``: that of
        a detection data set, or else its index.
    """
    images = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [
        dict(image, id=image.get('img_id', index), index=index)
        for index, image in enumerate(images)
    ]


def check_same_data(first, second):
    """Refuses two test sets that differ.

    Args:
        first (tuple[BaseDataset, list[dict]]): A data set and its images.
        second (tuple[BaseDataset, list[dict]]): The other run's.

    Raises:
        ValueError: If classes or images are not the same.
    """
    classes = [
        dataset.metainfo.get('classes') for dataset, _ in (first, second)
    ]
    if list(classes[0] or ()) != list(classes[1] or ()):
        raise ValueError(
            'the two configs have different classes: '
            f'{classes[0]} and {classes[1]}'
        )
    ids = [[image['id'] for image in images] for _, images in (first, second)]
    _check_ids('the test set of the second config', ids[1], ids[0])


def pair(images, samples, source):
    """Puts predictions into the order of the images.

    Args:
        images (list[dict]): From :func:`list_images`.
        samples (list[dict]): Predictions, in any order.
        source (str): Where they are from, for errors.

    Returns:
        list[dict]: A prediction for each image.

    Raises:
        ValueError: If they are of other images: more or fewer, with other
            ids, or other file names.
    """
    key = 'img_id' if 'pred_instances' in samples[0] else 'sample_idx'
    by_id = {sample.get(key): sample for sample in samples}
    if None in by_id:
        raise ValueError(
            f'{source}: a prediction has no {key}, which meta_keys of the '
            'test pipeline should have'
        )
    if len(by_id) < len(samples):
        raise ValueError(f'{source}: two predictions have the same {key}')
    _check_ids(source, by_id, [image['id'] for image in images])
    paired = [by_id[image['id']] for image in images]
    for image, sample in zip(images, paired, strict=True):
        names = [
            Path(one.get('img_path') or '').name for one in (image, sample)
        ]
        if all(names) and names[0] != names[1]:
            raise ValueError(
                f'{source}: its image {image["id"]} is {names[1]}, that of '
                f'the test set is {names[0]}'
            )
    return paired


def _check_ids(source, found, expected):
    found, expected = dict.fromkeys(found), dict.fromkeys(expected)
    missing = [one for one in expected if one not in found]
    extra = [one for one in found if one not in expected]
    if missing or extra:
        raise ValueError(
            f'{source} is not of the images of the test set: '
            f'{len(found)} instead of {len(expected)} images'
            + (f', without {missing[0]}' if missing else '')
            + (f', with {extra[0]}' if extra else '')
        )
