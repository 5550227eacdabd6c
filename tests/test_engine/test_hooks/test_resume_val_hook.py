from toy_training import ITER_BASED, Scores, train


def stop_early(work_dir, stop, scores):
    hook = dict(type='EarlyStoppingHook', monitor='score', patience=2)
    hook['rule'] = 'greater'
    evaluator = [Scores(dict(score=score) for score in scores)]
    epochs = dict(by_epoch=True, max_epochs=9)
    settings = dict(val_evaluator=evaluator, train_cfg=epochs)
    return train(work_dir, stop, default_hooks=dict(end=hook), **settings)


def test_early_stopping_ends_a_killed_run_where_it_ends_the_whole(tmp_path):
    whole = stop_early(tmp_path / 'whole', None, [5, *[4] * 9])
    assert whole.epoch == 3
    # in the third epoch, before the checkpoint of which the second is the last
    stop_early(tmp_path / 'parts', 14, [5, 4])
    assert stop_early(tmp_path / 'parts', None, [4] * 9).epoch == 3
    # and stays at its end
    assert stop_early(tmp_path / 'parts', None, [4] * 9).epoch == 3


def test_validation_after_the_checkpoint_is_made_up_for(tmp_path):
    notes = []
    metrics = (notes.append(i) or dict(score=i) for i in range(9))
    evaluator = [Scores(metrics)]
    # every fourth iteration: the run stops after the checkpoint of the eighth
    train(tmp_path, 8, val_evaluator=evaluator, **ITER_BASED)
    assert len(notes) == 1
    train(tmp_path, 9, val_evaluator=evaluator, **ITER_BASED)
    assert len(notes) == 2
