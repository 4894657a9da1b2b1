"""The training recipes for the models of tables 2, 7 and 8.

Sizes, rates and dropout were chosen with LSTMs of seed 0 on a split like add_jump that is made only of its training
pairs (`development.py`). For `GROUP_TRAINING` they were not searched.
"""

from equilm.scan import Recipe

# The paper: 200,000 iterations of one sentence at learning rate 1e-4, dropout 0.1.
PRETRAINING = Recipe(sentences=600_000, batch_size=32, learning_rate=1e-3)
PRETRAINING_DROPOUT = 0.3
GROUP_TRAINING = Recipe(sentences=200_000, batch_size=64, learning_rate=1e-3)
# The paper: 10,000 iterations of one sentence at 2e-5 or 5e-5.
EQUI_TUNING = Recipe(sentences=10_000, batch_size=2, learning_rate=2.5e-4, evaluations=5)
