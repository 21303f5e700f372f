"""The search behind `edgevit tune`: which Policy is fastest at which loss of accuracy. It knows nothing of ONNX.

workbench: what is asked of policies · space: which policies there are · study: the trials, kept in a database ·
claims: no policy twice · predictor, halving: hopeless trials end early · worker: the loop · front: the choice.
"""
