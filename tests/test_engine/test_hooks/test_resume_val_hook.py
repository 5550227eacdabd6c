from toy_training import ITER_BASED, Scores, train


def test_validation_after_the_checkpoint_is_made_up_for(tmp_path):
    notes = []
    metrics = (notes.append(i) or dict(score=i) for i in range(9))
    evaluator = [Scores(metrics)]
    # every fourth iteration: the run stops after the checkpoint of the eighth
    train(tmp_path, 8, val_evaluator=evaluator, **ITER_BASED)
    assert len(notes) == 1
    train(tmp_path, 9, val_evaluator=evaluator, **ITER_BASED)
    assert len(notes) == 2
