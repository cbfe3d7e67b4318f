"""Learn heads from pictures and their labels, and measure their hits. No Django: arrays come in and go out.

Entry functions: ``train.train_head`` learns and measures a head; ``finetune.finetune`` trains a whole backbone;
``metrics.evaluate`` measures rankings; ``calibration.calibrate`` learns confidence.

Vocabulary: a *label* names a class for each picture; *held-out* pictures are measured with and never learned from; a
*scene* is a group of near-duplicates; the *target* label says which pictures should find each other; *strangers* are
pictures of things that the shop doesn't sell. May import ``extractors`` and ``images``. Learning needs scikit-learn;
applying what was learned doesn't.
"""
