"""The search behind `edgevit tune`: which Policy is fastest at which loss of accuracy. It knows nothing of ONNX.

examiner: what is asked of policies · space: which policies there are · variants: of which models · study: the trials,
kept in a database · claims: no policy twice · seeds, sampler: what is tried next · predictor, halving: hopeless trials
end early · worker: the loop · front, choice: what is taken.
"""
