from toy_training import ITER_BASED, Draw, train


class Count(Draw):
    """Notes the iteration of each validation."""

    def __init__(self, notes):
        super().__init__()
        self.notes = notes

    def compute_metrics(self, results):
        self.notes.append(1)
        return dict(score=len(self.notes))


def test_validation_after_the_checkpoint_is_made_up_for(tmp_path):
    settings = dict(ITER_BASED)
    notes = []
    settings['val_evaluator'] = dict(type=Count, notes=notes)
    # every fourth iteration: the run stops after the checkpoint of the eighth
    train(tmp_path, 8, **settings)
    assert len(notes) == 1
    train(tmp_path, 9, **settings)
    assert len(notes) == 2
